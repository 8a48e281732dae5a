//! The octets of one HTTP/1 connection on their way between socket and hyper.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::server::departure::FIRST_OCTET;
use crate::server::inspect::{Inspector, Seen};
use crate::server::state::Connection;
use crate::upstream::octets::poll_octets;

/// After the last answer, how long and how much of what the client still sends is read and thrown away. Closing a
/// socket with unread octets resets it, and the reset can destroy an answer that the client has not read yet.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_OCTETS: usize = 16 * 1024 * 1024;

/// A socket whose requests are looked at as they come in.
#[derive(Debug)]
pub struct Wire<S> {
    socket: S,
    ahead: Bytes,
    inspector: Inspector,
    connection: Arc<Connection>,
    lingering: Option<Lingering>,
}

#[derive(Debug)]
struct Lingering {
    until: Pin<Box<Sleep>>,
    left: usize,
}

impl<S> Wire<S> {
    /// `ahead` was read of `socket` before.
    #[must_use]
    pub fn new(socket: S, ahead: Bytes, max_head: usize, connection: Arc<Connection>) -> Self {
        Self { socket, ahead, inspector: Inspector::new(max_head), connection, lingering: None }
    }

    pub fn socket(&self) -> &S {
        &self.socket
    }

    pub fn into_socket(self) -> S {
        self.socket
    }

    /// Puts back what hyper has read and not understood. Only between requests, where all that can be are empty lines.
    pub fn unread(&mut self, octets: Bytes) {
        self.ahead = octets;
    }

    pub fn has_unread(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Looks at the next piece. Says how many of its octets hyper may have.
    fn look(&mut self, piece: &[u8]) -> usize {
        if self.connection.is_upgraded() {
            self.inspector.go_opaque();
            return piece.len();
        }
        let connection = &self.connection;
        let mut good = piece.len();
        self.inspector.look(piece, |seen| match seen {
            Seen::HeadEnded(bad) => connection.head_ended(bad),
            Seen::HeadTooLarge(before) => {
                good = before;
                connection.head_is_too_large();
            }
            Seen::Lost(before) => {
                good = before;
                connection.lose_track();
            }
        });
        if self.inspector.is_in_head() {
            self.connection.head_began();
        }
        self.connection.set_between_requests(self.inspector.is_pristine());
        good
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Waits, without a buffer, until the client has sent something, which is read next. False: it will send no more.
    pub fn poll_called(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.ahead = ready!(poll_octets(&mut self.socket, cx))?;
        Poll::Ready(Ok(!self.ahead.is_empty()))
    }
}

/// hyper takes it for a body that broke off, and the request is answered so.
fn two_ways() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the framing of a body can be read in two ways")
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.connection.is_head_too_large() {
            // The driver answers, and closes.
            return Poll::Pending;
        }
        if this.connection.is_lost() {
            return Poll::Ready(Err(two_ways()));
        }
        let before = buf.filled().len();
        if !this.ahead.is_empty() {
            let length = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead[..length]);
            this.ahead.advance(length);
            if this.ahead.is_empty() {
                // An empty piece would keep its memory.
                this.ahead = Bytes::new();
            }
        } else if this.connection.has_ended() {
            let due = this.connection.end_is_due(this.inspector.is_between_requests());
            return if due { Poll::Ready(Ok(())) } else { Poll::Pending };
        } else {
            match Pin::new(&mut this.socket).poll_read(cx, buf) {
                Poll::Ready(read) => read?,
                Poll::Pending => {
                    this.connection.set_reading(true);
                    return Poll::Pending;
                }
            }
        }
        if buf.filled().len() == before {
            let due = this.connection.end_is_due(this.inspector.is_between_requests());
            return if due { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        // Copied only where a line is cut, so nothing of the piece is kept.
        let piece: &[u8] = &buf.filled()[before..];
        let good = this.look(piece);
        buf.set_filled(before + good);
        match good {
            0 if this.connection.is_lost() => Poll::Ready(Err(two_ways())),
            0 => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let skipped = this.connection.sent_ahead();
        if skipped > 0 && !octets.is_empty() {
            if !octets.starts_with(&FIRST_OCTET[..skipped]) {
                return Poll::Ready(Err(io::Error::other("an answer does not begin as HTTP/1 answers do")));
            }
            this.connection.skipped_ahead();
            return Poll::Ready(Ok(skipped));
        }
        if this.connection.gives_way() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let wrote = Pin::new(&mut this.socket).poll_write(cx, octets);
        this.connection.wrote(wrote.is_pending());
        wrote
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.connection.sent_ahead() > 0 {
            let first = pieces.iter().find(|piece| !piece.is_empty()).map_or(&[][..], |piece| piece);
            return self.poll_write(cx, first);
        }
        let this = &mut *self;
        if this.connection.gives_way() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let wrote = Pin::new(&mut this.socket).poll_write_vectored(cx, pieces);
        this.connection.wrote(wrote.is_pending());
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if Pin::new(&mut self.socket).poll_flush(cx)?.is_pending() {
            // Under TLS octets are taken before the socket has room for them.
            self.connection.wrote(true);
            return Poll::Pending;
        }
        self.connection.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
            if this.connection.has_ended() || this.inspector.is_between_requests() {
                return Poll::Ready(Ok(()));
            }
            let until = Box::pin(tokio::time::sleep(LINGER));
            this.lingering = Some(Lingering { until, left: LINGER_OCTETS });
        }
        let Some(lingering) = &mut this.lingering else {
            return Poll::Ready(Ok(()));
        };
        let mut thrown_away = [0; 8 * 1024];
        while lingering.until.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut thrown_away);
            ready!(Pin::new(&mut this.socket).poll_read(cx, &mut buf))?;
            let length = buf.filled().len();
            if length == 0 || length > lingering.left {
                break;
            }
            lingering.left -= length;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn who_gives_way_writes_after_having_been_polled_once_more() {
        let (socket, mut client) = tokio::io::duplex(64);
        let connection = Arc::new(Connection::new(crate::time::now(), None));
        let mut wire = Wire::new(socket, Bytes::new(), 1024, connection.clone());
        connection.head_ended(None);
        connection.set_between_requests(true);
        assert!(connection.has_nothing_on_it());
        connection.give_way();
        let mut write = Box::pin(wire.write_all(b"last"));
        assert_eq!(write.as_mut().now_or_never().map(|done| done.is_ok()), None);
        assert!(!connection.has_nothing_on_it(), "it is not taken for sent meanwhile");
        assert_eq!(write.as_mut().now_or_never().map(|done| done.is_ok()), Some(true));
        drop(write);
        drop(wire);
        let mut said = String::new();
        assert_eq!(client.read_to_string(&mut said).now_or_never().map(|done| done.is_ok()), Some(true));
        assert_eq!(said, "last");
    }
}
