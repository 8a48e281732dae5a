//! Whether a request head can be read in only one way.
//!
//! A head that two servers could read differently is refused, for one of them might take another host, another end of the
//! body or another connection for it (request smuggling; RFC 9112, sections 3.2 and 6.3, RFC 9113, section 8).
//!
//! This sees the head as the HTTP library hands it over. hyper's server silently leaves out a `Content-Length` beside
//! `Transfer-Encoding: chunked`, and the second of two equal lengths: those have to be looked for in the octets of the head.

use std::fmt;
use std::net::Ipv6Addr;

use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Uri, Version, header};

/// The most fields of a head in HTTP/1, both ways. It is what hyper reads without a table made for each head, which would
/// cost more than all else that is done with it.
pub const MAX_FIELDS: usize = 100;

/// Why a head is refused with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadHead {
    MissingHost,
    SeveralHosts,
    MalformedHost,
    HostsDiffer,
    UserInformation,
    ConnectMethod,
    MisplacedAsterisk,
    MalformedTarget,
    TargetBeyondAscii,
    UnknownTransferCoding,
    TransferEncodingInHttp10,
    BothFramings,
    SeveralContentLengths,
    MalformedContentLength,
    ConnectionFieldInHttp2,
}

impl fmt::Display for BadHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MissingHost => "the request names no host",
            Self::SeveralHosts => "the request has several Host fields",
            Self::MalformedHost => "the host is not a name or address with an optional port",
            Self::HostsDiffer => "the Host field and the request target name different hosts",
            Self::UserInformation => "the request target has user information",
            Self::ConnectMethod => "the method CONNECT is not offered",
            Self::MisplacedAsterisk => "the request target * is only for OPTIONS",
            Self::MalformedTarget => "the request target is neither a path nor an http or https URI",
            Self::TargetBeyondAscii => "the request target has octets beyond ASCII that are not escaped",
            Self::UnknownTransferCoding => "Transfer-Encoding is not exactly one `chunked`",
            Self::TransferEncodingInHttp10 => "HTTP/1.0 has no Transfer-Encoding",
            Self::BothFramings => "the request has both Transfer-Encoding and Content-Length",
            Self::SeveralContentLengths => "the request has several Content-Length fields",
            Self::MalformedContentLength => "Content-Length is not one whole number",
            Self::ConnectionFieldInHttp2 => "HTTP/2 has no fields about the connection",
        })
    }
}

impl std::error::Error for BadHead {}

/// Checks the parts of a head that decide where the request goes and where it ends.
///
/// # Errors
/// The first ambiguity found; see [`BadHead`].
pub fn check_head(version: Version, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), BadHead> {
    check_target(version, method, uri)?;
    let lines = Lines::of(headers);
    check_host(version, uri, &lines)?;
    check_length(version, headers, &lines)
}

/// The lines of a head that are checked, found in one pass.
#[derive(Default)]
struct Lines<'h> {
    host: Option<&'h HeaderValue>,
    several_hosts: bool,
    length: Option<&'h HeaderValue>,
    several_lengths: bool,
    transfer_encoding: bool,
    /// Whether there is any field about the connection (RFC 9113, section 8.2.2).
    of_connection: bool,
}

impl<'h> Lines<'h> {
    fn of(headers: &'h HeaderMap) -> Self {
        let mut lines = Self::default();
        for (name, value) in headers {
            match *name {
                header::HOST => lines.several_hosts |= lines.host.replace(value).is_some(),
                header::CONTENT_LENGTH => lines.several_lengths |= lines.length.replace(value).is_some(),
                header::TRANSFER_ENCODING => (lines.transfer_encoding, lines.of_connection) = (true, true),
                header::CONNECTION | header::UPGRADE => lines.of_connection = true,
                _ => lines.of_connection |= matches!(name.as_str(), "keep-alive" | "proxy-connection"),
            }
        }
        lines
    }
}

/// Whether the client asks for another protocol that the gateway lets through. HTTP/2 by upgrade is obsolete
/// (RFC 9113, section 3.1), and would take the requests after it out of the gateway's sight.
#[must_use]
pub fn asks_upgrade(headers: &HeaderMap) -> bool {
    let names = |field, word: &str| {
        let lines = headers.get_all(field).iter().filter_map(|line: &HeaderValue| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
    };
    headers.contains_key(header::UPGRADE) && names(header::CONNECTION, "upgrade") && !names(header::UPGRADE, "h2c")
}

/// The host that the request is for, port included: that of the target, else the `Host` field. Neither in HTTP/1.0.
#[must_use]
pub fn host<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
    let field = || headers.get(header::HOST).and_then(|host| host.to_str().ok());
    uri.authority().map(Authority::as_str).or_else(field)
}

fn check_target(version: Version, method: &Method, uri: &Uri) -> Result<(), BadHead> {
    if method == Method::CONNECT {
        return Err(BadHead::ConnectMethod);
    }
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    // A URI has none (RFC 3986, section 2): a strict server refuses it, others read it in their own way.
    if !target.is_ascii() {
        return Err(BadHead::TargetBeyondAscii);
    }
    // Only an absolute target has no path before its query; in HTTP/2 the two stand apart (RFC 9113, section 8.3.1).
    if version >= Version::HTTP_2 && target.starts_with('?') {
        return Err(BadHead::MalformedTarget);
    }
    if uri.path() == "*" && method != Method::OPTIONS {
        return Err(BadHead::MisplacedAsterisk);
    }
    match uri.scheme_str() {
        Some("http" | "https") => Ok(()),
        Some(_) => Err(BadHead::MalformedTarget),
        // `example.com:80` alone is for CONNECT.
        None if uri.authority().is_some() && version < Version::HTTP_2 => Err(BadHead::MalformedTarget),
        None => Ok(()),
    }
}

fn check_host(version: Version, uri: &Uri, lines: &Lines<'_>) -> Result<(), BadHead> {
    if lines.several_hosts {
        return Err(BadHead::SeveralHosts);
    }
    let field =
        lines.host.map(|line| line.to_str().ok().and_then(split_host).ok_or(BadHead::MalformedHost)).transpose()?;
    let target = uri.authority().map(Authority::as_str);
    if target.is_some_and(|authority| authority.contains('@')) {
        return Err(BadHead::UserInformation);
    }
    let target = target.map(|authority| split_host(authority).ok_or(BadHead::MalformedHost)).transpose()?;
    match (field, target) {
        (None, None) if version == Version::HTTP_10 => Ok(()),
        (None, None) => Err(BadHead::MissingHost),
        // An absolute target does not replace the Host field (RFC 9112, section 3.2.2).
        (None, Some(_)) if version == Version::HTTP_11 => Err(BadHead::MissingHost),
        (Some(field), Some(target)) => {
            let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
            let same =
                field.0.eq_ignore_ascii_case(target.0) && field.1.unwrap_or(default) == target.1.unwrap_or(default);
            if same { Ok(()) } else { Err(BadHead::HostsDiffer) }
        }
        _ => Ok(()),
    }
}

/// Name (or address) and port of `host[:port]`; `None` when it is anything else, as empty.
///
/// Stricter than RFC 3986, section 3.2.2, which also allows escapes and punctuation in names: no host in use has them,
/// and servers disagree about what they mean.
fn split_host(text: &str) -> Option<(&str, Option<u16>)> {
    let (name, port) = if text.starts_with('[') {
        let end = text.find(']')?;
        text[1..end].parse::<Ipv6Addr>().ok()?;
        text.split_at(end + 1)
    } else {
        let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b'~');
        if name.is_empty() || !name.bytes().all(fits) {
            return None;
        }
        (name, port)
    };
    if port.is_empty() {
        return Some((name, None));
    }
    let digits = port.strip_prefix(':')?;
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    // An empty port is the default one (RFC 3986, section 3.2.3).
    if digits.is_empty() { Some((name, None)) } else { digits.parse().ok().map(|port| (name, Some(port))) }
}

fn check_length(version: Version, headers: &HeaderMap, lines: &Lines<'_>) -> Result<(), BadHead> {
    if version >= Version::HTTP_2 && lines.of_connection {
        return Err(BadHead::ConnectionFieldInHttp2);
    }
    if lines.transfer_encoding {
        if version == Version::HTTP_10 {
            return Err(BadHead::TransferEncodingInHttp10);
        }
        if !is_chunked(headers) {
            return Err(BadHead::UnknownTransferCoding);
        }
        if lines.length.is_some() {
            return Err(BadHead::BothFramings);
        }
    }
    if lines.several_lengths {
        return Err(BadHead::SeveralContentLengths);
    }
    match lines.length {
        Some(length) if whole_number(length).is_none() => Err(BadHead::MalformedContentLength),
        _ => Ok(()),
    }
}

/// Whether `Transfer-Encoding` is exactly one `chunked`.
#[must_use]
pub fn is_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let first = codings.next().is_some_and(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    first && codings.next().is_none()
}

/// A `Content-Length` of digits only (RFC 9110, section 8.6), in octets.
#[must_use]
pub fn whole_number(value: &HeaderValue) -> Option<u64> {
    let digits = value.as_bytes();
    // `parse` would take a plus sign.
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    number.filter(|_| !digits.is_empty())
}

/// The size at the beginning of the line before a chunk (RFC 9112, section 7.1), in octets; what follows it is not looked at.
#[must_use]
pub fn chunk_size(line: &[u8]) -> Option<(u64, &[u8])> {
    let digits = line.iter().position(|octet| !octet.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, rest) = line.split_at(digits);
    Some((u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(version: Version, method: &str, uri: &str, fields: &[(&'static str, &str)]) -> Result<(), BadHead> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).expect("a field value"));
        }
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        check_head(version, &method, &uri.parse().expect("a target"), &headers)
    }

    fn get(fields: &[(&'static str, &str)]) -> Result<(), BadHead> {
        check(Version::HTTP_11, "GET", "/", fields)
    }

    const HOST: (&str, &str) = ("host", "a.example");

    #[test]
    fn an_ordinary_head_is_good() {
        assert_eq!(get(&[HOST]), Ok(()));
        assert_eq!(get(&[HOST, ("content-length", "12")]), Ok(()));
        assert_eq!(get(&[HOST, ("transfer-encoding", "Chunked")]), Ok(()));
        assert_eq!(check(Version::HTTP_10, "GET", "/", &[]), Ok(()));
        assert_eq!(check(Version::HTTP_11, "OPTIONS", "*", &[HOST]), Ok(()));
        assert_eq!(check(Version::HTTP_2, "GET", "http://a.example/", &[]), Ok(()));
        assert_eq!(check(Version::HTTP_2, "GET", "/", &[HOST]), Ok(()));
    }

    #[test]
    fn there_is_one_well_formed_host() {
        assert_eq!(get(&[]), Err(BadHead::MissingHost));
        assert_eq!(check(Version::HTTP_2, "GET", "/", &[]), Err(BadHead::MissingHost));
        assert_eq!(check(Version::HTTP_11, "GET", "http://a.example/", &[]), Err(BadHead::MissingHost));
        assert_eq!(get(&[HOST, HOST]), Err(BadHead::SeveralHosts));
        assert_eq!(check(Version::HTTP_10, "GET", "/", &[HOST, HOST]), Err(BadHead::SeveralHosts));
        for host in [
            "", ":80", "a b", "a/b", "u@a", "a,b", "a:b", "a:+1", "a:99999", "a:1:2", "[::1", "[x]", "[::1]x", "::1",
            "\u{e4}", "%61",
        ] {
            assert_eq!(get(&[("host", host)]), Err(BadHead::MalformedHost), "{host}");
        }
        for host in ["a", "A_b-c.example.", "a:", "a:80", "10.0.0.1:1", "[::1]", "[::1]:80"] {
            assert_eq!(get(&[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn host_and_target_name_the_same() {
        for version in [Version::HTTP_11, Version::HTTP_2] {
            assert_eq!(check(version, "GET", "http://A.example:80/x", &[HOST]), Ok(()));
            assert_eq!(check(version, "GET", "https://a.example/x", &[("host", "a.example:443")]), Ok(()));
            assert_eq!(check(version, "GET", "http://b.example/", &[HOST]), Err(BadHead::HostsDiffer));
            assert_eq!(check(version, "GET", "http://a.example:81/", &[HOST]), Err(BadHead::HostsDiffer));
            assert_eq!(check(version, "GET", "http://u:p@a.example/", &[HOST]), Err(BadHead::UserInformation));
        }
        let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("b"))]);
        assert_eq!(host(&Uri::from_static("http://a/"), &headers), Some("a"));
        assert_eq!(host(&Uri::from_static("/"), &headers), Some("b"));
        assert_eq!(host(&Uri::from_static("/"), &HeaderMap::new()), None);
    }

    #[test]
    fn only_paths_and_http_uris_are_targets() {
        assert_eq!(check(Version::HTTP_11, "CONNECT", "a.example:80", &[HOST]), Err(BadHead::ConnectMethod));
        assert_eq!(check(Version::HTTP_11, "GET", "a.example:80", &[HOST]), Err(BadHead::MalformedTarget));
        assert_eq!(check(Version::HTTP_11, "GET", "ftp://a.example/", &[HOST]), Err(BadHead::MalformedTarget));
        assert_eq!(check(Version::HTTP_11, "GET", "*", &[HOST]), Err(BadHead::MisplacedAsterisk));
    }

    #[test]
    fn the_end_of_the_body_is_told_once() {
        for (fields, problem) in [
            (&[("transfer-encoding", "gzip, chunked")][..], BadHead::UnknownTransferCoding),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], BadHead::UnknownTransferCoding),
            (&[("transfer-encoding", "identity")], BadHead::UnknownTransferCoding),
            (&[("transfer-encoding", "xchunked")], BadHead::UnknownTransferCoding),
            (&[("transfer-encoding", "")], BadHead::UnknownTransferCoding),
            (&[("transfer-encoding", "chunked"), ("content-length", "1")], BadHead::BothFramings),
            (&[("content-length", "1"), ("content-length", "1")], BadHead::SeveralContentLengths),
            (&[("content-length", "1, 1")], BadHead::MalformedContentLength),
            (&[("content-length", "+1")], BadHead::MalformedContentLength),
            (&[("content-length", "0x1")], BadHead::MalformedContentLength),
            (&[("content-length", "")], BadHead::MalformedContentLength),
            (&[("content-length", "99999999999999999999")], BadHead::MalformedContentLength),
        ] {
            assert_eq!(get(&[&[HOST], fields].concat()), Err(problem), "{fields:?}");
        }
        let chunked = [HOST, ("transfer-encoding", "chunked")];
        assert_eq!(check(Version::HTTP_10, "GET", "/", &chunked), Err(BadHead::TransferEncodingInHttp10));
    }

    #[test]
    fn http2_has_no_fields_about_the_connection() {
        for name in ["connection", "transfer-encoding", "upgrade", "keep-alive", "proxy-connection"] {
            let head = check(Version::HTTP_2, "GET", "http://a.example/", &[(name, "chunked")]);
            assert_eq!(head, Err(BadHead::ConnectionFieldInHttp2), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_host_is_read_without_panic(host in "[\\[\\]:.@a0\u{e4}]*", other in "\\PC*") {
            let _ = split_host(&host);
            let _ = split_host(&other);
        }
    }
}
