//! An exchange with a server that may outlive its client.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::admission::{Permit, Rejection};
use crate::request::exchange::Phase;
use crate::response::abandoned;
use crate::response::refusal::Refusal;
use crate::upstream::failure::Failure;
use crate::upstream::send::Sent;

/// What a server is at work on: the way to the end of a response head.
type Sending = Pin<Box<dyn Future<Output = Sent> + Send>>;

/// The way to a response head, and the permit for it. Left before its end, because the client has gone or it took too
/// long, it goes on by itself if a server is at work on the request and the route wants that finished; the permit goes
/// with it.
pub(super) struct Abandonable {
    both: Option<(Sending, Permit)>,
}

/// Why there is no response head, and the permit where nobody needs it any more.
pub(super) struct NoHead {
    pub refusal: Refusal,
    pub permit: Option<Permit>,
}

impl Abandonable {
    pub(super) fn new(permit: Permit, sending: impl Future<Output = Sent> + Send + 'static) -> Self {
        Self { both: Some((Box::pin(sending), permit)) }
    }
}

impl Future for Abandonable {
    type Output = Result<(crate::upstream::send::Head, Permit), NoHead>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some((sending, permit)) = &mut self.both else {
            return Poll::Pending;
        };
        if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
            let Some((_, permit)) = self.both.take() else { return Poll::Pending };
            return Poll::Ready(match sent {
                Ok(head) => Ok((head, permit)),
                Err(failure) => Err(NoHead { refusal: failure.into(), permit: Some(permit) }),
            });
        }
        let exchange = permit.exchange();
        if let Poll::Ready(by) = exchange.poll_ended(cx) {
            if exchange.phase() < Phase::Running {
                permit.give_tokens_back();
            }
            // At once, whatever the route says. The connection is closed before turn and place pass on.
            self.both = None;
            return Poll::Ready(Err(NoHead { refusal: Rejection::Interrupted(by).into(), permit: None }));
        }
        let failure = match (exchange.poll_upload_fault(cx), exchange.given_up()) {
            (Poll::Ready(fault), _) => Failure::Upload(fault),
            (Poll::Pending, Some(why)) => why.into(),
            (Poll::Pending, None) => return Poll::Pending,
        };
        if matches!(failure, Failure::Upload(_)) {
            permit.give_tokens_back();
        }
        leave(self.both.take());
        Poll::Ready(Err(NoHead { refusal: failure.into(), permit: None }))
    }
}

impl Drop for Abandonable {
    fn drop(&mut self) {
        leave(self.both.take());
    }
}

fn leave(both: Option<(Sending, Permit)>) {
    let Some((sending, permit)) = both else { return };
    // Whether a server has the request, or a part of it.
    if permit.exchange().phase() < Phase::Running {
        return;
    }
    if abandoned::finishes(permit.gates().policy.abandoned, false) {
        abandoned::finish(to_its_end(sending), permit);
    } else {
        abandoned::cancelled(&permit);
        // The connection is closed before turn and place pass on.
        drop(sending);
    }
}

/// What remains of a sent request: its answer, read to its end.
async fn to_its_end(sending: Sending) {
    if let Ok(head) = sending.await {
        head.into_body().end().await;
    }
}
