//! One request to an upstream: which server, over which connection, tried how often, within which deadlines.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::{Request, Response, StatusCode};

use crate::admission::{Permit, RouteGates};
use crate::request::exchange::{Exchange, GivenUp, Phase};
use crate::request::session_key::SessionKey;
use crate::request::story::Stay;
use crate::telemetry::traces::Call;
use crate::time;
use crate::upstream::Upstream;
use crate::upstream::balance::{NoServer, Slot, Wanted};
use crate::upstream::connect::{is_exhausted, is_unresolved};
use crate::upstream::failure::Failure;
use crate::upstream::fields::response_framing;
use crate::upstream::pool::{Broken, Lease, Pools, SendFailed, Tunnel};
use crate::upstream::server::Server;
use crate::upstream::upload::Upload;

/// How long to leave the system alone when it has no descriptor to spare.
const UNTIL_A_DESCRIPTOR: Duration = Duration::from_millis(20);

/// The server's answer as it comes, with the connection and the slot that it needs.
#[derive(Debug)]
pub struct Answer {
    /// Until the answer has ended.
    lease: Option<Lease>,
    slot: Slot,
    upload: Arc<Exchange>,
    upstream: Arc<Upstream>,
    /// Its span, until the answer has ended.
    call: Option<Box<Call>>,
}

impl Answer {
    /// Whether its connection can be had for another protocol.
    #[must_use]
    pub fn can_switch(&self) -> bool {
        self.lease.as_ref().is_some_and(Lease::can_switch)
    }

    /// The connection for an upgraded protocol, the slot that it keeps, and its span.
    #[must_use]
    pub fn into_upgraded(self) -> Option<(Tunnel, Slot, Option<Box<Call>>)> {
        Some((self.lease?.switch()?, self.slot, self.call))
    }

    /// Notes that the server has not given all of it in time; `kind` is `idle_timeout` or `total_timeout`.
    pub fn overdue(&self, kind: &'static str) {
        self.upstream.metrics.error(kind);
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        let Some(lease) = &mut this.lease else { return Poll::Ready(None) };
        let frame = lease.poll_frame(cx);
        let ended = match &frame {
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => lease.has_ended(),
            // A body that the client broke counts against no server, whatever becomes of its answer.
            Poll::Ready(Some(Err(_))) => {
                if this.upload.upload_fault().is_none() {
                    this.upstream.blame(this.slot.server(), Failure::Broken);
                }
                false
            }
            Poll::Pending => false,
        };
        // A connection whose request was not taken to its end has a rest of it under way: it is closed.
        if ended && let Some(lease) = this.lease.take() {
            release(lease, &this.upload);
            if let Some(call) = this.call.take() {
                call.completed();
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.lease.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.lease.as_ref().map_or_else(|| SizeHint::with_exact(0), Lease::size_hint)
    }
}

impl Answer {
    /// Reads what is left of the answer. Dropping it closes the connection.
    pub async fn end(self) {
        let mut body = std::pin::pin!(self);
        while let Some(Ok(_)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {}
    }
}

/// A response head with its body as it comes; boxed, because it passes through many hands.
pub type Head = Box<Response<Answer>>;
/// What became of a request.
pub type Sent = Result<Head, Failure>;

/// What one request may take, and where it says how far it has come. There is one for a permit only: nothing goes to a
/// server without.
#[derive(Debug)]
pub struct Course {
    gates: Arc<RouteGates>,
    exchange: Arc<Exchange>,
    /// When all must be over.
    total: Option<Instant>,
    /// How long it may wait for a server with room.
    room: Duration,
    /// Whether its client can be given interim responses.
    interim: bool,
    /// It waits for no server: its route is exempt, or it is nested in what holds a place.
    exempt: bool,
}

impl Course {
    /// The course of what `permit` allows.
    #[must_use]
    pub fn of(permit: &Permit, room: Duration, interim: bool) -> Self {
        let total = permit.gates().policy.timeouts.total;
        Self {
            gates: permit.gates().clone(),
            exchange: permit.exchange().clone(),
            total: (!total.is_zero()).then(|| time::after(permit.since(), total)),
            room,
            interim,
            exempt: permit.gates().policy.exempt || permit.is_nested(),
        }
    }

    fn is_over(&self) -> bool {
        self.total.is_some_and(|total| total <= time::now())
    }

    /// Whether nobody waits for the response head any more.
    fn is_left(&self) -> bool {
        self.exchange.phase() == Phase::Abandoned
    }
}

/// What one try came to.
enum Tried {
    Answered(Head),
    /// Not a byte was written: the request is whole, and may go elsewhere.
    Unsent(Failure),
    Failed(Failure),
}

impl Upstream {
    /// Sends `request`, and waits for the response head.
    ///
    /// Not cancel safe in the server's eyes: once sent, dropping this closes the connection and the server may go on
    /// working. Who drops it must hold the permit for as long as that matters. When a deadline for the head passes, the
    /// exchange is told ([`Exchange::give_up`]) and this goes on, because the server does.
    ///
    /// # Errors
    /// [`Failure`], after the retries that the policy allows; only what was certainly not processed is tried again.
    pub fn send(
        self: Arc<Self>,
        pools: Arc<Pools>,
        request: Box<Request<Upload>>,
        session: Option<SessionKey>,
        course: Course,
    ) -> impl Future<Output = Sent> + Send + 'static {
        // It is moved out where it is sent, and exists once: futures keep whatever moves through them.
        let mut request = Some(request);
        async move {
            let retry = self.policy.retry;
            let mut tried = Vec::new();
            loop {
                let session = session.as_ref().map(SessionKey::as_str);
                let wanted = Wanted { session, tried: &tried, exempt: course.exempt };
                let slot = match self.try_slot(&wanted) {
                    Ok(Some(slot)) => slot,
                    // Boxed, as all that is rare: a future is as large as its largest part.
                    taken => Box::pin(self.wait_for_room(taken, &wanted, &course)).await?,
                };
                let server = slot.server().id;
                let last = tried.len() as u32 + 1 >= retry.attempts;
                let spare = if last || !self.retries_statuses() { None } else { request.as_deref().and_then(again) };
                match self.try_once(&pools, &mut request, slot, &course, tried.len()).await {
                    Tried::Answered(head) => match spare {
                        Some(spare) if self.retries(head.status().as_u16()) && !course.is_left() => {
                            request = Some(spare)
                        }
                        _ => return Ok(head),
                    },
                    Tried::Unsent(failure)
                        if !last && retry.on_connect && failure != Failure::NoDescriptor && !course.is_over() =>
                    {
                        tracing::debug!(?failure, upstream = %self.policy.name, "trying another connection");
                    }
                    Tried::Unsent(failure) | Tried::Failed(failure) => return Err(failure),
                }
                tried.push(server);
                self.metrics.retries.inc();
            }
        }
    }

    fn retries(&self, status: u16) -> bool {
        matches!(status, 429 if self.policy.retry.on_429) || matches!(status, 503 if self.policy.retry.on_503)
    }

    async fn wait_for_room(
        &self,
        taken: Result<Option<Slot>, NoServer>,
        wanted: &Wanted<'_>,
        course: &Course,
    ) -> Result<Slot, Failure> {
        if taken.is_err() {
            return Err(self.count(Failure::Unavailable));
        }
        course.exchange.enter(Phase::Server);
        let since = time::now();
        let room = time::after(since, course.room);
        let until = course.total.map_or(room, |total| total.min(room));
        let waiting = tokio::time::timeout_at(until.into(), self.wait_for_slot(wanted)).await;
        let waited = time::now().saturating_duration_since(since);
        course.exchange.add_queued(waited);
        if let Some(story) = course.exchange.story() {
            story.stayed(Stay { queue: "server", since, took: waited });
        }
        match waiting {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) => Err(self.count(Failure::Unavailable)),
            Err(_) if course.is_over() => Err(self.count(Failure::TotalTimeout)),
            Err(_) => Err(Failure::NoRoom),
        }
    }

    async fn try_once(
        self: &Arc<Self>,
        pools: &Pools,
        request: &mut Option<Box<Request<Upload>>>,
        slot: Slot,
        course: &Course,
        tries: usize,
    ) -> Tried {
        let call = self.call(slot.server(), course, tries);
        // A kept connection may be closed by the server in the moment of its use; that is no failure as long as nothing
        // was written, and costs no try.
        let mut kept = pools.reuse(slot.server(), &self.policy);
        loop {
            // Nothing of it is at a server, as far as whoever abandons it is concerned.
            course.exchange.enter(Phase::Connecting);
            let is_kept = kept.is_some();
            let mut lease = match kept.take() {
                Some(lease) => lease,
                None => match Box::pin(self.connect(pools, slot.server())).await {
                    Ok(lease) => lease,
                    Err(failure) => return Tried::Unsent(self.blame(slot.server(), note(failure, call))),
                },
            };
            let Some(mut whole) = request.take() else { return Tried::Failed(Failure::Broken) };
            if let Some(story) = course.exchange.story() {
                story.sent_to(&slot.server().url);
            }
            if let Some(call) = &call {
                call.hand_on(whole.headers_mut());
            }
            if !course.exchange.begin() {
                // Somebody has ended it, and whoever polls this is about to hear of it.
                return std::future::pending().await;
            }
            course.exchange.enter(Phase::Running);
            course.exchange.upload_moved(false);
            let sent_at = time::now();
            let head = lease.send(whole, course.interim.then(|| course.exchange.clone()));
            match (Awaited { head, upstream: self, server: slot.server(), course }).await {
                Ok(head) => {
                    let took = time::now().saturating_duration_since(sent_at);
                    return self.answered(head, lease, slot, took, &course.exchange, call);
                }
                Err(failed) => match self.unsent(failed, slot.server(), course) {
                    // A new connection that takes nothing is no connection.
                    Ok(unsent) if !is_kept => {
                        *request = Some(unsent);
                        return Tried::Unsent(self.blame(slot.server(), note(Failure::Connect, call)));
                    }
                    Ok(unsent) => {
                        *request = Some(unsent);
                        // A shared connection that takes no more requests is not asked twice.
                        kept = if self.policy.http2 { None } else { pools.reuse(slot.server(), &self.policy) };
                    }
                    Err(failure) => return Tried::Failed(note(failure, call)),
                },
            }
        }
    }

    /// The span of one try, where there is a trace.
    fn call(&self, server: &Server, course: &Course, tries: usize) -> Option<Box<Call>> {
        let trace = course.exchange.story()?.trace()?;
        trace.call(&course.exchange.method, &self.policy.name, &server.host, server.port, tries).map(Box::new)
    }

    /// The request, if the server certainly has not seen it and somebody still wants its answer.
    fn unsent(&self, failed: SendFailed, server: &Server, course: &Course) -> Result<Box<Request<Upload>>, Failure> {
        let failure = match (course.exchange.upload_fault(), failed.unsent) {
            (Some(fault), _) => Failure::Upload(fault),
            (None, Some(unsent)) if !course.is_left() => return Ok(unsent),
            (None, _) => {
                tracing::debug!(why = %failed.why, "a server gave no response");
                Failure::Broken
            }
        };
        // The exchange that was given up has been counted as what it was given up for.
        if course.exchange.given_up().is_none() {
            self.blame(server, failure);
        }
        Err(failure)
    }

    async fn connect(&self, pools: &Pools, server: &Arc<Server>) -> Result<Lease, Failure> {
        let mut exhausted = false;
        let connecting = async {
            loop {
                match pools.connect(server, &self.policy).await {
                    // One comes back with the next connection that is closed: here those that nobody uses, elsewhere soon.
                    Err(error) if is_exhausted(&error) => {
                        exhausted = true;
                        pools.make_room();
                        tokio::time::sleep(UNTIL_A_DESCRIPTOR).await;
                    }
                    connected => return connected,
                }
            }
        };
        match tokio::time::timeout(self.policy.connect_timeout, connecting).await {
            Ok(Ok(lease)) => Ok(lease),
            Err(_) if exhausted => Err(Failure::NoDescriptor),
            Ok(Err(error)) => {
                server.not_reached(&error);
                Err(if is_unresolved(&error) { Failure::NoAddress } else { Failure::Connect })
            }
            Err(_) => {
                server.not_reached(&"connect_timeout is over");
                Err(Failure::ConnectTimeout)
            }
        }
    }

    fn answered(
        self: &Arc<Self>,
        head: Response<()>,
        lease: Lease,
        slot: Slot,
        took: Duration,
        exchange: &Arc<Exchange>,
        mut call: Option<Box<Call>>,
    ) -> Tried {
        self.metrics.duration.observe(took.as_secs_f64());
        exchange.set_upstream_took(took);
        // Over HTTP/1 it could not have been read.
        if self.policy.http2 && response_framing(head.headers()).is_err() {
            return Tried::Failed(self.blame(slot.server(), note(Failure::Broken, call)));
        }
        if let Some(call) = &mut call {
            call.answered(head.status().as_u16());
        }
        // One that answers too late has not succeeded.
        if exchange.given_up().is_none() {
            slot.server().succeeded();
        }
        exchange.enter(Phase::Answering);
        let lease = if lease.has_ended() && head.status() != StatusCode::SWITCHING_PROTOCOLS {
            // No body to wait for: the connection is free now.
            release(lease, exchange);
            if let Some(call) = call.take() {
                call.completed();
            }
            None
        } else {
            Some(lease)
        };
        let answer = Answer { lease, slot, upload: exchange.clone(), upstream: self.clone(), call };
        Tried::Answered(Box::new(head.map(|()| answer)))
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

    fn count(&self, failure: Failure) -> Failure {
        if let Some(kind) = failure.kind() {
            self.metrics.error(kind);
        }
        failure
    }
}

pin_project_lite::pin_project! {
    /// The response head on its way. The response timeout runs while the server owes something: not while the client
    /// still has to send a part of its body.
    struct Awaited<'a, F> {
        #[pin]
        head: F,
        upstream: &'a Upstream,
        server: &'a Server,
        course: &'a Course,
    }
}

impl<F: Future> Future for Awaited<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if let Poll::Ready(head) = this.head.poll(cx) {
            return Poll::Ready(head);
        }
        let exchange = &this.course.exchange;
        if this.course.is_left() || exchange.given_up().is_some() {
            return Poll::Pending;
        }
        let now = time::now();
        let owes =
            time::after(exchange.upstream_owes_since().unwrap_or(now), this.course.gates.policy.timeouts.response);
        let (due, why) = match this.course.total {
            Some(total) if total <= owes => (total, GivenUp::Total),
            _ => (owes, GivenUp::Response),
        };
        if due <= now {
            exchange.give_up(why);
            this.upstream.blame(this.server, why.into());
        } else {
            exchange.wake_by(due);
        }
        Poll::Pending
    }
}

/// Notes in the span of a try why it came to nothing.
fn note(failure: Failure, call: Option<Box<Call>>) -> Failure {
    if let Some(call) = call {
        let word = if failure == Failure::NoDescriptor { "no_descriptor" } else { "upload" };
        call.failed(failure.kind().unwrap_or(word));
    }
    failure
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
fn again(request: &Request<Upload>) -> Option<Box<Request<Upload>>> {
    let mut copy = Request::new(request.body().again()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(Box::new(copy))
}
