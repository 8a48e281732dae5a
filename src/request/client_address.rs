//! Whose request it is, as told by proxies that are trusted.
//!
//! The peer of the connection is the client unless it is a trusted proxy. Then the hops that it and the proxies before it
//! have written down are followed from the last one back to the first that is not trusted itself. `X-Forwarded-For` counts
//! where it is present, else `Forwarded` (RFC 7239). A hop that is no address, `unknown` or hidden ends the walk at the
//! proxy that wrote it down.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderValue, header};
use ipnet::IpNet;

/// More hops than any honest chain has; what lies beyond is not read.
const MAX_HOPS: usize = 32;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// Whose request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// IPv4 addresses mapped into IPv6 have become IPv4.
    pub address: IpAddr,
    /// Whether what the peer says about the way to it is believed.
    pub peer_trusted: bool,
}

/// Finds the client of a request that came from `peer`.
#[must_use]
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Client {
    let peer_trusted = is_trusted(peer, trusted);
    let address = if !peer_trusted {
        peer.to_canonical()
    } else if headers.contains_key(X_FORWARDED_FOR) {
        let hops = backwards(headers.get_all(X_FORWARDED_FOR).iter().rev());
        follow(peer, hops.map(address), trusted)
    } else {
        let hops = backwards(headers.get_all(header::FORWARDED).iter().rev());
        follow(peer, hops.map(forwarded_for), trusted)
    };
    Client { address, peer_trusted }
}

/// The first hop that is not trusted, or the last one that can be read.
fn follow(peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    for hop in hops.take(MAX_HOPS).map_while(|hop| hop) {
        client = hop;
        if !is_trusted(client, trusted) {
            break;
        }
    }
    client
}

/// Whether an address belongs to a trusted proxy.
fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|net| net.contains(&address))
}

/// The members of a list field (RFC 9110, section 5.6.1), last one first; empty ones are no members.
///
/// Octets, because a client may have written some that are not ASCII before what the proxies wrote.
fn backwards<'h>(lines: impl Iterator<Item = &'h HeaderValue>) -> impl Iterator<Item = &'h [u8]> {
    lines
        .flat_map(|line| Backwards { rest: Some(line.as_bytes()), separator: b',' })
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// Splits from the end at separators outside of quotes. Escapes within quotes are not known to it: no address has one.
struct Backwards<'h> {
    rest: Option<&'h [u8]>,
    separator: u8,
}

impl<'h> Iterator for Backwards<'h> {
    type Item = &'h [u8];

    fn next(&mut self) -> Option<&'h [u8]> {
        let rest = self.rest?;
        let mut quoted = false;
        let cut = rest.iter().rposition(|&octet| {
            quoted ^= octet == b'"';
            octet == self.separator && !quoted
        });
        self.rest = cut.map(|cut| &rest[..cut]);
        Some(cut.map_or(rest, |cut| &rest[cut + 1..]))
    }
}

/// The `for` parameter of one element of `Forwarded`.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut pairs = Backwards { rest: Some(element), separator: b';' };
    let node = pairs.find_map(|pair| {
        let (name, node) = pair.trim_ascii().split_at_checked("for=".len())?;
        name.eq_ignore_ascii_case(b"for=").then_some(node)
    })?;
    address(node.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(node))
}

/// An address with or without a port, IPv6 with or without brackets.
fn address(node: &[u8]) -> Option<IpAddr> {
    let node = std::str::from_utf8(node).ok()?;
    let bracketed = || node.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = || node.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    node.parse().ok().or_else(bracketed).or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(peer: &str, fields: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).expect("a field value"));
        }
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().expect("a network"));
        client_address(peer.parse().expect("an address"), &headers, &trusted).address.to_string()
    }

    #[test]
    fn a_peer_that_is_not_trusted_is_the_client() {
        assert_eq!(client("192.0.2.1", &[("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=1.1.1.1")]), "192.0.2.1");
        assert_eq!(client("::ffff:192.0.2.1", &[]), "192.0.2.1");
    }

    #[test]
    fn the_last_hop_that_is_not_trusted_is_the_client() {
        let lines = [("x-forwarded-for", "6.6.6.6, 1.1.1.1"), ("x-forwarded-for", " ,10.9.9.9 ,")];
        assert_eq!(client("10.0.0.1", &lines), "1.1.1.1");
        assert_eq!(client("::ffff:10.0.0.1", &lines), "1.1.1.1");
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", "10.0.0.3, 10.0.0.2")]), "10.0.0.3");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn only_a_peer_of_a_trusted_network_is_believed() {
        let trusted = ["10.0.0.0/8".parse().expect("a network")];
        for (peer, believed) in [("10.0.0.1", true), ("::ffff:10.0.0.1", true), ("192.0.2.1", false)] {
            let peer = peer.parse().expect("an address");
            assert_eq!(client_address(peer, &HeaderMap::new(), &trusted).peer_trusted, believed, "{peer}");
            assert!(!client_address(peer, &HeaderMap::new(), &[]).peer_trusted, "{peer}");
        }
    }

    #[test]
    fn hops_may_have_ports_and_brackets() {
        for (hop, expected) in [
            ("1.1.1.1:80", "1.1.1.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("::ffff:1.1.1.1", "1.1.1.1"),
        ] {
            assert_eq!(client("10.0.0.1", &[("x-forwarded-for", hop)]), expected);
        }
    }

    #[test]
    fn nonsense_ends_the_walk_at_the_proxy_that_wrote_it_down() {
        for hop in ["unknown", "_hidden", "1.1.1", "\u{e4}", "1.1.1.1:x", "\"1.1.1.1\""] {
            assert_eq!(client("10.0.0.1", &[("x-forwarded-for", &format!("6.6.6.6, {hop}, 10.0.0.2"))]), "10.0.0.2");
        }
    }

    #[test]
    fn forwarded_is_read_where_the_other_is_absent() {
        let forwarded =
            "for=6.6.6.6, For=\"[2001:db8:cafe::17]:4711\";host=\"a,b;for=x\";proto=http, by=x;for=10.0.0.2";
        assert_eq!(client("10.0.0.1", &[("forwarded", forwarded)]), "2001:db8:cafe::17");
        assert_eq!(client("10.0.0.1", &[("forwarded", forwarded), ("x-forwarded-for", "1.1.1.1")]), "1.1.1.1");
        for hop in ["for=unknown", "for=_x", "proto=http", "for=\"1.1.1.1", ""] {
            assert_eq!(client("10.0.0.1", &[("forwarded", hop)]), "10.0.0.1", "{hop}");
        }
    }

    #[test]
    fn what_a_client_writes_before_the_proxies_does_not_hide_it() {
        for before in ["\u{e4}", "\"", "\\\"", "for=\""] {
            assert_eq!(client("10.0.0.1", &[("x-forwarded-for", &format!("{before}, 1.1.1.1, 10.0.0.2"))]), "1.1.1.1");
            assert_eq!(
                client("10.0.0.1", &[("forwarded", &format!("{before}, for=1.1.1.1, for=10.0.0.2"))]),
                "1.1.1.1"
            );
        }
    }

    #[test]
    fn a_chain_without_end_is_not_followed() {
        let chain = format!("1.1.1.1, {}", ["10.1.1.1"; 100].join(","));
        assert_eq!(client("10.0.0.1", &[("x-forwarded-for", &chain)]), "10.1.1.1");
    }

    proptest! {
        #[test]
        fn any_field_is_read_without_panic(value in "[ -~\u{e4}]*", hops in "([0-9.:;,=\"\\[\\]]|for)*") {
            for text in [&value, &hops] {
                client("10.0.0.1", &[("x-forwarded-for", text)]);
                client("10.0.0.1", &[("forwarded", text)]);
            }
        }
    }
}
