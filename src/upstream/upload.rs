//! The client's body on its way to the server.

use std::io::ErrorKind::{InvalidData, InvalidInput};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::request::exchange::{Exchange, UploadFault};
use crate::time;
use crate::upstream::rest;

/// A request body that is counted, timed, and whose failures are told apart from the server's.
///
/// The deadline runs from the first look at the body: a client that was made to wait for its turn is not to blame for
/// the time that took. It only fires while the client owes the next piece; a server that takes nothing is covered by
/// the response timeout.
#[derive(Debug)]
pub struct Upload {
    source: Source,
    exchange: Arc<Exchange>,
    /// Bytes that may still come.
    left: u64,
    timeout: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Source {
    Done,
    /// It came to no good end.
    Broken,
    Whole(Bytes, Option<HeaderMap>),
    Trailers(HeaderMap),
    Stream(Incoming),
}

/// The client's body came to no good end; the exchange knows why.
#[derive(Debug, Clone, Copy)]
pub struct UploadBroken(pub UploadFault);

impl std::fmt::Display for UploadBroken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the client's body came to no good end: {:?}", self.0)
    }
}

impl std::error::Error for UploadBroken {}

/// Why a client's body broke off: has it gone, or sent what makes no sense? An HTTP/1 connection that ends amid a body counts as
/// one whose client has gone. Should it only have finished sending, too early, it can read the answer all the same.
#[must_use]
pub fn fault_of(error: &hyper::Error) -> UploadFault {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(inner) = cause {
        let left = match (inner.downcast_ref::<std::io::Error>(), inner.downcast_ref::<h2::Error>()) {
            // What the gateway itself, or hyper, finds wrong with the framing is no loss of the connection.
            (Some(io), _) => !matches!(io.kind(), InvalidData | InvalidInput),
            (None, Some(http2)) => http2.is_io() || (http2.is_remote() && (http2.is_reset() || http2.is_go_away())),
            (None, None) => false,
        };
        if left {
            return UploadFault::Left;
        }
        cause = inner.source();
    }
    UploadFault::Broken
}

impl Upload {
    /// A body of which at most `limit` bytes may come, all within `timeout` of the first look.
    #[must_use]
    pub fn stream(body: Incoming, exchange: Arc<Exchange>, limit: u64, timeout: Duration) -> Self {
        if body.is_end_stream() {
            return Self::whole(Bytes::new(), None, exchange);
        }
        Self { source: Source::Stream(body), exchange, left: limit, timeout, deadline: None }
    }

    /// A body that is here already.
    #[must_use]
    pub fn whole(body: Bytes, trailers: Option<HeaderMap>, exchange: Arc<Exchange>) -> Self {
        exchange.upload_completed();
        let source = if body.is_empty() && trailers.is_none() { Source::Done } else { Source::Whole(body, trailers) };
        Self { source, exchange, left: 0, timeout: Duration::MAX, deadline: None }
    }

    /// The same body once more; `None` if it streams, and so is there only once.
    #[must_use]
    pub fn again(&self) -> Option<Self> {
        let source = match &self.source {
            Source::Done => Source::Done,
            Source::Whole(body, trailers) => Source::Whole(body.clone(), trailers.clone()),
            Source::Trailers(_) | Source::Stream(_) | Source::Broken => return None,
        };
        Some(Self { source, exchange: self.exchange.clone(), left: 0, timeout: self.timeout, deadline: None })
    }

    fn fail(&mut self, fault: UploadFault) -> Poll<Option<Result<Frame<Bytes>, UploadBroken>>> {
        self.source = Source::Broken;
        self.exchange.upload_failed(fault);
        Poll::Ready(Some(Err(UploadBroken(fault))))
    }

    /// Gives up what is left of the body. The client may be sending it still, and then wants to use its connection again.
    fn let_go(&mut self) {
        if let Source::Stream(body) = std::mem::replace(&mut self.source, Source::Done) {
            rest::discard(body);
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timeout = self.timeout;
        let deadline =
            self.deadline.get_or_insert_with(|| Box::pin(time::sleep_until(time::after(time::now(), timeout))));
        deadline.as_mut().poll(cx)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadBroken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadBroken>>> {
        let this = &mut *self;
        let body = match &mut this.source {
            Source::Done => return Poll::Ready(None),
            Source::Broken => return Poll::Pending,
            Source::Whole(body, trailers) => {
                let body = std::mem::take(body);
                if let Some(story) = this.exchange.story() {
                    story.received(body.len() as u64);
                }
                this.source = trailers.take().map_or(Source::Done, Source::Trailers);
                return Poll::Ready(Some(Ok(Frame::data(body))));
            }
            Source::Trailers(trailers) => {
                let trailers = std::mem::take(trailers);
                this.source = Source::Done;
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            Source::Stream(body) => body,
        };
        let Poll::Ready(piece) = Pin::new(body).poll_frame(cx) else {
            if this.exchange.is_upload_stopped(cx) {
                this.let_go();
                return Poll::Ready(Some(Err(UploadBroken(UploadFault::Broken))));
            }
            this.exchange.upload_moved(true);
            ready!(this.poll_deadline(cx));
            return this.fail(UploadFault::Timeout);
        };
        match piece {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                if length > this.left {
                    return this.fail(UploadFault::TooLarge);
                }
                this.left -= length;
                if let Some(story) = this.exchange.story() {
                    story.received(length);
                }
                this.exchange.upload_moved(false);
                if matches!(&this.source, Source::Stream(body) if body.is_end_stream()) {
                    this.exchange.upload_completed();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => this.fail(fault_of(&error)),
            None => {
                this.source = Source::Done;
                this.exchange.upload_completed();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Done => true,
            Source::Whole(..) | Source::Trailers(_) | Source::Broken => false,
            Source::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Done => SizeHint::with_exact(0),
            Source::Whole(body, None) => SizeHint::with_exact(body.len() as u64),
            Source::Whole(_, Some(_)) | Source::Trailers(_) | Source::Broken => SizeHint::default(),
            Source::Stream(body) => body.size_hint(),
        }
    }
}
