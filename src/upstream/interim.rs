//! Interim responses (1xx) of a server, which a proxy passes on (RFC 9110, section 15.2).
//!
//! hyper's server sends none but its own 100, so they are left with the exchange, and the client's connection writes
//! them past hyper. To clients of HTTP/2 they cannot be passed on; those responses are optional, and the final one is
//! not touched by it.

use std::sync::Arc;

use http::{HeaderMap, Request, StatusCode};

use crate::request::exchange::Exchange;
use crate::upstream::upload::Upload;

/// Fields that end at the gateway.
const END_HERE: [&str; 4] = ["connection", "transfer-encoding", "content-length", "upgrade"];

/// Leaves an interim response with `exchange`. 100 is the gateway's own to send, when it reads the body; 101 is final.
pub fn leave(exchange: &Exchange, status: StatusCode, headers: &HeaderMap) {
    if status > StatusCode::SWITCHING_PROTOCOLS {
        exchange.leave_interim(&written(status, headers));
    }
}

/// Has the interim responses to a request over HTTP/2 left with `exchange`.
pub fn leave_with(request: &mut Request<Upload>, exchange: Arc<Exchange>) {
    hyper::ext::on_informational(request, move |response| leave(&exchange, response.status(), response.headers()));
}

fn written(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let phrase = status.canonical_reason().unwrap_or("");
    let mut octets = format!("HTTP/1.1 {} {phrase}\r\n", status.as_u16()).into_bytes();
    for (name, value) in headers.iter().filter(|(name, _)| !END_HERE.contains(&name.as_str())) {
        octets.extend_from_slice(name.as_str().as_bytes());
        octets.extend_from_slice(b": ");
        octets.extend_from_slice(value.as_bytes());
        octets.extend_from_slice(b"\r\n");
    }
    octets.extend_from_slice(b"\r\n");
    octets
}
