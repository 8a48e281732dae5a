//! Requests that are answered later: how they become jobs, what their clients are told, and how they are run.
//!
//! A job comes in through [`accept`], which does what is done for every request up to its session key, and then writes it
//! down instead of standing in line. It is run through the same door as every other request ([`Proxy::enter`]), with the
//! route that matches it then.

mod run;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use hyper::body::Incoming;

use super::identify::{self, Identified, session_of};
use super::receive::{Peer, Received, noted};
use super::{Proxy, Refused, Rest, Serving, hand_over};
use crate::background::job::{JobId, Owner, Request as Kept, Status, View};
use crate::background::prefer::{Preferred, take_out};
use crate::background::{Jobs, New, NotAccepted};
use crate::policy::{Later, NormalPath};
use crate::request::RequestId;
use crate::request::exchange::Exchange;
use crate::request::framing::asks_upgrade;
use crate::request::ids::{X_REQUEST_ID, continue_trace};
use crate::response::body::ProxyBody;
use crate::response::ending::Ending;
use crate::response::job as answers;
use crate::response::refusal::{JobRefusal, Refusal};
use crate::time;
use crate::upstream::fields::{TURNWISE_SESSION, TURNWISE_TURN};

pub use run::JobRunner;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Nobody is made to wait for longer, whatever it prefers.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// Before the end of a drain whoever still waits is told how it stands.
const PARTING: Duration = Duration::from_secs(1);
/// The part of the paths that is the gateway's own, once it keeps jobs.
const OWN: &str = "/_turnwise/";

/// Whether a request is for the gateway itself, however its path is spelt.
pub(super) fn is_about_a_job(uri: &Uri) -> bool {
    let path = uri.path();
    let is_spelt_otherwise = || path.contains('%') || path.contains("//");
    path.starts_with(OWN)
        || is_spelt_otherwise() && NormalPath::parse(path).is_ok_and(|path| path.as_str().starts_with(OWN))
}

/// Whether a request of a route that answers later is one to be answered later, and what its client prefers.
pub(super) fn is_wanted(proxy: &Proxy, received: &Received) -> Option<Preferred> {
    proxy.jobs.get()?;
    let headers = &received.head.headers;
    let preferred = Preferred::of(headers);
    let wants = received.gates().policy.background == Later::Always || preferred.respond_async;
    (wants && !asks_upgrade(headers) && received.head.method != Method::CONNECT).then_some(preferred)
}

/// Makes a request a job, and answers when it is on disk, or when it has ended within the time that its client waits.
pub(super) async fn accept(proxy: Arc<Proxy>, received: Box<Received>, preferred: Preferred) -> Response<ProxyBody> {
    let Some(jobs) = proxy.jobs.get().cloned() else { return received.refuse(Refusal::Internal).respond() };
    let identified = match identify::read_to_its_end(received, &proxy.admission).await {
        Ok(identified) => identified,
        Err(refused) => return refused.respond(),
    };
    if let Err(refusal) = identify::when_busy(&identified.received) {
        return identified.received.refuse(refusal).respond();
    }
    identified.note_session();
    let total = identified.received.gates().policy.timeouts.total;
    let assigned = identified.assigned.as_ref().map(|assigned| assigned.1.clone());
    let id = JobId::new();
    let owner = Owner::of(&identified.received.head.headers);
    let (new, mut received, held) = new_job(identified, id, owner);
    let accepted = jobs.accept(new).await;
    drop(held);
    if let Err(refused) = accepted {
        return received.refuse(refusal_of(refused)).respond();
    }
    let wait = preferred.wait.unwrap_or_default().min(if total.is_zero() { LONGEST_WAIT } else { total });
    // Whoever does not wait is told what it was when it was accepted, however far it has come since.
    let view = if wait.is_zero() { None } else { wait_for(&proxy, &jobs, id, wait.min(LONGEST_WAIT)).await };
    let exchange = received.ending.exchange().clone();
    let mut response = match answer_of(&jobs, view.as_ref()).await {
        Some(response) => response,
        None => answers::accepted(id, view.as_ref(), &exchange.request_id),
    };
    if let Some(key) = assigned {
        response.headers_mut().insert(TURNWISE_SESSION, key);
    }
    received.ending.answered_itself(response.status().as_u16());
    hand_over(response, &exchange, None)
}

/// How a job stands when it has ended or has been waited for long enough. Where the gateway is about to end, one that does not
/// run will not, and for one that runs there is time as long as for other requests.
async fn wait_for(proxy: &Proxy, jobs: &Arc<Jobs>, id: JobId, wait: Duration) -> Option<View> {
    let began = time::now();
    tokio::select! {
        biased;
        view = jobs.ended(id, wait) => return view,
        () = proxy.lifecycle.refuses() => {}
    }
    let runs = jobs.ended(id, Duration::ZERO).await.is_some_and(|view| view.status == Status::Running);
    let left = proxy.edition.load().policy.server.drain_timeout.saturating_sub(PARTING);
    let waited = time::now().saturating_duration_since(began);
    jobs.ended(id, if runs { wait.saturating_sub(waited).min(left) } else { Duration::ZERO }).await
}

/// The answer to a job that has ended, if it can be had.
async fn answer_of(jobs: &Arc<Jobs>, view: Option<&View>) -> Option<Response<ProxyBody>> {
    let view = view.filter(|view| view.status.has_ended())?;
    jobs.answer(view.id).await.ok().flatten().map(answers::result)
}

fn refusal_of(refused: NotAccepted) -> Refusal {
    match refused {
        NotAccepted::Full { again_in, .. } => Refusal::Job(JobRefusal::QueueFull {
            detail: "background.queue jobs have not ended. Nothing was accepted.",
            retry_after: again_in,
        }),
        NotAccepted::StoreFull { again_in } => Refusal::Job(JobRefusal::QueueFull {
            detail: "The job store holds background.store_bytes already, or its disk has no room to spare. Nothing was accepted.",
            retry_after: again_in,
        }),
        NotAccepted::NotWritten => Refusal::Job(JobRefusal::NotWritten),
        NotAccepted::Draining => Refusal::Draining,
    }
}

/// What is written down of a request; and what of it is still needed to answer its client.
fn new_job(
    identified: Identified,
    id: JobId,
    owner: Owner,
) -> (New, Box<Received>, Option<crate::limit::held_bytes::HeldBody>) {
    let Identified { mut received, session, whole, assigned, held } = identified;
    let lane = session.and_then(|key| {
        let session = session_of(received.gates())?;
        Some((format!("{}\n{key}", session.lane).into(), session.concurrency.get()))
    });
    let body = whole.map(|whole| whole.data).unwrap_or_default();
    let exchange = received.ending.exchange().clone();
    let head = &mut received.head;
    let mut headers = head.headers.clone();
    // The turn that it was made in will have ended, and it has said all that it prefers.
    headers.remove(TURNWISE_TURN);
    take_out(&mut headers);
    for name in [header::EXPECT, header::TRANSFER_ENCODING, header::TRAILER] {
        headers.remove(name);
    }
    if !body.is_empty() || headers.contains_key(header::CONTENT_LENGTH) {
        headers.insert(header::CONTENT_LENGTH, body.len().into());
    }
    if let Some((Some(field), key)) = assigned.map(|assigned| *assigned) {
        headers.insert(field, key);
    }
    // The same for all tries: what a server did for one that was lost on the way back, it need not do again.
    if headers.get_all(IDEMPOTENCY_KEY).iter().all(HeaderValue::is_empty) {
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(&id.to_string()).expect("hexadecimal digits"));
    }
    headers.insert(X_REQUEST_ID, exchange.request_id.as_value().clone());
    continue_trace(&mut headers);
    if let Some(trace) = exchange.story().and_then(|story| story.trace()) {
        trace.hand_on(&mut headers);
    }
    let request = Kept {
        method: head.method.clone(),
        uri: head.uri.clone(),
        version: head.version,
        headers,
        body,
        client: exchange.client,
        peer: head.hop.address(),
        peer_trusted: head.peer_trusted,
        encrypted: head.hop.is_encrypted(),
    };
    let policy = &received.gates().policy;
    let upstream = received.edition.upstreams[policy.upstream].policy.name.clone();
    (New { id, owner, request, route: policy.name.clone(), upstream, lane }, received, held)
}

/// Answers a client that asks for a job of its own.
pub(super) fn tell(proxy: Arc<Proxy>, request: Request<Incoming>, peer: &Peer) -> Serving {
    let edition = proxy.edition.load_full();
    let (head, body, client) = Proxy::dissect(&edition, request, peer);
    let name = crate::telemetry::metrics::NO_ROUTE.into();
    let exchange = Exchange::new(RequestId::of(&head.headers), name, head.method.clone(), client);
    let exchange = Arc::new(noted(exchange, &head.headers));
    *peer.current.lock() = Some(exchange.clone());
    let entry = proxy.admission.roll.enter(exchange.clone());
    let mut ending = Ending::new(exchange.clone(), proxy.unrouted.clone(), entry);
    let http1 = head.version < http::Version::HTTP_2;
    let rest = Rest::of(body, &head.headers);
    if let Err(refusal) = proxy.check(&head, peer) {
        return Box::pin(std::future::ready(Refused { ending, refusal, http1, rest }.respond()));
    }
    Box::pin(async move {
        let path = NormalPath::parse(head.uri.path()).unwrap_or_default();
        let asked = Asked::of(&head.method, path.as_str());
        let told = match proxy.jobs.get() {
            Some(jobs) => told(jobs, asked, Owner::of(&head.headers), &exchange.request_id).await,
            None => Err(Refusal::NoRoute),
        };
        match told {
            Ok(response) => {
                ending.answered_itself(response.status().as_u16());
                hand_over(response, &exchange, rest.filter(|_| http1))
            }
            Err(refusal) => {
                let mut response = Refused { ending, refusal, http1, rest }.respond();
                if let Asked::Otherwise(methods) = asked {
                    answers::allow(&mut response, methods);
                }
                response
            }
        }
    })
}

/// What a client wants to know or have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Status(JobId),
    Result(JobId),
    Cancel(JobId),
    Nothing,
    /// There are other methods for that.
    Otherwise(&'static str),
}

impl Asked {
    fn of(method: &Method, path: &str) -> Self {
        let Some(below) = path.strip_prefix(answers::PATH) else { return Self::Nothing };
        let (name, result) = match below.strip_suffix("/result") {
            Some(name) => (name, true),
            None => (below, false),
        };
        let Some(id) = JobId::parse(name) else { return Self::Nothing };
        match *method {
            Method::GET | Method::HEAD if result => Self::Result(id),
            Method::GET | Method::HEAD => Self::Status(id),
            Method::DELETE if !result => Self::Cancel(id),
            _ if result => Self::Otherwise("GET, HEAD"),
            _ => Self::Otherwise("GET, HEAD, DELETE"),
        }
    }
}

async fn told(
    jobs: &Arc<Jobs>,
    asked: Asked,
    owner: Owner,
    request_id: &RequestId,
) -> Result<Response<ProxyBody>, Refusal> {
    use crate::background::NotDone;
    let unknown = Refusal::Job(JobRefusal::Unknown);
    match asked {
        Asked::Nothing => Err(unknown),
        Asked::Otherwise(_) => Err(Refusal::Job(JobRefusal::Method)),
        Asked::Status(id) => {
            let view = jobs.view(id, owner).ok_or(unknown)?;
            Ok(answers::status(&view, request_id))
        }
        Asked::Result(id) => {
            let view = jobs.view(id, owner).ok_or(unknown)?;
            if !view.status.has_ended() {
                return Err(Refusal::Job(JobRefusal::NotFinished { retry_after: view.again_in }));
            }
            match jobs.answer(id).await {
                Ok(Some(answer)) => Ok(answers::result(answer)),
                Ok(None) => Err(Refusal::Job(JobRefusal::NoResult)),
                Err(error) => {
                    tracing::error!(%error, job = %id, "a result cannot be read");
                    Err(Refusal::Internal)
                }
            }
        }
        Asked::Cancel(id) => match jobs.cancel(id, Some(owner)).await {
            Ok(view) => Ok(answers::status(&view, request_id)),
            Err(NotDone::NotWritten) => Err(Refusal::Job(JobRefusal::NotWritten)),
            Err(_) => Err(unknown),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_jobs_by_their_name_can_be_asked_for() {
        let id = JobId::new();
        let of = |method, path: &str| Asked::of(&method, path);
        assert_eq!(of(Method::GET, &format!("/_turnwise/jobs/{id}")), Asked::Status(id));
        assert_eq!(of(Method::HEAD, &format!("/_turnwise/jobs/{id}/result")), Asked::Result(id));
        assert_eq!(of(Method::DELETE, &format!("/_turnwise/jobs/{id}")), Asked::Cancel(id));
        for path in
            ["/_turnwise/jobs", "/_turnwise/jobs/", "/_turnwise/", "/_turnwise/jobs/x", "/_turnwise/jobs//result"]
        {
            assert_eq!(of(Method::GET, path), Asked::Nothing, "{path}");
        }
        assert_eq!(of(Method::GET, &format!("/_turnwise/jobs/{id}/")), Asked::Nothing);
        assert!(matches!(of(Method::POST, &format!("/_turnwise/jobs/{id}")), Asked::Otherwise(_)));
        assert!(matches!(of(Method::DELETE, &format!("/_turnwise/jobs/{id}/result")), Asked::Otherwise(_)));
    }
}
