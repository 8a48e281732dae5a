//! One value of a JSON body by its JSON pointer (RFC 6901), without building the document.
//!
//! The whole body must be valid JSON (RFC 8259), a byte order mark before it is passed over. What the parsers of upstreams take
//! beyond that is taken too, lest they find a session where the gateway finds none: `NaN` and `Infinity`, which Python writes and
//! reads, and other [encodings]. Of members with
//! one name the last counts, as for the parsers of Python and JavaScript, which the upstreams use. The work is linear in
//! the length of the body; the stack grows with the pointer, which is the policy's, never with the body.

mod encodings;
mod marks;
mod reader;

use std::borrow::Cow;
use std::ops::Range;

use reader::Reader;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// The string, number (as written) or boolean at a pointer given as decoded reference tokens.
///
/// `None` when the body is not JSON, nothing is there, or it is null, an object or an array.
#[must_use]
pub fn scalar<'b>(body: &'b [u8], pointer: &[String]) -> Option<Cow<'b, str>> {
    if let Some(text) = document(body)
        && let Some(found) = find(text, pointer)
    {
        return scalar_of(found?);
    }
    // Not JSON in UTF-8, so the cost of a copy is nobody's who sends what all do.
    let text = encodings::other_text(body)?;
    scalar_of(find(&text, pointer)??).map(|value| Cow::Owned(value.into_owned()))
}

fn scalar_of(raw: &str) -> Option<Cow<'_, str>> {
    match raw.as_bytes() {
        [b'"', ..] => serde_json::from_str::<String>(raw).ok().map(Cow::Owned),
        // Neither of the last ones is a number.
        [b'{' | b'[' | b'n' | b'N' | b'I', ..] | [b'-', b'I', ..] => None,
        _ => Some(Cow::Borrowed(raw)),
    }
}

/// The body with a string member added or replaced at a pointer; every other byte stays as it was.
///
/// `None` when the body is not JSON, the pointer is empty, or its parent is not an object that exists.
#[must_use]
pub fn set_member(body: &[u8], pointer: &[String], value: &str) -> Option<Vec<u8>> {
    let text = document(body)?;
    let (name, parents) = pointer.split_last()?;
    let parent = value_at(text, parents)?;
    if !parent.starts_with('{') {
        return None;
    }
    let string = serde_json::to_string(value).ok()?;
    let (place, piece) = match value_at(parent, std::slice::from_ref(name)) {
        Some(old) => (place_in(body, old), string),
        None => {
            let start = place_in(body, parent).start + 1;
            let comma = if parent[1..].trim_start().starts_with('}') { "" } else { "," };
            (start..start, format!("{}:{string}{comma}", serde_json::to_string(name).ok()?))
        }
    };
    Some([&body[..place.start], piece.as_bytes(), &body[place.end..]].concat())
}

fn document(body: &[u8]) -> Option<&str> {
    let text = simdutf8::basic::from_utf8(body).ok()?;
    Some(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text))
}

/// Where a slice of the body stands in it.
fn place_in(body: &[u8], part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - body.as_ptr().addr();
    start..start + part.len()
}

/// The text of the value at a pointer, without the white space around it.
fn value_at<'t>(text: &'t str, pointer: &[String]) -> Option<&'t str> {
    find(text, pointer)?
}

/// As [`value_at`]; `None` is no JSON, `Some(None)` is nothing there.
fn find<'t>(text: &'t str, pointer: &[String]) -> Option<Option<&'t str>> {
    let mut reader = Reader::new(text);
    let found = descend(&mut reader, pointer)?;
    reader.is_at_end().then_some(found)
}

/// Reads one value, and in it what a pointer names. `None` is no JSON, `Some(None)` is nothing there.
fn descend<'t>(reader: &mut Reader<'t>, pointer: &[String]) -> Option<Option<&'t str>> {
    let mut found = None;
    match (pointer.split_first(), reader.peek()?) {
        (None, _) => found = Some(reader.value()?),
        (Some((token, rest)), b'{') => {
            let mut follows = reader.passes(b'{') && !reader.passes(b'}');
            while follows {
                if names(reader.name()?, token) {
                    found = descend(reader, rest)?;
                } else {
                    reader.value()?;
                }
                follows = reader.another(b'}')?;
            }
        }
        (Some((token, rest)), b'[') => {
            let wanted = array_index(token);
            let mut index = 0;
            let mut follows = reader.passes(b'[') && !reader.passes(b']');
            while follows {
                if wanted == Some(index) {
                    found = descend(reader, rest)?;
                } else {
                    reader.value()?;
                }
                index += 1;
                follows = reader.another(b']')?;
            }
        }
        _ => {
            reader.value()?;
        }
    }
    Some(found)
}

/// Compares a member's name in its quotes, whatever escapes it is written with.
fn names(name: &str, token: &str) -> bool {
    match name.contains('\\') {
        false => &name[1..name.len() - 1] == token,
        true => serde_json::from_str::<String>(name).is_ok_and(|name| name == token),
    }
}

/// RFC 6901, section 4: digits without a leading zero.
fn array_index(token: &str) -> Option<usize> {
    let canonical = token.bytes().all(|digit| digit.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
    canonical.then(|| token.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;
    use serde_json::{Value, json};

    use super::*;

    fn tokens(pointer: &str) -> Vec<String> {
        pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect()
    }

    fn at(body: &str, pointer: &str) -> Option<String> {
        scalar(body.as_bytes(), &tokens(pointer)).map(Cow::into_owned)
    }

    fn set(body: &str, pointer: &str) -> Option<String> {
        set_member(body.as_bytes(), &tokens(pointer), "n\"w").map(|new| String::from_utf8(new).expect("UTF-8"))
    }

    #[test]
    fn scalars_are_found_as_they_are_written() {
        let body = r#"{"s":"a\u00e9\n","n": 1.50e2 ,"b":true,"z":null,"o":{"x":[0,{"y":"deep"}]},"e":""}"#;
        for (pointer, expected) in [
            ("/s", Some("a\u{e9}\n")),
            ("/n", Some("1.50e2")),
            ("/b", Some("true")),
            ("/e", Some("")),
            ("/o/x/1/y", Some("deep")),
            ("/o/x/0", Some("0")),
            ("/z", None),
            ("/o", None),
            ("/o/x", None),
            ("/o/x/01/y", None),
            ("/o/x/-", None),
            ("/o/x/9", None),
            ("/s/x", None),
            ("/none", None),
        ] {
            assert_eq!(at(body, pointer).as_deref(), expected, "{pointer}");
        }
        assert_eq!(at("\u{feff} \"top\" ", "").as_deref(), Some("top"));
    }

    #[test]
    fn big_numbers_lose_no_digit() {
        assert_eq!(at(r#"{"id":12345678901234567890123}"#, "/id").as_deref(), Some("12345678901234567890123"));
    }

    #[test]
    fn the_last_of_equal_names_counts() {
        assert_eq!(at(r#"{"s":"a","\u0073":"b"}"#, "/s").as_deref(), Some("b"));
        assert_eq!(at(r#"{"o":{"s":"a"},"o":{}}"#, "/o/s"), None);
    }

    #[test]
    fn a_body_that_is_not_wholly_json_has_nothing() {
        for body in ["", r#"{"s":"a""#, r#"{"s":"a"} x"#, r#"{"s":"a","t":}"#, r#"{"s":"\ud800"}"#, "s=a", "NaN"] {
            assert_eq!(at(body, "/s"), None, "{body}");
        }
        assert_eq!(scalar(b"{\"s\":\"a\",\"t\":\"\xff\"}", &tokens("/s")), None);
    }

    #[test]
    fn strings_are_read_alike_wherever_their_escapes_fall() {
        for before in 0..=2 * marks::BLOCK {
            for piece in
                ["", r#"\""#, r"\\", r#"\\\""#, r#"\\\\\""#, r"\u00e9", r"\u12", r"\x", r"\", "\u{1f}", "\u{e4}"]
            {
                for after in ["", "b", "b\"", "\\"] {
                    let text = format!("\"{}{piece}{after}\"", "a".repeat(before));
                    let expected = serde_json::from_str::<String>(&text).ok();
                    assert_eq!(at(&text, ""), expected, "{text}");
                    assert_eq!(at(&format!("[{text},7]"), "/1").is_some(), expected.is_some(), "{text}");
                }
            }
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!(r#"{{"x":{}{},"s":"a"}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(at(&deep, "/s").as_deref(), Some("a"));
        assert_eq!(at(&deep, &format!("/x{}", "/0".repeat(1000))), None);
    }

    #[test]
    fn a_member_is_added_or_replaced_and_all_else_stays() {
        for (body, pointer, expected) in [
            ("{ }", "/s", Some(r#"{"s":"n\"w" }"#)),
            (r#" {"a" : 1 } "#, "/s", Some(r#" {"s":"n\"w","a" : 1 } "#)),
            (r#"{"s" : null , "a":1}"#, "/s", Some(r#"{"s" : "n\"w" , "a":1}"#)),
            (r#"{"s":1,"s":{"x":2}}"#, "/s", Some(r#"{"s":1,"s":"n\"w"}"#)),
            (r#"{"o":[{}]}"#, "/o/0/a~1b", Some(r#"{"o":[{"a/b":"n\"w"}]}"#)),
            ("\u{feff}{}", "/s", Some("\u{feff}{\"s\":\"n\\\"w\"}")),
            (r#"{"o":1}"#, "/o/s", None),
            (r#"{"a":1}"#, "/o/s", None),
            ("[]", "/0", None),
            ("{}", "", None),
            ("{", "/s", None),
            ("", "/s", None),
        ] {
            assert_eq!(set(body, pointer).as_deref(), expected, "{body}");
        }
    }

    /// Pieces that make and break JSON, and strings of all lengths around a block.
    fn spoiling() -> impl Strategy<Value = String> {
        prop_oneof![
            "[-+.eE0-9]{0,4}",
            "[\\[\\]{}:,\" \t]{0,3}",
            "\\\\[\"\\\\/bfnrtux0]{0,3}",
            "\"a{55,70}(\\\\{1,5}[\"nu]?)?(\\\\u[0-9a-g]{3,4})?[\u{0}-\u{20}]?\"",
            Just("null".to_owned()),
            Just("tru".to_owned()),
            Just("\u{e4}".to_owned()),
        ]
    }

    fn documents() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a\"\\\\\u{e4}\n]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ab/~\"]{0,1}", inner, 0..4).prop_map(|map| json!(map)),
            ]
        })
    }

    fn expected(value: Option<&Value>) -> Option<String> {
        match value? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            _ => None,
        }
    }

    proptest! {
        #[test]
        fn any_body_is_read_without_panic(body: Vec<u8>, pointer in "(/[a0]){0,3}") {
            let _ = scalar(&body, &tokens(&pointer));
            let _ = set_member(&body, &tokens(&pointer), "x");
        }

        #[test]
        fn what_is_json_is_what_serde_json_takes_for_it(
            value in documents(),
            spoilt in prop::collection::vec((any::<prop::sample::Index>(), spoiling()), 0..4),
        ) {
            let mut text = format!("{value} ");
            for (place, piece) in spoilt {
                let places: Vec<_> = text.char_indices().map(|(start, spoilt)| start..start + spoilt.len_utf8()).collect();
                text.replace_range(place.get(&places).clone(), &format!("{piece} "));
            }
            let taken = serde_json::from_str::<IgnoredAny>(&text).is_ok();
            prop_assert_eq!(value_at(&text, &[]).is_some(), taken, "{}", text);
            prop_assert!(taken || value_at(&text, &["a".to_owned()]).is_none(), "{}", text);
        }

        #[test]
        fn the_value_is_the_one_that_serde_json_points_at(value in documents(), pointer in "(/(a|b|~0|~1|\"|0|1|2|)){0,4}") {
            for body in [value.to_string(), serde_json::to_string_pretty(&value).expect("JSON")] {
                prop_assert_eq!(at(&body, &pointer), expected(value.pointer(&pointer)));
            }
        }

        #[test]
        fn a_set_member_is_there_and_all_else_unchanged(value in documents(), pointer in "(/(a|b|~0|~1|\"|0|1|)){1,3}") {
            let body = serde_json::to_string_pretty(&value).expect("JSON");
            let (parent, name) = pointer.rsplit_once('/').expect("starts with a slash");
            let mut expected = value.clone();
            let fits = expected.pointer_mut(parent).and_then(Value::as_object_mut).map(|object| {
                object.insert(name.replace("~1", "/").replace("~0", "~"), "n\"w".into());
            });
            let new = set(&body, &pointer).map(|new| serde_json::from_str::<Value>(&new).expect("JSON"));
            prop_assert_eq!(new, fits.map(|()| expected));
        }
    }
}
