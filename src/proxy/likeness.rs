//! What makes two requests equal.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest, Sha256};

use super::identify::{Identified, session_of};
use crate::admission::nesting::Nest;
use crate::limit::joining::{Keep, Likeness};
use crate::request::framing::{asks_upgrade, host};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Whose request it is. Nobody gets another one's answer.
const CALLER: [HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, X_API_KEY];
/// What beside the body makes a request ask for something else, where no key says that it is the same.
const SELECTS: [HeaderName; 11] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::RANGE,
];

/// What a request is compared by, and how much of its answer is kept; `None` where it is compared with none. A request without
/// a session is nobody's equal, and neither is one for another protocol.
pub(super) fn likeness(identified: &Identified, nested_in: Option<&Nest>) -> Option<(Likeness, Keep)> {
    let received = &identified.received;
    let join = session_of(received.gates())?.join?;
    let session = identified.session.as_ref().filter(|_| identified.assigned.is_none())?;
    let head = &received.head;
    if asks_upgrade(&head.headers) {
        return None;
    }
    let mut body = Parts::default();
    match &identified.whole {
        Some(whole) => body.part(&whole.data).fields(whole.trailers.iter().flatten()),
        None if received.has_body_ended() => body.part(b""),
        None => return None,
    };
    let body = body.print();
    let mut key = Parts::default();
    let policy = &received.gates().policy;
    // A reload may give a route of the same name another upstream.
    key.part(policy.name.as_bytes())
        .part(received.edition.upstreams[policy.upstream].policy.name.as_bytes())
        .part(head.method.as_str().as_bytes())
        .part(head.uri.path_and_query().map_or("/", |target| target.as_str()).as_bytes())
        .part(session.as_str().as_bytes())
        // Whichever way it is named: HTTP/2 and absolute targets do it beside the fields.
        .part(host(&head.uri, &head.headers).unwrap_or_default().as_bytes());
    for name in &CALLER {
        key.lines(&head.headers, name);
    }
    // What is nested in a turn waits for nobody who may wait for that turn.
    let token = nested_in.map(|nest| nest.token().value());
    key.part(token.as_ref().map_or(b"", |token| token.as_bytes()));
    let keys: Vec<_> = head.headers.get_all(IDEMPOTENCY_KEY).iter().map(unquoted).collect();
    // An empty one names nothing.
    let keyed = keys.iter().any(|text| !text.is_empty());
    if keyed {
        key.part(b"key");
        for text in keys {
            key.part(&text);
        }
    } else {
        key.part(b"body").part(&body);
        for name in &SELECTS {
            key.lines(&head.headers, name);
        }
    }
    Some((Likeness { key: key.print(), body }, Keep { whole: keyed, afterwards: join.replay_for }))
}

/// The key that a string (RFC 9651, section 3.3.3) stands for, or the text as it is.
fn unquoted(line: &HeaderValue) -> Vec<u8> {
    let text = line.as_bytes().trim_ascii();
    let Some(inner) = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")) else {
        return text.to_vec();
    };
    let mut key = Vec::with_capacity(inner.len());
    let mut octets = inner.iter();
    while let Some(octet) = octets.next() {
        key.push(if *octet == b'\\' { *octets.next().unwrap_or(octet) } else { *octet });
    }
    key
}

/// A digest of parts, each told apart by its length.
#[derive(Default)]
struct Parts(Sha256);

impl Parts {
    fn part(&mut self, octets: &[u8]) -> &mut Self {
        self.0.update((octets.len() as u64).to_be_bytes());
        self.0.update(octets);
        self
    }

    /// All lines of a field, and how many there are.
    fn lines(&mut self, headers: &HeaderMap, name: &HeaderName) -> &mut Self {
        let lines = headers.get_all(name);
        self.part(&(lines.iter().count() as u64).to_be_bytes());
        for line in lines {
            self.part(line.as_bytes());
        }
        self
    }

    fn fields<'h>(&mut self, fields: impl Iterator<Item = (&'h HeaderName, &'h HeaderValue)>) -> &mut Self {
        for (name, value) in fields {
            self.part(name.as_str().as_bytes()).part(value.as_bytes());
        }
        self
    }

    fn print(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_quoted_or_not() {
        let key = |text: &'static str| unquoted(&HeaderValue::from_static(text));
        assert_eq!(key("\"abc\""), key("abc"));
        assert_eq!(key("  abc "), key("abc"));
        assert_eq!(key(r#""a\"b\\""#), br#"a"b\"#);
        assert_eq!(key("\""), b"\"");
        assert_ne!(key("ab"), key("abc"));
    }

    #[test]
    fn parts_that_read_alike_in_a_row_are_not_alike() {
        let print = |parts: &[&[u8]]| {
            let mut all = Parts::default();
            for part in parts {
                all.part(part);
            }
            all.print()
        };
        assert_ne!(print(&[b"ab", b"c"]), print(&[b"a", b"bc"]));
        assert_ne!(print(&[b"a", b""]), print(&[b"a"]));
        assert_eq!(print(&[b"a", b"b"]), print(&[b"a", b"b"]));
    }
}
