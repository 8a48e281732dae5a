//! Interim responses (1xx) of a server, which a proxy passes on (RFC 9110, section 15.2).
//!
//! hyper's server sends none but its own 100, so they are left with the exchange, and the client's connection writes
//! them past hyper. To clients of HTTP/2 they cannot be passed on; those responses are optional, and the final one is
//! not touched by it.

use std::sync::Arc;

use http::{HeaderMap, Request, StatusCode, header};

use crate::request::exchange::Exchange;
use crate::upstream::upload::Upload;

/// Has the interim responses to `request` left with `exchange`.
pub(super) fn pass_on(request: &mut Request<Upload>, exchange: Arc<Exchange>) {
    hyper::ext::on_informational(request, move |response| {
        // 100 is the gateway's own to send, when it reads the body; 101 is final.
        if response.status() > StatusCode::SWITCHING_PROTOCOLS {
            exchange.leave_interim(&written(response.status(), response.headers()));
        }
    });
}

fn written(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let ended_here = [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::UPGRADE];
    let phrase = status.canonical_reason().unwrap_or("");
    let mut bytes = format!("HTTP/1.1 {} {phrase}\r\n", status.as_u16()).into_bytes();
    for (name, value) in headers.iter().filter(|(name, _)| !ended_here.contains(name)) {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn fields_about_the_connection_stay_behind() {
        let mut headers = HeaderMap::new();
        headers.insert(header::LINK, HeaderValue::from_static("</a.css>"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        assert_eq!(written(StatusCode::EARLY_HINTS, &headers), b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
    }
}
