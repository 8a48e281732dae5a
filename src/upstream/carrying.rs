//! A connection to a server that shuts its sending side when the body that it carries has come to no good end.
//!
//! Closing such a connection would be no sign to a server that works without reading on: it would go on while its turn
//! and place had passed to another. With only the sending side shut, a server that waits for the rest of the body reads
//! its end and closes; any other may answer, and until it has, or `abandoned_limit` is over, the permit stays.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::request::exchange::Exchange;
use crate::sync::Mutex;
use crate::upstream::connect::Stream;

/// The exchange that a connection carries now.
pub type Carried = Arc<Mutex<Option<Arc<Exchange>>>>;

/// See the module.
pub struct Carrying {
    stream: Box<dyn Stream>,
    carried: Carried,
    shut: bool,
}

impl std::fmt::Debug for Carrying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carrying").field("carried", &self.carried).field("shut", &self.shut).finish_non_exhaustive()
    }
}

impl Carrying {
    #[must_use]
    pub fn new(stream: Box<dyn Stream>, carried: Carried) -> Self {
        Self { stream, carried, shut: false }
    }

    fn is_broken(&self) -> bool {
        self.carried.lock().as_ref().is_some_and(|exchange| exchange.upload_fault().is_some())
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
