//! An answer that equal requests share: what each of their clients gets of it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};

use crate::limit::joining::{Cut, Follower, Joining, Lead};
use crate::request::exchange::Exchange;
use crate::response::body::BodyCut;
use crate::response::ending::Ending;
use crate::response::refusal::Refusal;

/// How a shared answer begins.
#[derive(Debug, Clone)]
pub enum Answered {
    /// With an upstream's head, as the first client gets it.
    Upstream(Arc<Response<()>>),
    /// The gateway refused the work: everybody is refused for the same reason.
    Refused(Refusal),
}

/// A piece of a shared body.
#[derive(Debug, Clone)]
pub enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Piece {
    /// Of a frame, with the bytes that it counts for. None of a frame that is neither data nor trailers.
    #[must_use]
    pub fn of(frame: Frame<Bytes>) -> Option<(Self, usize)> {
        match frame.into_data() {
            Ok(data) => {
                let length = data.len();
                // A copy of its own: as it came it may be a small part of a large buffer, which would stay with it.
                Some((Self::Data(Bytes::copy_from_slice(&data)), length))
            }
            Err(frame) => frame.into_trailers().ok().map(|trailers| (Self::Trailers(trailers), 0)),
        }
    }
}

/// All answers that can be shared.
pub type Answers = Joining<Arc<Exchange>, Answered, Piece>;
pub type AnswerLead = Lead<Arc<Exchange>, Answered, Piece>;
pub type AnswerFollower = Follower<Arc<Exchange>, Answered, Piece>;

/// The body of a shared answer for one of its clients.
#[derive(Debug)]
pub struct JoinedBody {
    held: Option<(AnswerFollower, Ending)>,
    status: u16,
    /// Whether whoever writes it may have something of it that is not on its way: its head at first, then pieces.
    unsent: bool,
}

impl JoinedBody {
    #[must_use]
    pub fn new(follower: AnswerFollower, ending: Ending, status: u16) -> Self {
        let mut body = Self { held: Some((follower, ending)), status, unsent: true };
        body.end_if_read();
        body
    }

    fn end_if_read(&mut self) {
        if self.held.as_ref().is_some_and(|(follower, _)| follower.has_ended()) {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some((_, mut ending)) = self.held.take() {
            ending.answered(self.status);
        }
    }
}

impl Body for JoinedBody {
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        let this = &mut *self;
        let Some((follower, ending)) = &mut this.held else { return Poll::Ready(None) };
        ending.exchange().asked_for_more();
        let piece = match follower.poll_piece(cx) {
            Poll::Pending => {
                this.unsent = false;
                return Poll::Pending;
            }
            Poll::Ready(Some(Err(_))) if this.unsent => {
                // That is to go out first: a connection that fails drops it.
                this.unsent = false;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(piece) => piece,
        };
        match piece {
            Some(Ok(piece)) => {
                this.unsent = true;
                // The last one must be taken as well.
                ending.exchange().handed_piece();
                if let Piece::Data(data) = &piece {
                    ending.sent(data.len());
                }
                this.end_if_read();
                Poll::Ready(Some(Ok(match piece {
                    Piece::Data(data) => Frame::data(data),
                    Piece::Trailers(trailers) => Frame::trailers(trailers),
                })))
            }
            None => {
                this.end();
                Poll::Ready(None)
            }
            Some(Err(cut)) => {
                let why = match cut {
                    Cut::BrokeOff => BodyCut::Upstream,
                    Cut::FellBehind => BodyCut::FellBehind,
                };
                tracing::debug!(%why, route = %ending.exchange().route, "a shared answer was cut");
                ending.cut(this.status, why.word());
                this.end();
                Poll::Ready(Some(Err(why)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.held.is_none() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}
