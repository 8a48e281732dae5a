//! One request to an upstream: which server, over which connection, tried how often, within which deadlines.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::{Request, Response};

use crate::admission::Permit;
use crate::policy::Timeouts;
use crate::request::exchange::{Exchange, Phase};
use crate::time;
use crate::upstream::Upstream;
use crate::upstream::balance::{Slot, Wanted};
use crate::upstream::failure::Failure;
use crate::upstream::fields::response_framing;
use crate::upstream::pool::{Lease, Pools, SendFailed};
use crate::upstream::server::Server;
use crate::upstream::upload::Upload;

/// The server's answer as it comes, with the connection and the slot that it needs.
#[derive(Debug)]
pub struct Answer {
    body: Incoming,
    lease: Option<Lease>,
    slot: Slot,
    upload: Arc<Exchange>,
    upstream: Arc<Upstream>,
}

impl Answer {
    /// Lets go of the connection for an upgraded protocol; the slot stays with the returned value.
    #[must_use]
    pub fn into_upgraded(mut self) -> Slot {
        if let Some(lease) = self.lease.take() {
            lease.hand_over();
        }
        self.slot
    }

    /// Notes that the server owes the next piece for too long.
    pub fn stalled(&self) {
        self.upstream.metrics.error("idle_timeout");
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let ended = match &frame {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => self.body.is_end_stream(),
            // A body that the client broke counts against no server, whatever becomes of its answer.
            Poll::Ready(Some(Err(_))) => {
                if self.upload.upload_fault().is_none() {
                    self.upstream.blame(self.slot.server(), Failure::Broken);
                }
                false
            }
            Poll::Pending => false,
        };
        // A connection whose request was not taken to its end has a rest of it under way: it is closed.
        if ended && let Some(lease) = self.lease.take() {
            release(lease, &self.upload);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The response head on its way, with the connection that it comes on.
type AwaitedHead = Pin<Box<dyn Future<Output = (Result<Response<Incoming>, SendFailed>, Lease)> + Send>>;

/// A request that a server has, and whose response head has not come.
pub struct Pending {
    head: AwaitedHead,
    _slot: Slot,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("slot", &self._slot).finish_non_exhaustive()
    }
}

impl Pending {
    /// Waits for the server's answer and reads it to its end. Dropping it closes the connection.
    pub async fn end(self) {
        let (head, _lease) = self.head.await;
        if let Ok(head) = head {
            drain(head.into_body()).await;
        }
    }
}

impl Answer {
    /// Reads what is left of the answer. Dropping it closes the connection.
    pub async fn end(self) {
        drain(self).await;
    }
}

async fn drain(body: impl Body<Data = Bytes>) {
    let mut body = std::pin::pin!(body);
    while let Some(Ok(_)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {}
}

/// Why there is no response head; with the exchange itself where a server may still be at work on it.
#[derive(Debug)]
pub struct SendError {
    pub failure: Failure,
    pub pending: Option<Pending>,
}

impl From<Failure> for SendError {
    fn from(failure: Failure) -> Self {
        Self { failure, pending: None }
    }
}

/// What one try came to.
enum Tried {
    Answered(Box<Response<Answer>>),
    /// Not a byte was written: the request is whole, and may go elsewhere.
    Unsent(Box<Request<Upload>>, Failure),
    Failed(SendError),
}

/// The deadlines of one request.
struct Deadlines<'a> {
    timeouts: &'a Timeouts,
    total: Option<Instant>,
    connect: Duration,
    room: Duration,
}

impl Upstream {
    /// Sends `request` under `permit`, and waits for the response head.
    ///
    /// Not cancel safe in the server's eyes: once sent, dropping this closes the connection and the server may go on
    /// working. Who drops it must hold the permit for as long as that matters.
    ///
    /// # Errors
    /// [`SendError`], after the retries that the policy allows; only what was certainly not processed is tried again.
    /// After a timeout it carries the exchange, at which a server may still be at work.
    pub async fn send(
        self: &Arc<Self>,
        pools: &Pools,
        request: Request<Upload>,
        session: Option<&str>,
        permit: &Permit,
        queue_timeout: Duration,
    ) -> Result<Response<Answer>, SendError> {
        let timeouts = &permit.gates().policy.timeouts;
        let total = (!timeouts.total.is_zero()).then(|| time::after(permit.since(), timeouts.total));
        let deadlines = Deadlines { timeouts, total, connect: self.policy.connect_timeout, room: queue_timeout };
        let exchange = permit.exchange();
        let retry = self.policy.retry;
        let mut request = request;
        let mut tried = Vec::new();
        loop {
            let wanted = Wanted { session, tried: &tried, exempt: permit.gates().policy.exempt };
            let slot = self.slot(&wanted, exchange, &deadlines).await?;
            tried.push(slot.server().id);
            let last = tried.len() as u32 >= retry.attempts;
            let spare = if last || !(retry.on_429 || retry.on_503) { None } else { again(&request) };
            request = match self.try_once(pools, request, slot, exchange, &deadlines).await {
                Tried::Answered(response) => match spare {
                    Some(spare) if self.retries(response.status().as_u16()) => spare,
                    _ => return Ok(*response),
                },
                Tried::Unsent(request, failure) if !last && retry.on_connect && !deadlines.over() => {
                    tracing::debug!(?failure, upstream = %self.policy.name, "trying another connection");
                    *request
                }
                Tried::Unsent(_, failure) => return Err(failure.into()),
                Tried::Failed(error) => return Err(error),
            };
            self.metrics.retries.inc();
        }
    }

    fn retries(&self, status: u16) -> bool {
        matches!(status, 429 if self.policy.retry.on_429) || matches!(status, 503 if self.policy.retry.on_503)
    }

    async fn slot(&self, wanted: &Wanted<'_>, exchange: &Exchange, deadlines: &Deadlines<'_>) -> Result<Slot, Failure> {
        let failure = |failure| {
            self.count(failure);
            failure
        };
        match self.try_slot(wanted) {
            Ok(Some(slot)) => return Ok(slot),
            Ok(None) => {}
            Err(_) => return Err(failure(Failure::Unavailable)),
        }
        exchange.enter(Phase::Server);
        let since = time::now();
        let room = time::after(since, deadlines.room);
        let until = deadlines.total.map_or(room, |total| total.min(room));
        let until = tokio::time::Instant::from_std(until);
        let waiting = tokio::time::timeout_at(until, self.wait_for_slot(wanted)).await;
        exchange.add_queued(time::now().saturating_duration_since(since));
        match waiting {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) => Err(failure(Failure::Unavailable)),
            Err(_) if deadlines.over() => Err(failure(Failure::TotalTimeout)),
            Err(_) => Err(Failure::NoRoom),
        }
    }

    async fn try_once(
        self: &Arc<Self>,
        pools: &Pools,
        mut request: Request<Upload>,
        slot: Slot,
        exchange: &Arc<Exchange>,
        deadlines: &Deadlines<'_>,
    ) -> Tried {
        let server = slot.server().clone();
        // A kept connection may be closed by the server in the moment of its use; that is no failure as long as nothing
        // was written, and costs no try.
        let mut kept = pools.reuse(&server, &self.policy);
        loop {
            // Nothing of it is at a server, as far as whoever abandons it is concerned.
            exchange.enter(Phase::Connecting);
            let is_kept = kept.is_some();
            let lease = match kept.take() {
                Some(lease) => lease,
                None => match self.connect(pools, &server, deadlines).await {
                    Ok(lease) => lease,
                    Err(failure) => return Tried::Unsent(Box::new(request), self.blame(&server, failure)),
                },
            };
            exchange.enter(Phase::Running);
            exchange.upload_moved(false);
            let sent_at = time::now();
            let mut head: AwaitedHead = Box::pin(lease.send(request, exchange.clone()));
            match await_head(&mut head, exchange, deadlines).await {
                Ok((Ok(head), lease)) => {
                    let took = time::now().saturating_duration_since(sent_at);
                    return self.answered(head, lease, slot, took, exchange);
                }
                Ok((Err(failed), _lease)) => match unsent(failed, exchange) {
                    // A new connection that takes nothing is no connection.
                    Ok(unsent) if !is_kept => {
                        return Tried::Unsent(Box::new(unsent), self.blame(&server, Failure::Connect));
                    }
                    Ok(unsent) => {
                        request = unsent;
                        // A shared connection that takes no more requests is not asked twice.
                        kept = if self.policy.http2 { None } else { pools.reuse(&server, &self.policy) };
                    }
                    Err(failure) => return Tried::Failed(self.blame(&server, failure).into()),
                },
                Err(failure) => {
                    let failure = self.blame(&server, failure);
                    return Tried::Failed(SendError { failure, pending: Some(Pending { head, _slot: slot }) });
                }
            }
        }
    }

    async fn connect(&self, pools: &Pools, server: &Arc<Server>, deadlines: &Deadlines<'_>) -> Result<Lease, Failure> {
        match tokio::time::timeout(deadlines.connect, pools.connect(server, &self.policy)).await {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(error)) => {
                tracing::debug!(%error, server = %server.url, "a server could not be reached");
                Err(Failure::Connect)
            }
            Err(_) => Err(Failure::ConnectTimeout),
        }
    }

    fn answered(
        self: &Arc<Self>,
        head: Response<Incoming>,
        lease: Lease,
        slot: Slot,
        took: Duration,
        exchange: &Arc<Exchange>,
    ) -> Tried {
        self.metrics.duration.observe(took.as_secs_f64());
        exchange.set_upstream_took(took);
        if response_framing(head.headers()).is_err() {
            return Tried::Failed(self.blame(slot.server(), Failure::Broken).into());
        }
        slot.server().succeeded();
        exchange.enter(Phase::Answering);
        let upload = exchange.clone();
        let mut lease = Some(lease);
        Tried::Answered(Box::new(head.map(|body| {
            // No body to wait for: the connection is free now.
            if body.is_end_stream()
                && let Some(lease) = lease.take()
            {
                release(lease, exchange);
            }
            Answer { body, lease, slot, upload, upstream: self.clone() }
        })))
    }

    /// Counts `failure`, and against the server if it is to blame.
    fn blame(&self, server: &Server, failure: Failure) -> Failure {
        self.count(failure);
        if failure.blames_server() && server.failed(self.policy.eject.after_failures) {
            let others = self.servers.iter().any(|other| other.id != server.id && other.is_healthy());
            // The last one is never ejected: a server that fails is better than none.
            if others {
                server.eject(self.policy.eject.duration);
                self.metrics.ejected(&server.url);
                tracing::warn!(server = %server.url, upstream = %self.policy.name, "a server was ejected for its failures in a row");
            }
        }
        failure
    }

    fn count(&self, failure: Failure) {
        if let Some(kind) = failure.kind() {
            self.metrics.error(kind);
        }
    }
}

/// Waits for the response head within the deadlines. The response timeout runs while the server owes something: not
/// while the client still has to send a part of its body.
async fn await_head<T>(
    mut head: impl Future<Output = T> + Unpin,
    exchange: &Exchange,
    deadlines: &Deadlines<'_>,
) -> Result<T, Failure> {
    let response = deadlines.timeouts.response;
    let mut look = time::after(time::now(), response);
    loop {
        let wake = deadlines.total.map_or(look, |total| total.min(look));
        tokio::select! {
            biased;
            answer = &mut head => return Ok(answer),
            fault = poll_fn(|cx| exchange.poll_upload_fault(cx)) => return Err(Failure::Upload(fault)),
            () = time::sleep_until(wake) => {}
        }
        if deadlines.over() {
            return Err(Failure::TotalTimeout);
        }
        let now = time::now();
        let owes_since = exchange.upstream_owes_since().unwrap_or(now);
        look = time::after(owes_since, response);
        if look <= now {
            return Err(Failure::ResponseTimeout);
        }
    }
}

/// The request, if the server certainly has not seen it.
fn unsent(failed: SendFailed, exchange: &Exchange) -> Result<Request<Upload>, Failure> {
    match (exchange.upload_fault(), failed.unsent) {
        (Some(fault), _) => Err(Failure::Upload(fault)),
        (None, Some(unsent)) => Ok(*unsent),
        (None, None) => {
            tracing::debug!(error = %failed.error, "a server gave no response");
            Err(Failure::Broken)
        }
    }
}

impl Deadlines<'_> {
    fn over(&self) -> bool {
        self.total.is_some_and(|total| total <= time::now())
    }
}

/// Lets go of a connection whose answer has ended. With the rest of a request under way it is closed, and a stream of a
/// shared connection reset: nothing of the request may reach the server once its place has passed on.
fn release(lease: Lease, exchange: &Exchange) {
    if exchange.is_upload_complete() {
        lease.give_back();
    } else {
        exchange.stop_upload();
    }
}

/// The same request once more, if its body allows it.
fn again(request: &Request<Upload>) -> Option<Request<Upload>> {
    let mut copy = Request::new(request.body().again()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}
