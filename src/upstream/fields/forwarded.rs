//! Who asked, by which host and scheme: `X-Forwarded-*` and `Forwarded` (RFC 7239).

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::Inbound;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Extends what a trusted peer said about the way to it; forgets what another one said, and begins anew.
pub(super) fn extend(headers: &mut HeaderMap, inbound: &Inbound<'_>) {
    if !inbound.peer_trusted {
        for name in [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, header::FORWARDED] {
            headers.remove(name);
        }
    }
    let (peer, client) = (inbound.peer.to_canonical(), inbound.client.to_canonical());
    // A trusted peer mostly sends one of the two forms. The other one then begins with the client, lest it name the proxy.
    let earlier = (client != peer).then_some(client);
    let hop = element(peer, inbound);
    lengthen(headers, X_FORWARDED_FOR, earlier.map(|client| client.to_string()), &peer.to_string());
    lengthen(headers, header::FORWARDED, earlier.map(|client| format!("for={}", node(client))), &hop);
    headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static(inbound.scheme));
    headers.entry(X_FORWARDED_HOST).or_insert_with(|| inbound.host.clone());
}

/// Adds a member to a list field and makes it one line, which not all upstreams would do.
fn lengthen(headers: &mut HeaderMap, name: HeaderName, earlier: Option<String>, last: &str) {
    let mut list = Vec::new();
    for line in headers.get_all(&name).iter().filter(|line| !line.is_empty()) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    if let (true, Some(earlier)) = (list.is_empty(), earlier) {
        list.extend_from_slice(earlier.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(last.as_bytes());
    let value = HeaderValue::try_from(list).expect("field values with commas between them make a field value");
    headers.insert(name, value);
}

/// RFC 7239, section 4.
fn element(peer: IpAddr, inbound: &Inbound<'_>) -> String {
    // A host that was checked is ASCII without quotes and backslashes; only with a port or brackets it needs quotes.
    let host = inbound.host.to_str().ok().filter(|host| !host.contains(['"', '\\']));
    let host =
        host.map(|host| if host.contains([':', '[']) { format!(";host=\"{host}\"") } else { format!(";host={host}") });
    format!("for={}{};proto={}", node(peer), host.unwrap_or_default(), inbound.scheme)
}

/// RFC 7239, section 6.
fn node(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    }
}
