//! `match`: which requests a route is for.

use http::{HeaderName, HeaderValue, Method};

use super::{MAX_LIST, address, http_words, path, unique};
use crate::config::key::From;
use crate::config::{Cursor, Fault, Fields, Form, Formed as _, Key, Own, Shape as _, Strict, Text, key};
use crate::policy::{Match, PathMatch};

const PATTERN: Strict<PathMatch> =
    Strict(&Text { what: "a path such as `/agent/{agent}/run`", pattern: "^/([^/?#][^?#]*)?$" }, path::pattern);
const PREFIX: Strict<PathMatch> =
    Strict(&Text { what: "a path such as `/api/v1`", pattern: "^/([^/?#{}][^?#{}]*)?$" }, path::prefix);
const ANY: From = From("any");
type Headers = Vec<(HeaderName, HeaderValue)>;

crate::config::keys! {
    pub(super) mod keys = "match" {
        PATH: Key<Strict<PathMatch>, From> = key("path", PATTERN, ANY,
            "a pattern, segment for segment; `{name}` is exactly one segment that is not empty");
        PATH_PREFIX: Key<Strict<PathMatch>, From> = key("path_prefix", PREFIX, ANY,
            "whole segments: `/api` matches `/api` and `/api/x`, not `/apix`. Not together with `path`");
        METHODS: Key<Own<Vec<Method>>, From> = key("methods",
            Own(|cursor| list(cursor, http_words::METHOD), || http_words::METHOD.form().list(1, MAX_LIST)), ANY,
            "any of these, in capitals");
        HOSTS: Key<Own<Vec<String>>, From> = key("hosts",
            Own(|cursor| list(cursor, address::HOST), || address::HOST.form().list(1, MAX_LIST)), ANY,
            "any of these; case and port do not matter; no patterns");
        HEADERS: Key<Own<Headers>, From> = key("headers", Own(headers, headers_form), ANY,
            "each of these fields has exactly this value");
    }
}

/// A route without `match` is for every request.
pub(super) fn matching(cursor: Option<Cursor<'_>>) -> Match {
    let Some(fields) = cursor.and_then(|cursor| cursor.fields(keys::KEYS)) else {
        return Match::default();
    };
    Match {
        path: path_match(fields),
        methods: fields.given(&keys::METHODS).unwrap_or_default(),
        hosts: fields.given(&keys::HOSTS).unwrap_or_default(),
        headers: fields.given(&keys::HEADERS).unwrap_or_default(),
    }
}

fn path_match(fields: Fields<'_>) -> PathMatch {
    if let (Some(_), Some(prefix)) = (fields.get(&keys::PATH), fields.get(&keys::PATH_PREFIX)) {
        prefix.problem(Fault::new("`path` and `path_prefix` exclude each other").hint("keep one of them"));
    }
    fields.given(&keys::PATH).or_else(|| fields.given(&keys::PATH_PREFIX)).unwrap_or_default()
}

/// An empty list would match nothing, or anything: nobody can tell.
fn list<T: Clone + Eq + std::hash::Hash>(cursor: Cursor<'_>, item: Strict<T>) -> Option<Vec<T>> {
    let items = cursor.items_up_to(MAX_LIST)?;
    if items.is_empty() {
        cursor.problem(Fault::new("must not be an empty list").hint("leave the key out to match any"));
    }
    let values = items.into_iter().filter_map(|cursor| item.read(cursor).map(|value| (cursor, value)));
    let values: Vec<_> = values.collect();
    unique(values.iter().map(|(item, value)| (*item, value.clone())));
    Some(values.into_iter().map(|(_, value)| value).collect())
}

fn headers_form() -> Form {
    let value = Box::new(http_words::HEADER_VALUE.form());
    Form::Named { name: &http_words::HEADER_TEXT, of: value, least: 0, most: usize::MAX }
}

fn headers(cursor: Cursor<'_>) -> Option<Headers> {
    let mut headers = Headers::new();
    for (name, value) in cursor.entries()? {
        let name = match http_words::header_name(name) {
            Ok(name) => name,
            Err(fault) => {
                value.problem(fault);
                continue;
            }
        };
        if headers.iter().any(|(earlier, _)| *earlier == name) {
            value.problem(Fault::new(format!("the header `{name}` stands here twice")));
        }
        if let Some(text) = http_words::HEADER_VALUE.read(value) {
            headers.push((name, text));
        }
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use crate::policy::compile::tests::{policy, says, with_route};
    use crate::policy::{PathMatch, Segment};

    #[test]
    fn matches_are_checked() {
        says(&with_route("match: {path: /a, path_prefix: /b}"), "`path` and `path_prefix` exclude each other");
        says(&with_route("match: {path: a}"), "routes[0].match.path: must begin with `/`");
        says(
            &with_route("match: {methods: [get]}"),
            "routes[0].match.methods[0]: must be a method such as `POST`, not `get`; did you mean `GET`?",
        );
        says(&with_route("match: {methods: []}"), "must not be an empty list");
        says(&with_route("match: {hosts: [a, 'A:80']}"), "stands here twice");
        says(&with_route("match: {headers: {a: 1}}"), "write it in quotation marks: `\"1\"`");
        says(&with_route("match: {headers: {a_b: x}}"), "did you mean `a-b`?");
        says(&with_route("match:"), "routes[0].match: must be a mapping, not nothing");
        let matching =
            &policy(&with_route("match: {hosts: ['A.b:80'], headers: {X-A: '1'}, methods: [GET]}")).routes[0].matching;
        assert_eq!((matching.hosts.as_slice(), matching.headers.len()), (["a.b".to_owned()].as_slice(), 1));
    }

    #[test]
    fn a_variable_of_a_path_is_a_segment() {
        let policy = policy(&with_route("match: {path: '/a/{x}'}"));
        let segments = vec![Segment::Literal("a".to_owned()), Segment::Variable("x".to_owned())];
        assert_eq!(policy.routes[0].matching.path, PathMatch::Pattern(segments));
    }
}
