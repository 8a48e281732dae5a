//! `match`: which requests a route is for.

use http::{HeaderName, HeaderValue};

use super::{MAX_LIST, address, http_words, path, unique};
use crate::config::{Cursor, Fault, Fields};
use crate::policy::{Match, PathMatch};

const MATCH: [&str; 5] = ["path", "path_prefix", "methods", "hosts", "headers"];

/// A route without `match` is for every request.
pub(super) fn matching(fields: Fields<'_>) -> Match {
    let Some(fields) = fields.get("match").and_then(|cursor| cursor.fields(&MATCH)) else {
        return Match::default();
    };
    Match {
        path: path_match(fields),
        methods: list(fields, "methods", http_words::method),
        hosts: list(fields, "hosts", address::host_of_match),
        headers: fields.or("headers", Vec::new(), headers),
    }
}

fn path_match(fields: Fields<'_>) -> PathMatch {
    let (whole, prefix) = (fields.get("path"), fields.get("path_prefix"));
    if let (Some(_), Some(prefix)) = (whole, prefix) {
        prefix.problem(Fault::new("`path` and `path_prefix` exclude each other").hint("keep one of them"));
    }
    let read = |cursor: Option<Cursor<'_>>, parse: fn(&str) -> Result<PathMatch, Fault>| {
        cursor.and_then(|cursor| cursor.string().and_then(|text| cursor.told(parse(text))))
    };
    read(whole, path::pattern).or_else(|| read(prefix, path::prefix)).unwrap_or_default()
}

/// An empty list would match nothing, or anything: nobody can tell.
fn list<T: Clone + Eq + std::hash::Hash>(fields: Fields<'_>, key: &str, parse: fn(&str) -> Result<T, Fault>) -> Vec<T> {
    fields.or(key, Vec::new(), |cursor| {
        let items = cursor.items_up_to(MAX_LIST)?;
        if items.is_empty() {
            cursor.problem(Fault::new("must not be an empty list").hint(format!("leave `{key}` out to match any")));
        }
        let read = |item: Cursor<'_>| item.string().and_then(|text| item.told(parse(text)));
        let values = items.into_iter().filter_map(|item| read(item).map(|value| (item, value)));
        let values: Vec<_> = values.collect();
        unique(values.iter().map(|(item, value)| (*item, value.clone())));
        Some(values.into_iter().map(|(_, value)| value).collect())
    })
}

fn headers(cursor: Cursor<'_>) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
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
        if let Some(text) = value.string().and_then(|text| value.told(http_words::header_value(text))) {
            headers.push((name, text));
        }
    }
    Some(headers)
}
