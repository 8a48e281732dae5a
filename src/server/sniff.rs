//! Which version of HTTP a client speaks: HTTP/2 begins with a preface that is no HTTP/1 request (RFC 9113, section 3.4).

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncRead;

use crate::server::GOODBYE;
use crate::upstream::octets::poll_octets;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection, and what was read of it already.
#[derive(Debug)]
pub enum Sniffed<S> {
    Http1(S, Bytes),
    Http2(S, Bytes),
    /// Closed, broken or silent before it could be told. A client that has said nothing is owed no answer.
    Nothing,
}

/// Reads until it is clear, for at most `timeout`; once it is `closing`, not at all where nothing has come, and not for long where
/// something has.
pub async fn protocol<S: AsyncRead + Unpin>(
    mut socket: S,
    timeout: Duration,
    closing: impl Future<Output = ()>,
) -> Sniffed<S> {
    let mut closing = std::pin::pin!(closing);
    let mut ahead = Bytes::new();
    let mut deadline = tokio::time::Instant::now() + timeout;
    let mut closes = false;
    loop {
        let silent = ahead.is_empty();
        let read = tokio::select! {
            read = tokio::time::timeout_at(deadline, poll_fn(|cx| poll_octets(&mut socket, cx))) => read,
            () = &mut closing, if !closes => {
                if silent {
                    return Sniffed::Nothing;
                }
                closes = true;
                deadline = deadline.min(tokio::time::Instant::now() + GOODBYE);
                continue;
            }
        };
        match read {
            Ok(Ok(octets)) if !octets.is_empty() => {
                ahead = if silent { octets } else { [ahead, octets].concat().into() };
            }
            // Half a preface, or half a request line: the HTTP/1 side says what is to be said about it.
            _ if !ahead.is_empty() => return Sniffed::Http1(socket, ahead),
            _ => return Sniffed::Nothing,
        }
        let known = ahead.len().min(PREFACE.len());
        if ahead[..known] != PREFACE[..known] {
            return Sniffed::Http1(socket, ahead);
        }
        if known == PREFACE.len() {
            return Sniffed::Http2(socket, ahead);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test(start_paused = true)]
    async fn a_preface_in_pieces_is_http2_and_its_lookalikes_are_not() {
        for (pieces, http2) in [
            (vec![&PREFACE[..3], &PREFACE[3..]], true),
            (vec![&b"PRI"[..], b"VATE / HTTP/1.1\r\n"], false),
            (vec![&b"GET / HTTP/1.1\r\n\r\n"[..]], false),
        ] {
            let (mut client, server) = tokio::io::duplex(1024);
            let all = pieces.concat();
            let sniffing = tokio::spawn(protocol(server, Duration::from_secs(1), std::future::pending()));
            for piece in pieces {
                client.write_all(piece).await.expect("the other side reads");
                tokio::task::yield_now().await;
            }
            match sniffing.await.expect("no panic") {
                Sniffed::Http2(_, ahead) => assert!(http2 && all.starts_with(&ahead)),
                Sniffed::Http1(_, ahead) => assert!(!http2 && all.starts_with(&ahead)),
                Sniffed::Nothing => panic!("{all:?} is something"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_at_the_timeout() {
        let (_client, server) = tokio::io::duplex(1024);
        assert!(matches!(protocol(server, Duration::from_secs(1), std::future::pending()).await, Sniffed::Nothing));
    }
}
