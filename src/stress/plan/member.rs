//! A member that is put into the text of a JSON object, with every other byte left as it is.
//!
//! Whoever reads the body and writes it anew makes other numbers of long ones, and sorts the members. A test is to send what
//! it was told to.

use std::borrow::Cow;
use std::ops::Range;

use serde::de::IgnoredAny;

/// The text with the string `value` at `pointer` (RFC 6901), in place of what stands there. Of members of the same name the
/// last one is meant. What the member is put into must be an object that is there.
///
/// # Errors
/// In a sentence: the text is no JSON, or has no such object.
pub fn with_member(body: &str, pointer: &str, value: &str) -> Result<String, String> {
    serde_json::from_str::<IgnoredAny>(body)
        .map_err(|error| format!("the body is no JSON, so it can have no session: {error}"))?;
    let (parent, name) = pointer.rsplit_once('/').ok_or_else(|| format!("`{pointer}` is no JSON pointer"))?;
    let none = || format!("the body has no object for `{pointer}`");
    let mut object = Text(body).value(0);
    for step in parent.split('/').skip(1) {
        object = Text(body).inside(&object, &unescaped(step)).ok_or_else(none)?;
    }
    if !body[object.start..].starts_with('{') {
        return Err(none());
    }
    let name = unescaped(name);
    let value = serde_json::Value::from(value);
    if let Some(old) = Text(body).inside(&object, &name) {
        return Ok(format!("{}{value}{}", &body[..old.start], &body[old.end..]));
    }
    let (before, after) = body.split_at(object.end - 1);
    let is_empty = before[object.start + 1..].trim().is_empty();
    let comma = if is_empty { "" } else { "," };
    Ok(format!("{before}{comma}{}:{value}{after}", serde_json::Value::from(name)))
}

/// A step of a pointer, as it is meant.
fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

/// Text that is JSON, which is why none of this looks for what is wrong with it.
struct Text<'t>(&'t str);

impl Text<'_> {
    fn byte(&self, at: usize) -> u8 {
        self.0.as_bytes().get(at).copied().unwrap_or(b' ')
    }

    /// The first place from `at` on that is no white space.
    fn skip(&self, at: usize) -> usize {
        let blank = self.0.as_bytes()[at.min(self.0.len())..].iter().take_while(|byte| byte.is_ascii_whitespace());
        at + blank.count()
    }

    /// Where the value stands that begins at `at`, or after white space there.
    fn value(&self, at: usize) -> Range<usize> {
        let start = self.skip(at);
        let end = match self.byte(start) {
            b'"' => self.string(start),
            b'{' | b'[' => self.brackets(start),
            _ => {
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
                let rest = &self.0.as_bytes()[start.min(self.0.len())..];
                start + rest.iter().position(ends).unwrap_or(rest.len())
            }
        };
        start..end
    }

    /// The end of the object or list that begins at `at`.
    fn brackets(&self, at: usize) -> usize {
        let mut at = at;
        let mut depth = 0_usize;
        while at < self.0.len() {
            match self.byte(at) {
                b'"' => at = self.string(at),
                b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
                b'}' | b']' if depth == 1 => return at + 1,
                b'}' | b']' => (at, depth) = (at + 1, depth - 1),
                _ => at += 1,
            }
        }
        at
    }

    /// The end of the string that begins at `at`.
    fn string(&self, at: usize) -> usize {
        let mut at = at + 1;
        while at < self.0.len() && self.byte(at) != b'"' {
            at += if self.byte(at) == b'\\' { 2 } else { 1 };
        }
        at + 1
    }

    /// Where in an object or a list that which a pointer calls `step` stands.
    fn inside(&self, whole: &Range<usize>, step: &str) -> Option<Range<usize>> {
        let is_object = match self.byte(whole.start) {
            b'{' => true,
            b'[' => false,
            _ => return None,
        };
        // "01" and "-" are no places of a list.
        let place = step.parse::<usize>().ok().filter(|place| place.to_string() == step);
        let mut found = None;
        let mut at = self.skip(whole.start + 1);
        let mut number = 0;
        while at < whole.end - 1 {
            let is_it = if is_object {
                let name = self.value(at);
                at = self.skip(name.end) + 1;
                self.name(&name) == step
            } else {
                place == Some(number)
            };
            let value = self.value(at);
            // Behind the comma, or at the end.
            at = self.skip(value.end);
            at = self.skip(at + usize::from(self.byte(at) == b','));
            number += 1;
            if is_it {
                found = Some(value);
            }
        }
        found
    }

    fn name(&self, at: &Range<usize>) -> Cow<'_, str> {
        let text = &self.0[at.clone()];
        serde_json::from_str::<String>(text).map_or(Cow::Borrowed(text), Cow::Owned)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_other_byte_stays_as_it_is() {
        for (body, pointer, expected) in [
            ("{}", "/s", r#"{"s":"x"}"#),
            (" { } ", "/s", r#" { "s":"x"} "#),
            (
                r#"{"n":12345678901234567890123,"f":1.10,"b":2,"a":1e+2}"#,
                "/s",
                r#"{"n":12345678901234567890123,"f":1.10,"b":2,"a":1e+2,"s":"x"}"#,
            ),
            (r#"{"s" : 1.0 , "b":2}"#, "/s", r#"{"s" : "x" , "b":2}"#),
            (r#"{"b":2,"s":{"t":[1,"]}"]}}"#, "/s", r#"{"b":2,"s":"x"}"#),
            (r#"{"s":"\\","t":"\"{"}"#, "/s", r#"{"s":"x","t":"\"{"}"#),
            (r#"{"a":[{"b":1},{"b":-2.50}]}"#, "/a/1/s", r#"{"a":[{"b":1},{"b":-2.50,"s":"x"}]}"#),
            (r#"{"a~/b":{}}"#, "/a~0~1b/c~1d", r#"{"a~/b":{"c/d":"x"}}"#),
            (r#"{"\u0061":{"s":null}}"#, "/a/s", r#"{"\u0061":{"s":"x"}}"#),
            (r#"{"s":1,"s":true}"#, "/s", r#"{"s":1,"s":"x"}"#),
            (r#"{"":{"":[]}}"#, "//", r#"{"":{"":"x"}}"#),
        ] {
            assert_eq!(with_member(body, pointer, "x").as_deref(), Ok(expected), "{body} {pointer}");
        }
    }

    #[test]
    fn what_is_no_object_takes_no_member() {
        for (body, pointer) in [
            ("no JSON", "/s"),
            ("", "/s"),
            ("5", "/s"),
            ("[]", "/0"),
            ("[{}]", "/01/s"),
            ("[{}]", "/-/s"),
            ("{}", "/a/s"),
            (r#"{"a":1}"#, "/a/s"),
        ] {
            assert!(with_member(body, pointer, "x").is_err(), "{body} {pointer}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c\"\\\\{}\\[\\],: é]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c/~\"]{0,2}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Pointers to all objects.
    fn objects(value: &Value, at: &str, into: &mut Vec<String>) {
        let step = |name: &str| format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        match value {
            Value::Object(members) => {
                into.push(at.to_owned());
                members.iter().for_each(|(name, value)| objects(value, &step(name), into));
            }
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(place, value)| objects(value, &step(&place.to_string()), into));
            }
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn it_means_what_a_library_makes_of_it(value in any_json(), name in "[a-c]{1,2}", pretty: bool) {
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            let mut pointers = Vec::new();
            objects(&value, "", &mut pointers);
            for pointer in pointers {
                let mut expected = value.clone();
                let parent = expected.pointer_mut(&pointer).and_then(Value::as_object_mut).expect("an object");
                parent.insert(name.clone(), "x".into());
                let put = with_member(&text, &format!("{pointer}/{name}"), "x").expect("an object is there");
                prop_assert_eq!(serde_json::from_str::<Value>(&put).expect("JSON"), expected, "{}", put);
            }
        }
    }
}
