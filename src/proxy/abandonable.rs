//! An exchange with a server that may outlive its client.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Response;

use crate::admission::Permit;
use crate::request::exchange::Phase;
use crate::response::abandoned;
use crate::upstream::send::{Answer, SendError};

type Sent = Result<Response<Answer>, SendError>;

/// The way to a response head. Dropped before its end, because the client left, it goes on by itself if a server is at
/// work on the request and the route wants that finished; the permit goes with it.
pub(super) struct Abandonable {
    sending: Option<Pin<Box<dyn Future<Output = Sent> + Send>>>,
    permit: Arc<Permit>,
}

impl Abandonable {
    pub(super) fn new(permit: Arc<Permit>, sending: impl Future<Output = Sent> + Send + 'static) -> Self {
        Self { sending: Some(Box::pin(sending)), permit }
    }

    /// Ends it at once, whatever the route says: the connection is closed.
    pub(super) fn close(&mut self) {
        self.sending = None;
    }

    /// Whether a server has the request, or a part of it.
    fn is_at_work(&self) -> bool {
        self.permit.exchange().phase() >= Phase::Running
    }
}

impl Future for Abandonable {
    type Output = Sent;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Sent> {
        let Some(sending) = &mut self.sending else {
            return Poll::Pending;
        };
        let sent = std::task::ready!(sending.as_mut().poll(cx));
        self.sending = None;
        Poll::Ready(sent)
    }
}

impl Drop for Abandonable {
    fn drop(&mut self) {
        let Some(sending) = self.sending.take() else { return };
        if !self.is_at_work() {
            return;
        }
        let policy = &self.permit.gates().policy;
        if abandoned::finishes(policy.abandoned, false) {
            let limit = policy.abandoned_limit;
            abandoned::finish(async { to_its_end(sending.await).await }, self.permit.clone(), limit);
        } else {
            abandoned::cancelled(&self.permit);
        }
    }
}

/// What remains of a sent request: its answer, read to its end.
pub(super) async fn to_its_end(sent: Sent) {
    match sent {
        Ok(answer) => answer.into_body().end().await,
        Err(SendError { pending: Some(pending), .. }) => pending.end().await,
        Err(_) => {}
    }
}
