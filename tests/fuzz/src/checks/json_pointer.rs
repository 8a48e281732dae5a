//! JSON bodies: the scanner takes for JSON what serde_json takes for it, and finds the value that serde_json finds. A line
//! with the pointer, then the body.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use turnwise::request::json_pointer::{scalar, set_member};

/// What serde_json finds, level by level. Without an opinion where it has no text for a name (half a surrogate pair).
enum Opinion<'t> {
    Value(&'t str),
    Nothing,
    None,
}

fn find<'t>(mut raw: &'t str, pointer: &[String]) -> Opinion<'t> {
    for token in pointer {
        raw = raw.trim();
        let below = match raw.as_bytes().first() {
            Some(b'{') => {
                // Of equal names the last counts, as for the scanner.
                let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(raw) else {
                    return Opinion::None;
                };
                members.get(token).copied()
            }
            Some(b'[') => {
                let canonical = token == "0" || (!token.starts_with('0') && token.bytes().all(|c| c.is_ascii_digit()));
                let index = token.parse::<usize>().ok().filter(|_| canonical);
                let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(raw) else { return Opinion::None };
                index.and_then(|index| elements.get(index).copied())
            }
            _ => None,
        };
        match below {
            Some(below) => raw = below.get(),
            None => return Opinion::Nothing,
        }
    }
    Opinion::Value(raw.trim())
}

fn expected(value: &str) -> Option<Cow<'_, str>> {
    match value.as_bytes().first()? {
        b'"' => serde_json::from_str::<String>(value).ok().map(Cow::Owned),
        b'{' | b'[' | b'n' => None,
        _ => Some(Cow::Borrowed(value)),
    }
}

/// As the module says.
pub fn check(input: &[u8]) {
    let end = input.iter().position(|octet| *octet == b'\n').unwrap_or(input.len());
    let (line, body) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    let line = String::from_utf8_lossy(line);
    let pointer: Vec<String> =
        line.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect();

    let found = scalar(body, &pointer);
    let set = set_member(body, &pointer, "n\"w");
    let text = std::str::from_utf8(body).ok().map(|text| text.strip_prefix('\u{feff}').unwrap_or(text));
    // What Python takes for JSON besides: other encodings, and numbers that are none.
    let is_pythons = text.is_none_or(|text| text.contains('\0') || text.contains("NaN") || text.contains("Infinity"));
    let Some(text) = text.filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok()) else {
        assert!(is_pythons || (found.is_none() && set.is_none()), "found in what is no JSON: {found:?}, {set:?}");
        return;
    };
    match find(text, &pointer) {
        Opinion::Value(value) => assert_eq!(found, expected(value)),
        Opinion::Nothing => assert_eq!(found, None),
        Opinion::None => return,
    }
    // Where the value may be put there is an object that exists.
    let place = pointer.split_last().map(|(_, parents)| find(text, parents));
    match place {
        Some(Opinion::Value(parent)) => assert_eq!(set.is_some(), parent.starts_with('{')),
        Some(Opinion::None) => return,
        Some(Opinion::Nothing) | None => assert!(set.is_none()),
    }
    if let Some(set) = set {
        assert_eq!(scalar(&set, &pointer).as_deref(), Some("n\"w"), "{}", String::from_utf8_lossy(&set));
        let all = scalar(&set, &[]).is_none()
            && serde_json::from_slice::<IgnoredAny>(set.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&set)).is_ok();
        assert!(all, "{}", String::from_utf8_lossy(&set));
    }
}
