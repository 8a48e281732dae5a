//! Reading one source of a session key.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};

use super::{BadKey, HeadView};
use crate::policy::{KeySource, PathMatch};
use crate::request::{form, json_pointer};

pub(super) enum Value<'r> {
    Present(Cow<'r, str>),
    Absent,
    /// Only the body can tell.
    InBody,
}

pub(super) struct Reader<'r> {
    pub(super) route_path: &'r PathMatch,
    pub(super) head: &'r HeadView<'r>,
    /// The whole body, once it is there.
    pub(super) body: Option<&'r Bytes>,
}

impl<'r> Reader<'r> {
    pub(super) fn read(&self, source: &KeySource) -> Result<Value<'r>, BadKey> {
        let octets = match source {
            KeySource::Header(name) => sole(self.lines(name), source)?,
            KeySource::Cookie(name) => sole(self.cookies(name), source)?,
            KeySource::Query(name) => {
                sole(self.head.query.iter().flat_map(|query| form::urlencoded(query.as_bytes(), name)), source)?
            }
            KeySource::Path(name) => self.route_path.variable(self.head.path, name),
            KeySource::Json(pointer) => return self.json(pointer),
            KeySource::Form(name) => return self.form(name, source),
        };
        match octets {
            Some(octets) if octets.iter().any(u8::is_ascii_control) => Err(BadKey::NotText(place(source))),
            octets => present(octets, source),
        }
    }

    fn json(&self, pointer: &[String]) -> Result<Value<'r>, BadKey> {
        if !self.body_kind()?.may_be_json() {
            return Ok(Value::Absent);
        }
        let Some(body) = self.body else {
            return Ok(Value::InBody);
        };
        let found = json_pointer::scalar(body, pointer).filter(|value| !value.is_empty());
        Ok(found.map_or(Value::Absent, Value::Present))
    }

    fn form(&self, name: &str, source: &KeySource) -> Result<Value<'r>, BadKey> {
        let kind = self.body_kind()?;
        if !matches!(kind, BodyKind::Urlencoded | BodyKind::Multipart(_)) {
            return Ok(Value::Absent);
        }
        let Some(body) = self.body else {
            return Ok(Value::InBody);
        };
        let octets = match kind {
            BodyKind::Multipart(content_type) => {
                let values = form::multipart(body, content_type, name);
                sole(values.into_iter().map(|value| Cow::Owned(value.to_vec())), source)?
            }
            _ => sole(form::urlencoded(body, name), source)?,
        };
        present(octets, source)
    }

    fn lines(&self, name: &HeaderName) -> impl Iterator<Item = Cow<'r, [u8]>> {
        self.head.headers.get_all(name).iter().map(|line| Cow::Borrowed(line.as_bytes().trim_ascii()))
    }

    /// RFC 6265, section 5.4, with cookies in several fields as HTTP/2 allows. Quotes around a value are no part of it.
    fn cookies(&self, name: &str) -> impl Iterator<Item = Cow<'r, [u8]>> {
        let lines = self.head.headers.get_all(header::COOKIE).iter();
        lines.flat_map(|line| line.as_bytes().split(|&octet| octet == b';')).filter_map(move |pair| {
            let mut halves = pair.splitn(2, |&octet| octet == b'=');
            let own = halves.next()?.trim_ascii();
            let value = halves.next()?.trim_ascii();
            let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
            (own == name.as_bytes()).then_some(Cow::Borrowed(bare))
        })
    }

    /// What the body can be read as, by its head alone.
    fn body_kind(&self) -> Result<BodyKind<'r>, BadKey> {
        let headers = self.head.headers;
        let encodings = headers.get_all(header::CONTENT_ENCODING);
        if encodings.iter().any(|encoding| !encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity")) {
            return Ok(BodyKind::Opaque);
        }
        // Two content types would let the upstream read another key than the one found here.
        sole(self.lines(&header::CONTENT_TYPE), &KeySource::Header(header::CONTENT_TYPE))?;
        Ok(kind_of(headers))
    }
}

#[derive(PartialEq, Eq)]
enum BodyKind<'r> {
    Json,
    Urlencoded,
    /// With the content type, which has the boundary.
    Multipart(&'r str),
    Text,
    Opaque,
}

impl BodyKind<'_> {
    /// Clients that do not say what they send say one of the others: `curl -d`, urllib and `fetch` with a text. Backends mostly
    /// read it all the same. What is no JSON then has no key.
    fn may_be_json(&self) -> bool {
        matches!(self, Self::Json | Self::Urlencoded | Self::Text)
    }
}

/// Whether the body may be read as JSON, by its head alone.
#[must_use]
pub fn may_be_json(headers: &HeaderMap) -> bool {
    kind_of(headers).may_be_json()
}

fn kind_of(headers: &HeaderMap) -> BodyKind<'_> {
    let Some(line) = headers.get(header::CONTENT_TYPE) else {
        return BodyKind::Json;
    };
    let Ok(line) = line.to_str() else {
        return BodyKind::Opaque;
    };
    let essence = line.split(';').next().unwrap_or(line).trim_ascii();
    let is = |kind: &str| essence.eq_ignore_ascii_case(kind);
    let suffix = essence.len().checked_sub("+json".len()).and_then(|start| essence.get(start..));
    if is("application/json") || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json")) {
        BodyKind::Json
    } else if is("application/x-www-form-urlencoded") {
        BodyKind::Urlencoded
    } else if is("multipart/form-data") {
        BodyKind::Multipart(line)
    } else if is("text/plain") {
        BodyKind::Text
    } else {
        BodyKind::Opaque
    }
}

/// The one value that all of these agree on.
fn sole<'r>(
    mut values: impl Iterator<Item = Cow<'r, [u8]>>,
    source: &KeySource,
) -> Result<Option<Cow<'r, [u8]>>, BadKey> {
    let first = values.next();
    if values.any(|other| Some(&other) != first.as_ref()) {
        return Err(BadKey::Ambiguous(place(source)));
    }
    Ok(first)
}

fn present<'r>(octets: Option<Cow<'r, [u8]>>, source: &KeySource) -> Result<Value<'r>, BadKey> {
    let text = match octets.filter(|octets| !octets.is_empty()) {
        None => return Ok(Value::Absent),
        Some(Cow::Borrowed(octets)) => std::str::from_utf8(octets).map(Cow::Borrowed).ok(),
        Some(Cow::Owned(octets)) => String::from_utf8(octets).map(Cow::Owned).ok(),
    };
    text.map(Value::Present).ok_or_else(|| BadKey::NotText(place(source)))
}

/// What a source is called in a problem.
fn place(source: &KeySource) -> String {
    match source {
        KeySource::Header(name) => format!("the header `{name}`"),
        KeySource::Json(pointer) => format!("the JSON member `/{}`", pointer.join("/")),
        KeySource::Form(name) => format!("the form field `{name}`"),
        KeySource::Query(name) => format!("the query parameter `{name}`"),
        KeySource::Cookie(name) => format!("the cookie `{name}`"),
        KeySource::Path(name) => format!("the path variable `{name}`"),
    }
}
