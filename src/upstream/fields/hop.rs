//! The way of a request from its client to the gateway, as the upstream is told of it.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::OnceLock;

use bytes::Bytes;
use http::HeaderValue;

/// The other end of a client's connection. One for each connection, shared by its requests, which mostly name one host:
/// what is said of the way is the same for all of them, and made once.
#[derive(Debug)]
pub struct Hop {
    address: IpAddr,
    scheme: HeaderValue,
    forwarded_for: HeaderValue,
    first: OnceLock<Told>,
}

/// What the upstream is told of the requests for one host.
#[derive(Debug)]
struct Told {
    /// Copied: the field of the request it came with would keep the whole buffer that its head was read into.
    host: Box<[u8]>,
    forwarded: HeaderValue,
}

impl Hop {
    /// A connection of `peer`, with `http` or `https` spoken on it. IPv4 addresses mapped into IPv6 become IPv4.
    #[must_use]
    pub fn new(peer: IpAddr, scheme: &'static str) -> Self {
        let address = peer.to_canonical();
        let scheme = HeaderValue::from_static(scheme);
        Self { address, scheme, forwarded_for: kept(address.to_string()), first: OnceLock::new() }
    }

    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Whether `https` is spoken on it.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.scheme == "https"
    }

    pub(super) fn scheme(&self) -> &HeaderValue {
        &self.scheme
    }

    /// This hop alone, as a value of `X-Forwarded-For`.
    pub(super) fn forwarded_for(&self) -> &HeaderValue {
        &self.forwarded_for
    }

    /// This hop alone, as a value of `Forwarded` (RFC 7239, section 4).
    pub(super) fn forwarded(&self, host: &HeaderValue) -> HeaderValue {
        let told =
            self.first.get_or_init(|| Told { host: host.as_bytes().into(), forwarded: kept(self.element(host)) });
        if *told.host == *host.as_bytes() { told.forwarded.clone() } else { kept(self.element(host)) }
    }

    fn element(&self, host: &HeaderValue) -> String {
        let mut element = format!("for={}", node(self.address));
        // A host that was checked is ASCII without quotes and backslashes; only with a port or brackets it needs quotes.
        if let Some(host) = host.to_str().ok().filter(|host| !host.contains(['"', '\\'])) {
            let quote = if host.contains([':', '[']) { "\"" } else { "" };
            let _ = write!(element, ";host={quote}{host}{quote}");
        }
        element.push_str(";proto=");
        element.push_str(self.scheme.to_str().unwrap_or_default());
        element
    }
}

/// RFC 7239, section 6.
pub(super) fn node(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    }
}

/// A value whose clones share its octets from the first one on.
fn kept(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from_owner(text)).expect("addresses and hosts are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_is_told_as_itself_whichever_came_first() {
        let hop = Hop::new("::ffff:192.0.2.1".parse().expect("an address"), "http");
        assert_eq!(hop.forwarded_for(), "192.0.2.1");
        for _ in 0..2 {
            assert_eq!(hop.forwarded(&HeaderValue::from_static("a")), "for=192.0.2.1;host=a;proto=http");
            assert_eq!(hop.forwarded(&HeaderValue::from_static("b:1")), "for=192.0.2.1;host=\"b:1\";proto=http");
        }
    }

    #[test]
    fn addresses_of_ipv6_are_quoted_and_a_host_that_cannot_be_is_left_out() {
        let hop = Hop::new("2001:db8::1".parse().expect("an address"), "https");
        assert_eq!(hop.forwarded_for(), "2001:db8::1");
        assert_eq!(hop.forwarded(&HeaderValue::from_static("a\"")), "for=\"[2001:db8::1]\";proto=https");
    }
}
