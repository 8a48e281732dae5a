//! A connection to a server that shuts its sending side when the body that it carries has come to no good end.
//!
//! Closing such a connection would be no sign to a server that works without reading on: it would go on while its turn
//! and place had passed to another. With only the sending side shut, a server that waits for the rest of the body reads
//! its end and closes; any other may answer, and until it has, or `abandoned_limit` is over, the permit stays.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::connect::Stream;

/// Whether the body that a connection carries came to no good end. It never does again: no other follows on it.
pub type Broken = Arc<AtomicBool>;

/// See the module.
pub struct Carrying {
    stream: Box<dyn Stream>,
    broken: Broken,
    shut: bool,
}

impl std::fmt::Debug for Carrying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrying").field("broken", &self.broken).field("shut", &self.shut).finish_non_exhaustive()
    }
}

impl Carrying {
    #[must_use]
    pub fn new(stream: Box<dyn Stream>, broken: Broken) -> Self {
        Self { stream, broken, shut: false }
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}

impl AsyncRead for Carrying {
    /// hyper reads whenever it is woken and has nothing to write, so this is where a broken body is noticed.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.shut && self.is_broken() {
            match Pin::new(&mut self.stream).poll_shutdown(cx) {
                Poll::Ready(shut) => {
                    self.shut = true;
                    shut?;
                }
                Poll::Pending => {}
            }
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
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
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
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
