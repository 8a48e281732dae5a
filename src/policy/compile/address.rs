//! Addresses to listen on, addresses of servers, and networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::config::{Fault, Parsed, Strict, Text, quoted};

pub(super) const LISTEN: Parsed<SocketAddr> =
    Parsed(&Text { what: "an address such as `127.0.0.1:8080`", pattern: "^[^/@]*:[0-9]+$" }, listen);
pub(super) const ADMIN: Parsed<SocketAddr> =
    Parsed(&Text { what: "an address such as `127.0.0.1:9180`", pattern: LISTEN.0.pattern }, listen);
pub(super) const NETWORK: Parsed<IpNet> =
    Parsed(&Text { what: "a network such as `10.0.0.0/8`", pattern: "^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$" }, network);
pub(super) const SERVER: Parsed<ServerAddress> = Parsed(
    &Text { what: "an address such as `http://127.0.0.1:8000`", pattern: "^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@ ]+/?$" },
    server,
);
pub(super) const SERVER_NAME: Strict<String> = Strict(
    &Text { what: "a name such as `agent.example.com`", pattern: "^[A-Za-z0-9_.:\\[\\]-]{1,255}$" },
    server_name,
);
pub(super) const HOST: Strict<String> =
    Strict(&Text { what: "a host such as `api.example.com`", pattern: "^[A-Za-z0-9_.:\\[\\]-]+$" }, host_of_match);

/// `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080` (IPv4) or `:8080` (all IPv4 addresses). Port 0: any free one.
pub(super) fn listen(text: &str) -> Result<SocketAddr, Fault> {
    let wrong = || Fault::new(format!("must be an address such as `127.0.0.1:8080`, not `{}`", quoted(text)));
    if text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok() {
        return Err(wrong().hint(format!("write `127.0.0.1:{text}`, or `0.0.0.0:{text}` for all addresses")));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port_number(port, 0).ok_or_else(wrong)?;
    let ip = match host {
        "" => Ipv4Addr::UNSPECIFIED.into(),
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        _ => match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => inner.parse::<Ipv6Addr>().map_err(|_| wrong())?.into(),
            None if host.contains(':') => return Err(wrong().hint("write IPv6 as in `[::1]:8080`")),
            None => host.parse::<Ipv4Addr>().map_err(|_| wrong())?.into(),
        },
    };
    Ok(SocketAddr::new(ip, port))
}

/// Whether two listeners would meet on one port. Port 0 never does.
pub(super) fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

/// `10.0.0.0/8`, `fd00::/8`, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, Fault> {
    let one = text.parse::<IpAddr>().map(IpNet::from);
    let network = one.or_else(|_| text.parse::<IpNet>());
    network.map(|network| network.trunc()).map_err(|_| {
        Fault::new(format!("must be a network such as `10.0.0.0/8` or an address, not `{}`", quoted(text)))
    })
}

/// Host and port of a server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServerAddress {
    /// Without brackets.
    pub host: String,
    pub port: u16,
    pub https: bool,
}

/// `http://host` or `https://host:port`, with nothing after it but one slash.
pub(super) fn server(text: &str) -> Result<ServerAddress, Fault> {
    const FORM: &str = "must be `http://host:port` or `https://host:port`";
    let Some((scheme, rest)) = text.split_once("://") else {
        // Not quoted when it may hold a password.
        let fault = Fault::new(format!("{FORM}, and begin with `http://` or `https://`"));
        return Err(if text.contains('@') { fault } else { fault.hint(format!("write `http://{}`", quoted(text))) });
    };
    let (https, default_port) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (false, 80),
        "https" => (true, 443),
        _ => {
            return Err(Fault::new(format!("{FORM}; `{}` is no scheme for servers", quoted(scheme))));
        }
    };
    if rest.contains('@') {
        return Err(Fault::new(format!("{FORM}, without user or password")));
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(Fault::new(format!("{FORM}, without path or query: requests keep their own path")));
    }
    let (host, port) = split_port(authority);
    let host = check_host(host).ok_or_else(|| Fault::new(format!("{FORM}; `{}` is no host", quoted(host))))?;
    let port = match port {
        None => default_port,
        Some(port) => port_number(port, 1)
            .ok_or_else(|| Fault::new(format!("{FORM}; `{}` is no port from 1 to 65535", quoted(port))))?,
    };
    Ok(ServerAddress { host, port, https })
}

/// The name in a server's certificate.
pub(super) fn server_name(text: &str) -> Result<String, Fault> {
    check_host(text)
        .ok_or_else(|| Fault::new(format!("must be a name such as `agent.example.com`, not `{}`", quoted(text))))
}

/// A host as `Host` names it, in lower case and without the port.
pub(super) fn host_of_match(text: &str) -> Result<String, Fault> {
    let (host, port) = split_port(text);
    if text.contains('*') {
        return Err(Fault::new("must be a whole host name: patterns of hosts are not read"));
    }
    if check_host(host).is_none() || port.is_some_and(|port| port_number(port, 0).is_none()) {
        return Err(Fault::new(format!("must be a host name such as `api.example.com`, not `{}`", quoted(text))));
    }
    Ok(host.to_ascii_lowercase())
}

/// Host (with its brackets, for IPv6) and port.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let after_brackets = authority.rfind(']').map_or(0, |end| end + 1);
    match authority[after_brackets..].rfind(':') {
        Some(colon) => {
            let colon = after_brackets + colon;
            (&authority[..colon], Some(&authority[colon + 1..]))
        }
        None => (authority, None),
    }
}

/// The host without brackets.
fn check_host(host: &str) -> Option<String> {
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?;
        return Some(address.to_string());
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let sound = !host.is_empty() && host.len() <= 253 && host.chars().all(allowed);
    // What looks like an IPv4 address must be one: `10.0.0.300` would be looked up as a name.
    let numeric =
        host.rsplit('.').next().is_some_and(|last| !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()));
    (sound && !host.starts_with('.') && !host.contains("..") && (!numeric || host.parse::<Ipv4Addr>().is_ok()))
        .then(|| host.to_ascii_lowercase())
}

fn port_number(text: &str, least: u16) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port >= least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_on() {
        for (text, meant) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]:8080", "[::1]:8080"),
            ("localhost:0", "127.0.0.1:0"),
            (":8080", "0.0.0.0:8080"),
        ] {
            assert_eq!(listen(text).expect(text).to_string(), meant);
        }
        for text in ["", "8080", "127.0.0.1", "::1:8080", "[::1]", "host:80", "1.2.3.4:65536", "1.2.3.4:+1", "1.2.3.4:"]
        {
            listen(text).expect_err(text);
        }
    }

    #[test]
    fn all_addresses_of_a_port_collide_with_each_of_them() {
        let collide = |a: &str, b: &str| collide(listen(a).expect(a), listen(b).expect(b));
        assert!(collide("127.0.0.1:80", ":80") && collide("127.0.0.1:80", "127.0.0.1:80"));
        assert!(!collide("127.0.0.1:80", "127.0.0.2:80") && !collide(":0", ":0") && !collide(":80", ":81"));
    }

    #[test]
    fn servers_have_scheme_host_and_port() {
        for (text, host, port) in [
            ("https://agents", "agents", 443),
            ("https://agents:8443", "agents", 8443),
            ("http://127.0.0.1:8000", "127.0.0.1", 8000),
            ("http://agents", "agents", 80),
            ("HTTP://Agents.local:81/", "agents.local", 81),
            ("http://[::1]:8000", "::1", 8000),
        ] {
            let https = text.starts_with("https");
            assert_eq!(server(text).expect(text), ServerAddress { host: host.to_owned(), port, https });
        }
        for text in [
            "agents:80",
            "http://",
            "http://a:0",
            "http://a:x",
            "http://a b",
            "http://a/x",
            "http://a?x",
            "http://[::1",
            "ftp://a",
            "http://10.0.0.300",
            "http://a:",
            "http://::1:80",
            "http://é",
        ] {
            server(text).expect_err(text);
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_without_being_told() {
        for text in ["http://me:s3cret@a:80", "me:s3cret@a:80"] {
            assert!(!format!("{:?}", server(text).expect_err(text)).contains("s3cret"));
        }
    }

    #[test]
    fn hosts_of_a_match_ignore_case_and_port() {
        assert_eq!(host_of_match("API.example.com:8080").expect("a host"), "api.example.com");
        assert_eq!(host_of_match("[::1]:80").expect("a host"), "[::1]");
        for text in ["", "*.example.com", "a/b", "a:b", ":80"] {
            host_of_match(text).expect_err(text);
        }
    }

    #[test]
    fn a_plain_address_is_a_network_of_one() {
        assert_eq!(network("10.1.2.3").expect("an address").to_string(), "10.1.2.3/32");
        assert_eq!(network("10.1.2.3/8").expect("a network").to_string(), "10.0.0.0/8");
        network("10.0.0.0/33").expect_err("too long a prefix");
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[a-z0-9:/\\[\\]@.é*-]{0,30}") {
            let _ = (listen(&text), server(&text), host_of_match(&text), network(&text));
            let _ = server(&format!("http://{text}"));
        }
    }
}
