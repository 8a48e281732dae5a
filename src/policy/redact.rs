//! The policy as written, for eyes that must not see secrets.

use serde_json::{Map, Value as Json};

use crate::config::{Document, Kind, Node, Scalar, Value};

/// Stands for what is not shown.
const HIDDEN: &str = "***";
/// Parts of keys whose text is likely to be a secret. Names of files that hold one are none.
const SECRET_KEYS: [&str; 4] = ["token", "secret", "password", "api_key"];

/// The file as `GET /config` shows it: values of the environment as `${VAR}` without their default, values of header
/// matches and user information of addresses hidden.
#[must_use]
pub fn shown(document: &Document) -> Json {
    show(document.root(), false)
}

fn show(node: &Node, hidden: bool) -> Json {
    match &node.kind {
        Kind::Mapping(entries) => {
            let show = |key: &str, node: &Node| show(node, hidden || hides(key, node));
            Json::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), show(&entry.key, &entry.node)))
                    .collect::<Map<_, _>>(),
            )
        }
        Kind::List(items) => Json::Array(items.iter().map(|item| show(item, hidden)).collect()),
        Kind::Scalar(_) if hidden && !node.is_null() => HIDDEN.into(),
        Kind::Scalar(scalar) => show_scalar(scalar),
    }
}

fn hides(key: &str, node: &Node) -> bool {
    let secret = SECRET_KEYS.iter().any(|part| key.to_lowercase().contains(part)) && !key.ends_with("_file");
    // `headers` of a match name values that clients prove themselves with.
    secret || (key == "headers" && matches!(node.kind, Kind::Mapping(_)))
}

fn show_scalar(scalar: &Scalar) -> Json {
    if scalar.from_environment {
        return without_user(&without_defaults(&scalar.written)).into();
    }
    match scalar.value {
        Value::Null => Json::Null,
        Value::Bool(value) => value.into(),
        Value::Integer(value) => value.into(),
        Value::OtherNumber | Value::Text => without_user(&scalar.text).into(),
    }
}

/// `${VAR:-default}` becomes `${VAR}`: the default of a secret is one as well.
fn without_defaults(written: &str) -> String {
    let mut done = String::with_capacity(written.len());
    let mut rest = written;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        done.push_str(before);
        let end = from.find('}').map_or(from.len(), |end| end + 1);
        let (variable, after) = from.split_at(end);
        match variable.split_once(":-") {
            Some((name, _)) if !before.ends_with('$') => {
                done.push_str(name);
                done.push('}');
            }
            _ => done.push_str(variable),
        }
        rest = after;
    }
    done.push_str(rest);
    done
}

/// `http://user:password@host` becomes `http://***@host`.
fn without_user(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority].rfind('@') {
        Some(at) => format!("{scheme}://{HIDDEN}{}", &rest[at..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_text(text: &str) -> String {
        let document = Document::parse("f", text.as_bytes(), &|_| Some("s3cret".to_owned())).expect("sound YAML");
        shown(&document).to_string()
    }

    #[test]
    fn plain_values_are_shown_as_they_are() {
        assert_eq!(
            shown_text("{a: 1, b: [true, null, x], c: {token_file: /t}}"),
            r#"{"a":1,"b":[true,null,"x"],"c":{"token_file":"/t"}}"#
        );
    }

    #[test]
    fn values_of_the_environment_are_shown_as_variables() {
        let shown = shown_text("{a: '${KEY}', b: 'http://${HOST:-s3cret}:80', c: '$${x:-y} ${KEY}'}");
        assert_eq!(shown, r#"{"a":"${KEY}","b":"http://${HOST}:80","c":"$${x:-y} ${KEY}"}"#);
    }

    #[test]
    fn secrets_are_hidden() {
        let shown = shown_text("{a: 'http://me:s3cret@h/', match: {headers: {x-key: s3cret}}, password: s3cret}");
        assert_eq!(
            shown,
            r#"{"a":"http://***@h/","match":{"headers":{"x-key":"***"}},"password":"***"}"#
        );
    }
}
