//! The body that owns the permit.
//!
//! A request ends when its body ends, not when its head was sent: turn, place, connection and slot move into the body
//! and go back with its last byte, or when it is dropped.
//!
//! ```text
//!   streaming ──last byte──▶ ended            everything goes back; the connection is kept
//!       │──server breaks, stalls, total over─▶ cut: the client sees a broken body, never a short one that looks whole
//!       └──dropped (the client left, or stalled)──▶ abandoned: cancelled, or finished in a task of its own
//! ```

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::admission::Permit;
use crate::request::exchange::EndedBy;
use crate::response::abandoned;
use crate::response::ending::Ending;
use crate::time;
use crate::upstream::send::Answer;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The body of every answer.
pub enum ProxyBody {
    /// The gateway's own, or none.
    Own(Option<Bytes>),
    /// An upstream's.
    Guarded(Box<GuardedBody>),
    /// One of the rarer kinds: shared with others, or begun before there was an answer.
    Boxed(Pin<Box<dyn Body<Data = Bytes, Error = BodyCut> + Send>>),
}

impl fmt::Debug for ProxyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(body) => f.debug_tuple("Own").field(body).finish(),
            Self::Guarded(body) => f.debug_tuple("Guarded").field(body).finish(),
            Self::Boxed(_) => f.write_str("Boxed"),
        }
    }
}

impl ProxyBody {
    /// A body that is here already.
    #[must_use]
    pub fn own(body: Bytes) -> Self {
        Self::Own((!body.is_empty()).then_some(body))
    }

    /// Whether its end gave the turn to one who waited for it. True once.
    pub fn take_passed_on(&mut self) -> bool {
        if let Self::Guarded(body) = self { std::mem::take(&mut body.passed_on) } else { false }
    }
}

/// Why a body ends before its end. The connection is cut then (HTTP/1.1), or the stream reset (HTTP/2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyCut {
    /// The server broke it off.
    Upstream,
    /// Nothing came for `timeouts.idle`.
    Idle,
    /// `timeouts.total` is over.
    Total,
    /// An operator or a newer request ended it.
    Interrupted,
    /// Others are too far ahead of its reader.
    FellBehind,
}

impl BodyCut {
    /// Who or what ended it, in a word of the log.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Upstream => "upstream_broke",
            Self::Idle => "idle_timeout",
            Self::Total => "total_timeout",
            Self::Interrupted => "interrupted",
            Self::FellBehind => "fell_behind",
        }
    }
}

impl fmt::Display for BodyCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upstream => "the server broke off its answer",
            Self::Idle => "the server's answer stalled",
            Self::Total => "the answer took too long",
            Self::Interrupted => "the request was interrupted",
            Self::FellBehind => "its reader fell too far behind the others of an answer that they share",
        })
    }
}

impl std::error::Error for BodyCut {}

/// An upstream's body with all that its request holds.
#[derive(Debug)]
pub struct GuardedBody {
    held: Option<Held>,
    status: u16,
    idle: Duration,
    total: Option<Instant>,
    /// Since when the server owes the next piece.
    owed_since: Option<Instant>,
    /// Whether whoever writes it may have something of it that is not on its way: its head at first, then pieces.
    unsent: bool,
    /// Why it is to be cut with the next step.
    due: Option<BodyCut>,
    /// Its end gave the turn to one who waited for it.
    passed_on: bool,
}

#[derive(Debug)]
struct Held {
    // Dropped in this order: the connection is closed before turn and place pass on.
    answer: Answer,
    permit: Permit,
    ending: Ending,
}

impl GuardedBody {
    /// Guards `answer`, whose head says `status`. A body without a byte has ended already.
    #[must_use]
    pub fn guard(answer: Answer, permit: Permit, mut ending: Ending, status: u16) -> ProxyBody {
        if answer.is_end_stream() {
            drop(answer);
            drop(permit);
            ending.answered(status);
            return ProxyBody::Own(None);
        }
        let timeouts = permit.gates().policy.timeouts;
        let total = (!timeouts.total.is_zero()).then(|| time::after(permit.since(), timeouts.total));
        permit.exchange().set_deadlines(timeouts.idle, total);
        ProxyBody::Guarded(Box::new(Self {
            held: Some(Held { answer, permit, ending }),
            status,
            idle: timeouts.idle,
            total,
            owed_since: None,
            unsent: true,
            due: None,
            passed_on: false,
        }))
    }

    fn end(&mut self) {
        if let Some(Held { answer, permit, mut ending }) = self.held.take() {
            drop(answer);
            // The last piece must be taken as well, for the stream's sake: nothing else is held for it.
            permit.exchange().handed_piece();
            self.passed_on = permit.give_back();
            ending.answered(self.status);
        }
    }

    /// Cuts it, once what was handed out is on its way: a connection that fails drops what it has not sent. One that is closed
    /// without a word looks like one that was idle for too long, and clients repeat what they sent on it.
    fn cut_when_sent(&mut self, why: BodyCut, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        if std::mem::take(&mut self.unsent) {
            self.due = Some(why);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.cut(why)
    }

    fn cut(&mut self, why: BodyCut) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        if let Some(Held { answer, permit, mut ending }) = self.held.take() {
            tracing::debug!(%why, route = %permit.gates().policy.name, "an answer was cut");
            ending.cut(self.status, why.word());
            // A server that stalls may still be at work; one whose answer broke off is not.
            let works = matches!(why, BodyCut::Idle | BodyCut::Total);
            if works {
                answer.overdue(why.word());
            }
            if works && abandoned::finishes(permit.gates().policy.abandoned, true) {
                abandoned::finish(answer.end(), permit);
            } else {
                drop(answer);
                drop(permit);
            }
        }
        Poll::Ready(Some(Err(why)))
    }

    /// Says why when the server has owed the next piece for too long, or all took too long.
    fn overdue(&mut self) -> Option<BodyCut> {
        let now = time::now();
        let idle = time::after(*self.owed_since.get_or_insert(now), self.idle);
        let (due, why) = match self.total {
            Some(total) if total < idle => (total, BodyCut::Total),
            _ => (idle, BodyCut::Idle),
        };
        if due <= now {
            return Some(why);
        }
        if let Some(held) = &self.held {
            held.permit.exchange().wake_by(due);
        }
        None
    }
}

impl Body for GuardedBody {
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        let this = &mut *self;
        if let Some(why) = this.due.take() {
            return this.cut(why);
        }
        let Some(held) = &mut this.held else {
            return Poll::Ready(None);
        };
        let exchange = held.permit.exchange();
        exchange.asked_for_more();
        if let Poll::Ready(by) = exchange.poll_ended(cx) {
            // What nobody waits for any more is counted as abandoned.
            if by != EndedBy::Abandoned {
                held.permit.gates().metrics.interrupted(by.word());
            }
            return this.cut_when_sent(BodyCut::Interrupted, cx);
        }
        match Pin::new(&mut held.answer).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.owed_since = None;
                this.unsent = true;
                held.ending.sent(frame.data_ref().map_or(0, Bytes::len));
                if held.answer.is_end_stream() {
                    this.end();
                } else {
                    exchange.handed_piece();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(%error, "a server broke off its answer");
                this.cut_when_sent(BodyCut::Upstream, cx)
            }
            Poll::Pending => match this.overdue() {
                Some(why) => this.cut_when_sent(why, cx),
                None => {
                    this.unsent = false;
                    Poll::Pending
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.held.as_ref().map_or_else(|| SizeHint::with_exact(0), |held| held.answer.size_hint())
    }
}

impl Drop for GuardedBody {
    fn drop(&mut self) {
        let Some(Held { answer, permit, ending }) = self.held.take() else {
            return;
        };
        if permit.exchange().ended_by().is_some() {
            drop(answer);
        } else if abandoned::finishes(permit.gates().policy.abandoned, true) {
            abandoned::finish(answer.end(), permit);
        } else {
            abandoned::cancelled(&permit);
            drop(answer);
        }
        drop(ending);
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        match self.get_mut() {
            Self::Own(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Guarded(body) => Pin::new(&mut **body).poll_frame(cx),
            Self::Boxed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_none(),
            Self::Guarded(body) => body.is_end_stream(),
            Self::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Self::Guarded(body) => body.size_hint(),
            Self::Boxed(body) => body.size_hint(),
        }
    }
}
