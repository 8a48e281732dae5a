//! Interim responses (1xx) of a server, which a proxy passes on (RFC 9110, section 15.2).
//!
//! hyper's server sends none but its own 100, so they are left with the exchange, and the client's connection writes
//! them past hyper. To clients of HTTP/2 they cannot be passed on; those responses are optional, and the final one is
//! not touched by it.
//!
//! hyper can be asked to tell of them, but what that takes for each request costs more than all other handling of its
//! connection, and hardly a request has one. So the octets of a response are looked at where it begins: only if they say
//! `HTTP/1.1 1` there is more to do. hyper reads them all the same, and is the one who judges them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Request, StatusCode};
use httparse::Response as Head;

use crate::request::exchange::Exchange;
use crate::sync::Mutex;
use crate::upstream::upload::Upload;

const BEGINNING: &[u8] = b"HTTP/1.1 1";
/// The longest interim response that is passed on, in octets.
const MAX_INTERIM: usize = 16 * 1024;
/// The most fields of one.
const MAX_FIELDS: usize = 64;
/// Fields that end at the gateway.
const END_HERE: [&str; 4] = ["connection", "transfer-encoding", "content-length", "upgrade"];

/// Listens for the interim responses to one request at a time.
#[derive(Debug, Default)]
pub struct Listener {
    /// Whether the head of a final response has yet to come.
    listens: AtomicBool,
    /// Where they are left.
    exchange: Mutex<Option<Arc<Exchange>>>,
    /// What came of one that is not complete.
    part: Mutex<Vec<u8>>,
}

impl Listener {
    /// Begins to listen, for `exchange`; `None`: for nobody, who could not be told.
    pub fn listen(&self, exchange: Option<Arc<Exchange>>) {
        self.listens.store(exchange.is_some(), Ordering::Relaxed);
        *self.exchange.lock() = exchange;
    }

    /// Looks at the next octets of the connection.
    pub fn look(&self, octets: &[u8]) {
        if self.listens.load(Ordering::Relaxed) && !octets.is_empty() {
            let mut part = self.part.lock();
            if !part.is_empty() || is_interim(octets) {
                part.extend_from_slice(octets);
                self.take_whole(&mut part);
            } else {
                self.listens.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Passes on what is complete.
    fn take_whole(&self, part: &mut Vec<u8>) {
        while !part.is_empty() && is_interim(part) {
            let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
            let mut head = Head::new(&mut fields);
            let taken = match head.parse(part) {
                Ok(httparse::Status::Complete(length)) => length,
                Ok(httparse::Status::Partial) if part.len() < MAX_INTERIM => return,
                Ok(httparse::Status::Partial) | Err(_) => break,
            };
            let status = head.code.and_then(|code| StatusCode::try_from(code).ok());
            match status {
                // 101 is final.
                None | Some(StatusCode::SWITCHING_PROTOCOLS) => break,
                // 100 is the gateway's own to send, when it reads the body.
                Some(StatusCode::CONTINUE) => {}
                Some(status) => {
                    if let Some(exchange) = &*self.exchange.lock() {
                        let fields = head.headers.iter().map(|field| (field.name, field.value));
                        exchange.leave_interim(&written(status, fields));
                    }
                }
            }
            part.drain(..taken);
            if part.is_empty() {
                // The next one, or the final one, is still to come.
                return;
            }
        }
        *part = Vec::new();
        self.listens.store(false, Ordering::Relaxed);
    }
}

/// Has the interim responses to a request over HTTP/2 left with `exchange`.
pub fn leave_with(request: &mut Request<Upload>, exchange: Arc<Exchange>) {
    hyper::ext::on_informational(request, move |response| {
        if response.status() > StatusCode::SWITCHING_PROTOCOLS {
            let fields = response.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
            exchange.leave_interim(&written(response.status(), fields));
        }
    });
}

/// Whether `octets` are the beginning of an interim response, as far as they go.
fn is_interim(octets: &[u8]) -> bool {
    octets.starts_with(BEGINNING) || BEGINNING.starts_with(octets)
}

fn written<'f>(status: StatusCode, fields: impl Iterator<Item = (&'f str, &'f [u8])>) -> Vec<u8> {
    let phrase = status.canonical_reason().unwrap_or("");
    let mut octets = format!("HTTP/1.1 {} {phrase}\r\n", status.as_u16()).into_bytes();
    for (name, value) in fields.filter(|(name, _)| !END_HERE.iter().any(|own| name.eq_ignore_ascii_case(own))) {
        octets.extend_from_slice(name.to_ascii_lowercase().as_bytes());
        octets.extend_from_slice(b": ");
        octets.extend_from_slice(value);
        octets.extend_from_slice(b"\r\n");
    }
    octets.extend_from_slice(b"\r\n");
    octets
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http::{HeaderMap, Method};
    use proptest::prelude::*;

    use super::*;
    use crate::request::RequestId;

    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: close\r\n\r\n";
    const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    const FINAL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 26\r\n\r\nHTTP/1.1 103 X\r\n\r\nand body";
    const WRITTEN: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";

    /// What is passed on of octets that come in these pieces.
    fn heard<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
        let id = RequestId::of(&HeaderMap::new());
        let exchange = Arc::new(Exchange::new(id, "route".into(), Method::GET, Ipv4Addr::LOCALHOST.into()));
        let listener = Listener::default();
        listener.listen(Some(exchange.clone()));
        pieces.into_iter().for_each(|piece| listener.look(piece));
        assert!(listener.part.lock().is_empty(), "nothing is kept once the final response has begun");
        String::from_utf8(exchange.take_interim()).expect("text")
    }

    #[test]
    fn only_what_stands_before_the_final_response_is_interim() {
        assert_eq!(heard([FINAL.as_bytes()]), "");
        assert_eq!(heard([HINTS.as_bytes(), FINAL.as_bytes(), HINTS.as_bytes()]), WRITTEN);
        assert_eq!(heard([[HINTS, CONTINUE, HINTS, FINAL].concat().as_bytes()]), [WRITTEN, WRITTEN].concat());
    }

    #[test]
    fn a_switch_of_protocols_is_final() {
        assert_eq!(heard([b"HTTP/1.1 101 Switching Protocols\r\n\r\n".as_slice(), HINTS.as_bytes()]), "");
    }

    #[test]
    fn what_is_no_response_is_left_to_hyper() {
        assert_eq!(heard([b"HTTP/1.1 1nonsense\r\n\r\n".as_slice(), HINTS.as_bytes()]), "");
        let endless = format!("HTTP/1.1 103 X\r\nA: {}", "a".repeat(MAX_INTERIM));
        assert_eq!(heard([endless.as_bytes(), HINTS.as_bytes()]), "");
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_octets_are_cut(mut cuts in prop::collection::vec(0usize..220, 0..6)) {
            let whole = [HINTS, CONTINUE, HINTS, FINAL].concat();
            cuts.extend([0, whole.len()]);
            cuts.iter_mut().for_each(|cut| *cut = (*cut).min(whole.len()));
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &whole.as_bytes()[cut[0]..cut[1]]);
            prop_assert_eq!(heard(pieces), [WRITTEN, WRITTEN].concat());
        }
    }
}
