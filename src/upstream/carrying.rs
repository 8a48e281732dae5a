//! A connection to a server, beside hyper: what is told to it and heard from it past hyper's back.
//!
//! It shuts its sending side when the body that it carries has come to no good end. Closing such a connection would be no
//! sign to a server that works without reading on: it would go on while its turn and place had passed to another. With only
//! the sending side shut, a server that waits for the rest of the body reads its end and closes; any other may answer, and
//! until it has, or `abandoned_limit` is over, the permit stays.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::connect::Stream;
use crate::upstream::gathered::{SMALL, gathered};
use crate::upstream::interim::Listener;

/// What a connection and the request on it know of each other.
#[derive(Debug, Default)]
pub struct Beside {
    /// Whether the request's body came to no good end. No other follows on the connection then.
    broken: AtomicBool,
    pub interim: Listener,
}

impl Beside {
    /// Has the connection's sending side shut when it is polled next.
    pub fn body_broke(&self) {
        self.broken.store(true, Ordering::Release);
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}

/// See the module.
pub struct Carrying {
    stream: Box<dyn Stream>,
    beside: Arc<Beside>,
    shut: bool,
}

impl std::fmt::Debug for Carrying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrying").field("beside", &self.beside).field("shut", &self.shut).finish_non_exhaustive()
    }
}

impl Carrying {
    #[must_use]
    pub fn new(stream: Box<dyn Stream>, beside: Arc<Beside>) -> Self {
        Self { stream, beside, shut: false }
    }
}

impl AsyncRead for Carrying {
    /// hyper reads whenever it is woken and has nothing to write, so this is where a broken body is noticed.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.shut && self.beside.is_broken() {
            match Pin::new(&mut self.stream).poll_shutdown(cx) {
                Poll::Ready(shut) => {
                    self.shut = true;
                    shut?;
                }
                Poll::Pending => {}
            }
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.beside.interim.look(&buf.filled()[before..]);
        }
        read
    }
}

impl AsyncWrite for Carrying {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match gathered(pieces, &mut [0; SMALL]) {
            Some(octets) => Pin::new(&mut self.stream).poll_write(cx, octets),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
