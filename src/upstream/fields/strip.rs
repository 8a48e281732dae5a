//! Fields about one connection, which end at it (RFC 9110, section 7.6.1).

use http::{HeaderMap, HeaderName, header};

use super::KnownFields;

/// Removed even where no `Connection` names them. The fields of proxy authentication concern the next hop only
/// (RFC 9110, section 11.7).
const OF_CONNECTION: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-authentication-info"),
];

/// Removes them, and with them what `Connection` names, but for what must not be taken away.
pub(super) fn connection_fields(headers: &mut HeaderMap, known: Option<&KnownFields>) {
    for name in nominated(headers) {
        if !(is_end_to_end(&name) || known.is_some_and(|known| known.reads(&name))) {
            headers.remove(name);
        }
    }
    for name in OF_CONNECTION {
        headers.remove(name);
    }
}

/// Whether `TE` has `trailers`, the one thing it says that can be kept across hops.
pub(super) fn accepts_trailers(headers: &HeaderMap) -> bool {
    let members =
        headers.get_all(header::TE).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    members.into_iter().any(|member| member.trim().eq_ignore_ascii_case("trailers"))
}

fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(header::CONNECTION).iter().filter_map(|line| line.to_str().ok());
    // What is no field name names no field.
    lines.flat_map(|line| line.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
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
