//! One try of a job: a request as every other, without a client beside it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use http_body::Body;

use super::super::identify::{self, Whole};
use super::super::receive::{Head, Received, fair_key, route};
use super::super::{Proxy, Serving};
use crate::admission::{QueueScope, Rejection};
use crate::background::job::{Answer, Attempt, Request, Tried};
use crate::background::{Run, Stop, Why, retry};
use crate::policy::{RateLimit, RatePer};
use crate::request::RequestId;
use crate::request::exchange::{EndedBy, Exchange};
use crate::request::story::Story;
use crate::response::body::{BodyCut, ProxyBody};
use crate::response::ending::Ending;
use crate::response::job::keep;
use crate::response::refusal::Refusal;
use crate::telemetry::traces;
use crate::time::LazyTimer;
use crate::upstream::failure::Failure;
use crate::upstream::fields::Hop;

/// When the gateway says no and does not say for how long.
const SOON: Duration = Duration::from_secs(1);

/// Runs jobs through one proxy.
#[derive(Debug)]
pub struct JobRunner(pub Arc<Proxy>);

impl Run for JobRunner {
    fn run(&self, request: Request, stop: Arc<Stop>) -> Pin<Box<dyn Future<Output = Tried> + Send>> {
        Box::pin(run(self.0.clone(), request, stop))
    }
}

async fn run(proxy: Arc<Proxy>, mut request: Request, stop: Arc<Stop>) -> Tried {
    let whole = Box::new(Whole { data: std::mem::take(&mut request.body), trailers: None });
    let received = match resume(&proxy, request) {
        Ok(received) => received,
        Err(refusal) => {
            let attempt = Attempt::Hopeless { answer: None, error: refusal.reason().into() };
            return Tried { attempt, upstream: None };
        }
    };
    let edition = received.edition.clone();
    let upstream = edition.upstreams[received.gates().policy.upstream].policy.name.clone();
    let most = edition.policy.background.as_ref().map_or(1 << 20, |settings| settings.max_result);
    let limits = received.gates().policy.rate_limits.clone();
    let exchange = received.ending.exchange().clone();
    let serving = match identify::from_whole(received, whole, None) {
        Ok(identified) => proxy.enter(identified),
        Err(refused) => Box::pin(std::future::ready(refused.respond())),
    };
    let came = pin!(come(serving, exchange.clone(), most));
    // One that is stopped is left here as a client leaves it: what becomes of it at its server says the route.
    let attempt = match until_stopped(came, &exchange, &stop).await {
        Some(came) => attempt_of(came, &stop, &limits),
        None => Attempt::Stopped,
    };
    Tried { attempt, upstream: Some(upstream) }
}

/// What comes of it; `None` if it was cancelled.
async fn until_stopped(
    mut came: Pin<&mut impl Future<Output = Came>>,
    exchange: &Exchange,
    stop: &Stop,
) -> Option<Came> {
    loop {
        tokio::select! {
            biased;
            came = &mut came => return Some(came),
            () = stop.told() => match stop.why() {
                Some(Why::Cancelled) => return None,
                Some(Why::Recalled) => drop(exchange.end_unless_begun(EndedBy::Abandoned)),
                None => {}
            },
        }
    }
}

/// A stored request as one that has just come, for the policy in force.
fn resume(proxy: &Proxy, request: Request) -> Result<Box<Received>, Refusal> {
    let edition = proxy.edition.load_full();
    let scheme = if request.encrypted { "https" } else { "http" };
    let head = Head {
        method: request.method,
        uri: request.uri,
        version: request.version,
        headers: request.headers,
        upgrade: None,
        hop: Arc::new(Hop::new(request.peer, scheme)),
        peer_trusted: request.peer_trusted,
    };
    let route = route(&edition, &head)?;
    let gates = &edition.gates[route];
    let request_id = RequestId::of(&head.headers);
    let exchange = Exchange::new(request_id, gates.policy.name.clone(), head.method.clone(), request.client);
    let trace = traces::begin_job(&head.headers, &exchange.method, &exchange.route, exchange.client, exchange.arrived);
    let exchange = Arc::new(match trace {
        Some(trace) => exchange.told(Arc::new(Story::new(false, Some(trace)))),
        None => exchange,
    });
    let entry = proxy.admission.roll.enter(exchange.clone());
    // Its client was counted when the job was accepted.
    let ending = Ending::of_job(exchange, gates.metrics.clone(), entry);
    let fair = fair_key(edition.policy.limits.fair_by.as_ref(), request.client, &head.headers);
    Ok(Box::new(Received { edition, route, head, body: None, ending, fair }))
}

/// What came of a request.
enum Came {
    /// The gateway's own answer.
    Refused(Refusal, Answer),
    Answered(Answer),
    /// The answer is longer than is kept.
    TooLong,
    Cut(BodyCut),
}

async fn come(mut serving: Serving, exchange: Arc<Exchange>, most: u64) -> Came {
    let mut timer = LazyTimer::default();
    let response = heed(&exchange, &mut timer, |cx| serving.as_mut().poll(cx)).await;
    drop(serving);
    let (mut head, mut body) = response.into_parts();
    let refusal = head.extensions.remove::<Refusal>();
    let mut data = BytesMut::new();
    while let Some(frame) = next_frame(&exchange, &mut timer, &mut body).await {
        match frame {
            Ok(Some(piece)) if (data.len() + piece.len()) as u64 > most => return Came::TooLong,
            Ok(Some(piece)) => data.extend_from_slice(&piece),
            // Trailers are not kept.
            Ok(None) => {}
            Err(why) => return Came::Cut(why),
        }
    }
    let mut headers = head.headers;
    keep(&mut headers);
    let answer = Answer { status: head.status, headers, body: data.freeze() };
    match refusal {
        Some(refusal) => Came::Refused(refusal, answer),
        None => Came::Answered(answer),
    }
}

async fn next_frame(
    exchange: &Exchange,
    timer: &mut LazyTimer,
    body: &mut ProxyBody,
) -> Option<Result<Option<bytes::Bytes>, BodyCut>> {
    let frame = heed(exchange, timer, |cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    Some(frame.map(|frame| frame.into_data().ok()))
}

/// What comes of `poll`, with the alarms that the connection of a client would hear.
async fn heed<T>(exchange: &Exchange, timer: &mut LazyTimer, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ready) = poll(cx) {
                return Poll::Ready(ready);
            }
            if exchange.rings() {
                continue;
            }
            let Some(next) = exchange.alarm() else { return Poll::Pending };
            if timer.poll_until(next, cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Whether it is worth trying again, and when.
fn attempt_of(came: Came, stop: &Stop, limits: &[Arc<RateLimit>]) -> Attempt {
    let failed = |answer, error: &str| Attempt::Failed { answer, error: error.into(), asked: None, is_down: false };
    match came {
        Came::Answered(answer) if retry::is_temporary(answer.status) => Attempt::Failed {
            error: format!("status_{}", answer.status.as_u16()).into(),
            asked: retry::asked_for(&answer.headers, SystemTime::now()),
            is_down: false,
            answer: Some(answer),
        },
        Came::Answered(answer) => Attempt::Answered(answer),
        Came::TooLong => Attempt::Hopeless { answer: None, error: "result_too_large".into() },
        Came::Cut(BodyCut::Interrupted) => interrupted(None, stop),
        Came::Cut(BodyCut::Upstream | BodyCut::FellBehind) => failed(None, "upstream_broken"),
        Came::Cut(BodyCut::Idle | BodyCut::Total) => failed(None, "upstream_timeout"),
        Came::Refused(refusal, answer) => refused(&refusal, answer, stop, limits),
    }
}

fn refused(refusal: &Refusal, answer: Answer, stop: &Stop, limits: &[Arc<RateLimit>]) -> Attempt {
    let counts_the_route =
        |name: &Arc<str>| limits.iter().any(|limit| limit.name == *name && limit.per == RatePer::Route);
    let answer = Some(answer);
    let error: Arc<str> = refusal.reason().into();
    match refusal {
        Refusal::Failed(failure) => match failure {
            Failure::Unavailable | Failure::NoAddress | Failure::Connect | Failure::ConnectTimeout => {
                Attempt::Failed { answer, error, asked: None, is_down: true }
            }
            Failure::Broken | Failure::ResponseTimeout | Failure::TotalTimeout => {
                Attempt::Failed { answer, error, asked: None, is_down: false }
            }
            Failure::NoRoom | Failure::NoDescriptor => Attempt::Postponed { asked: SOON },
            Failure::Upload(_) => Attempt::Hopeless { answer, error },
        },
        Refusal::Rejected(rejection) => match rejection {
            Rejection::Interrupted(_) => interrupted(answer, stop),
            Rejection::NestedTooDeep { .. } | Rejection::TurnDeadlock => Attempt::Hopeless { answer, error },
            Rejection::SessionBusy | Rejection::EqualRuns => Attempt::Postponed { asked: SOON },
            // Those of its route that came later would fare as it does.
            Rejection::RateLimited { quota, retry_after } if counts_the_route(&quota.allowance.name) => {
                Attempt::RouteShut { asked: *retry_after }
            }
            Rejection::QueueFull { scope: QueueScope::Requests | QueueScope::Bytes, retry_after }
            | Rejection::QueueTimeout { retry_after, .. } => Attempt::RouteShut { asked: *retry_after },
            Rejection::RateLimited { retry_after, .. }
            | Rejection::SessionQueueFull { retry_after, .. }
            | Rejection::SessionQueueTimeout { retry_after, .. }
            | Rejection::QueueFull { retry_after, .. }
            | Rejection::KeyTableFull { retry_after } => Attempt::Postponed { asked: *retry_after },
        },
        Refusal::Draining => Attempt::Stopped,
        _ => Attempt::Hopeless { answer, error },
    }
}

/// Ended before its time: by whoever stopped the job, or by an operator or a newer request of its session.
fn interrupted(answer: Option<Answer>, stop: &Stop) -> Attempt {
    match stop.why() {
        Some(_) => Attempt::Stopped,
        None => Attempt::Hopeless { answer, error: "interrupted".into() },
    }
}
