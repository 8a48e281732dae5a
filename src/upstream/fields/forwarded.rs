//! Who asked, by which host and scheme: `X-Forwarded-*` and `Forwarded` (RFC 7239).

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::Inbound;
use super::hop::node;
use super::present::{Field, Present};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Extends what a trusted peer said about the way to it; forgets what another one said, and begins anew.
pub(super) fn extend(headers: &mut HeaderMap, inbound: &Inbound<'_>, present: Present) {
    let hop = inbound.hop;
    if !inbound.peer_trusted {
        headers.insert(X_FORWARDED_FOR, hop.forwarded_for().clone());
        headers.insert(header::FORWARDED, hop.forwarded(inbound.host));
        headers.insert(X_FORWARDED_PROTO, hop.scheme().clone());
        headers.insert(X_FORWARDED_HOST, inbound.host.clone());
        return;
    }
    // A trusted peer mostly sends one of the two forms. The other one then begins with the client, lest it name the proxy.
    let client = inbound.client.to_canonical();
    let earlier = (client != hop.address()).then_some(client);
    if present.has(Field::XForwardedFor) || earlier.is_some() {
        lengthen(headers, X_FORWARDED_FOR, || Some(earlier?.to_string()), hop.forwarded_for());
    } else {
        headers.insert(X_FORWARDED_FOR, hop.forwarded_for().clone());
    }
    let own = hop.forwarded(inbound.host);
    if present.has(Field::Forwarded) || earlier.is_some() {
        lengthen(headers, header::FORWARDED, || Some(format!("for={}", node(earlier?))), &own);
    } else {
        headers.insert(header::FORWARDED, own);
    }
    headers.entry(X_FORWARDED_PROTO).or_insert_with(|| hop.scheme().clone());
    headers.entry(X_FORWARDED_HOST).or_insert_with(|| inbound.host.clone());
}

/// Adds a member to a list field and makes it one line, which not all upstreams would do.
fn lengthen(headers: &mut HeaderMap, name: HeaderName, earlier: impl FnOnce() -> Option<String>, last: &HeaderValue) {
    let mut list = Vec::with_capacity(128);
    for line in headers.get_all(&name).iter().filter(|line| !line.is_empty()) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    if list.is_empty()
        && let Some(earlier) = earlier()
    {
        list.extend_from_slice(earlier.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(last.as_bytes());
    let value = HeaderValue::try_from(list).expect("field values with commas between them make a field value");
    headers.insert(name, value);
}
