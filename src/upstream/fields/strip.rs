//! Fields about one connection, which end at it (RFC 9110, section 7.6.1).

use http::{HeaderMap, HeaderName, header};

use super::KnownFields;
use super::present::{Field, Present};

/// Removed even where no `Connection` names them. The fields of proxy authentication concern the next hop only
/// (RFC 9110, section 11.7).
static OF_CONNECTION: [(Field, HeaderName); 10] = [
    (Field::Connection, header::CONNECTION),
    (Field::KeepAlive, HeaderName::from_static("keep-alive")),
    (Field::ProxyConnection, HeaderName::from_static("proxy-connection")),
    (Field::Te, header::TE),
    (Field::TransferEncoding, header::TRANSFER_ENCODING),
    (Field::Upgrade, header::UPGRADE),
    (Field::Http2Settings, HeaderName::from_static("http2-settings")),
    (Field::ProxyAuthenticate, header::PROXY_AUTHENTICATE),
    (Field::ProxyAuthorization, header::PROXY_AUTHORIZATION),
    (Field::ProxyAuthenticationInfo, HeaderName::from_static("proxy-authentication-info")),
];

/// Removes them, and with them what `Connection` names, but for what must not be taken away.
pub(super) fn connection_fields(headers: &mut HeaderMap, present: Present, known: Option<&KnownFields>) {
    if present.has(Field::Connection) && !is_keep_alive(headers) {
        for name in nominated(headers) {
            if !(is_end_to_end(&name) || known.is_some_and(|known| known.reads(&name))) {
                headers.remove(name);
            }
        }
    }
    for (_, name) in OF_CONNECTION.iter().filter(|(field, _)| present.has(*field)) {
        headers.remove(name);
    }
}

/// Whether `TE` has `trailers`, the one thing it says that can be kept across hops.
pub(super) fn accepts_trailers(headers: &HeaderMap) -> bool {
    let members =
        headers.get_all(header::TE).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    members.into_iter().any(|member| member.trim().eq_ignore_ascii_case("trailers"))
}

/// Whether `Connection` is one line with the word that it nearly always has, and which is removed in any case.
fn is_keep_alive(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::CONNECTION).iter();
    let first = lines.next().is_some_and(|line| line.as_bytes().eq_ignore_ascii_case(b"keep-alive"));
    first && lines.next().is_none()
}

/// What is removed because `Connection` names it, and only then.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(header::CONNECTION).iter().filter_map(|line| line.to_str().ok());
    let names = lines.flat_map(|line| line.split(',')).map(str::trim);
    // By far the most common member, and removed in any case.
    let others = names.filter(|name| !name.eq_ignore_ascii_case("keep-alive"));
    // What is no field name names no field.
    others.filter_map(|name| name.parse().ok()).collect()
}

/// Fields that decide how an answer is understood; a `Connection` that names them is a mistake or a trick.
fn is_end_to_end(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONTENT_LENGTH
            | header::CONTENT_TYPE
            | header::CONTENT_ENCODING
            | header::CACHE_CONTROL
            | header::SET_COOKIE
    )
}
