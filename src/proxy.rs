//! The life of a request.
//!
//! ```text
//! receive     head checked, route found, whose it is                        refused: 400, 404, 413, 503
//! identify    session key, from the head or from the whole body             refused: 400, 408, 413, 503
//! enter       rate limits that reject, then in line, in order of arrival    refused: 409, 422, 429, 503
//!             (or along with an equal request: [`joined`])
//! admitted    turn, rate limits that wait, place                            refused: 409, 429, 503
//! forward     to a server and back to the response head                     failed: 502, 503, 504
//! guard       the body, which owns the permit and gives it back at its end
//! ```
//!
//! Everything up to standing in line happens in [`Proxy::call`] itself, before it returns a future, unless the key
//! stands in the body: requests of one connection are called in their order, and so stand in line in their order.

mod abandonable;
mod aloud;
pub mod edition;
mod forward;
mod identify;
mod joined;
mod later;
mod likeness;
mod nested;
mod receive;
mod tunnel;

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue, Request, Response, Version, header};
use http_body::Body;
use hyper::body::Incoming;

use crate::admission::{Admission, Arrival, Rated, Rejection};
use crate::background::Jobs;
use crate::limit::joining::Entered;
use crate::policy::Later;
use crate::request::exchange::Exchange;
use crate::response::body::ProxyBody;
use crate::response::ending::Ending;
use crate::response::joined::{AnswerFollower, Answers};
use crate::response::refusal::Refusal;
use crate::telemetry::metrics::RouteMetrics;
use crate::time;
use crate::upstream::pool::Pools;
use crate::upstream::rest;
use aloud::Listens;
use edition::Edition;
use identify::Identified;
use receive::Received;

pub use later::JobRunner;
pub use receive::{Lifecycle, Peer};

/// Everything that serving a request needs. One for each worker: the connections to the servers are its own.
#[derive(Debug)]
pub struct Proxy {
    pub edition: Arc<ArcSwap<Edition>>,
    pub admission: Arc<Admission>,
    pub pools: Arc<Pools>,
    pub lifecycle: Arc<Lifecycle>,
    /// Those that equal requests share; for all workers.
    pub answers: Arc<Answers>,
    /// Those that are answered later, once a policy has had room for them.
    pub jobs: Arc<OnceLock<Arc<Jobs>>>,
    /// For requests that no route was found for.
    pub unrouted: Arc<RouteMetrics>,
}

/// A request that is being served.
pub type Serving = Pin<Box<dyn Future<Output = Response<ProxyBody>> + Send>>;

impl Proxy {
    /// Serves one request of `peer`.
    ///
    /// Dropping the future is how a client leaves: it leaves every line at once. What a server already works on is
    /// finished or cancelled as the route's `abandoned` says.
    pub fn call(self: &Arc<Self>, request: Request<Incoming>, peer: &Peer) -> Serving {
        if self.jobs.get().is_some() && later::is_about_a_job(request.uri()) {
            return later::tell(self.clone(), request, peer);
        }
        let received = match self.receive(request, peer) {
            Ok(received) => received,
            Err(refused) => return Box::pin(ready(refused.respond())),
        };
        if received.gates().policy.background != Later::Off
            && let Some(preferred) = later::is_wanted(self, &received)
        {
            return Box::pin(later::accept(self.clone(), received, preferred));
        }
        match identify::from_head(received) {
            // Over HTTP/2 several may be there at once, and hyper calls for each before it looks after any. Whoever has its key in
            // its head enters when it is looked after, as those do that came before it and have theirs in a body that is there.
            Ok(Ok(identified)) if identified.received.head.version == Version::HTTP_2 => {
                let proxy = self.clone();
                Box::pin(async move { proxy.enter(identified).await })
            }
            Ok(Ok(identified)) => self.clone().enter(identified),
            // Its key stands in the body, or the body makes it another one's equal.
            Ok(Err(received)) => Box::pin(self.clone().read_first(received)),
            Err(refused) => Box::pin(ready(refused.respond())),
        }
    }

    async fn read_first(self: Arc<Self>, received: Box<Received>) -> Response<ProxyBody> {
        match identify::from_body(received, &self.admission).await {
            Ok(identified) => self.enter(identified).await,
            Err(refused) => refused.respond(),
        }
    }

    /// Passes the rate limits that reject, and then either shares an equal request's answer or stands in line.
    fn enter(self: Arc<Self>, mut identified: Identified) -> Serving {
        identified.note_session();
        let held = identified.held.take();
        let when_busy = match identify::when_busy(&identified.received) {
            Ok(when_busy) => when_busy,
            Err(refusal) => return refuse(identified, refusal),
        };
        let nested_in = nested::nested_in(&self.admission.nesting, &identified);
        let rated = match self.admission.rate(identified.received.gates(), &identified.rated()) {
            Ok(rated) => rated,
            Err(rejection) => return refuse(identified, rejection),
        };
        let likeness = likeness::likeness(&identified, nested_in.as_deref());
        let keyed = likeness.is_some_and(|(_, keep)| keep.whole);
        let entered = likeness.map(|(likeness, keep)| self.answers.enter(likeness, keep, time::now()));
        let lead = match entered {
            // By its key it is the very request that runs: it must not run once more.
            Some(Entered::Apart) if keyed => {
                rated.give_back(identified.received.gates());
                return refuse(identified, Rejection::EqualRuns);
            }
            None | Some(Entered::Apart) => None,
            Some(Entered::Differs) => {
                rated.give_back(identified.received.gates());
                return refuse(identified, Refusal::IdempotencyMismatch);
            }
            Some(Entered::Follows { follower, kept }) => return self.join(identified, follower, rated, kept),
            Some(Entered::Leads(lead, follower)) => {
                let listens = Listens::of(&self, &identified);
                listens.prepare(&mut identified.received.head.headers);
                let ending = joined::set_apart(&self, &mut identified.received);
                lead.done_by(identified.received.ending.exchange().clone());
                Some((lead, follower, joined::Client::first(&identified.received, ending), listens))
            }
        };
        let (gates, exchange) = (identified.received.gates().clone(), identified.received.ending.exchange().clone());
        let arrived = {
            let visitor = identified.visitor(held, when_busy, nested_in);
            self.admission.stand(rated, &gates, visitor, &exchange, &identified.received.edition.policy.limits)
        };
        match lead {
            None => self.serve(identified, arrived, true),
            Some((lead, follower, client, listens)) => {
                let serving = self.clone().serve(identified, arrived, false);
                tokio::spawn(joined::carry(serving, lead, exchange, gates));
                listens.hear(Box::pin(joined::follow(self, follower, client)))
            }
        }
    }

    fn join(self: Arc<Self>, identified: Identified, follower: AnswerFollower, rated: Rated, kept: bool) -> Serving {
        let listens = Listens::of(&self, &identified).joined();
        let client = joined::Client::other(*identified.received, rated);
        client.ending.metrics().joined(kept);
        listens.hear(Box::pin(joined::follow(self, follower, client)))
    }

    /// From the line to the response head. `aloud`: its client is one that may hear how it waits.
    fn serve(self: Arc<Self>, mut identified: Identified, arrived: Result<Arrival, Rejection>, aloud: bool) -> Serving {
        let arrival = match arrived {
            Ok(arrival) => arrival,
            Err(rejection) => return refuse(identified, rejection),
        };
        match arrival.at_once(&self.admission, identified.received.ending.on_the_roll()) {
            Ok(Ok(permit)) => forward::forward(self, identified, permit),
            Ok(Err(rejection)) => refuse(identified, rejection),
            Err(waiting) => {
                let listens =
                    if aloud { Listens::of(&self, &identified).with(waiting.quota()) } else { Listens::not() };
                listens.prepare(&mut identified.received.head.headers);
                listens.hear(Box::pin(async move {
                    match waiting.admitted(&self.admission, identified.received.ending.on_the_roll()).await {
                        Ok(permit) => forward::forward(self, identified, permit).await,
                        Err(rejection) => identified.received.refuse(rejection).respond(),
                    }
                }))
            }
        }
    }
}

fn refuse(identified: Identified, refusal: impl Into<Refusal>) -> Serving {
    Box::pin(ready(identified.received.refuse(refusal).respond()))
}

/// How long a client has to take a refusal.
const TAKES_REFUSAL: Duration = Duration::from_secs(60);

/// A request that the gateway answers itself.
#[derive(Debug)]
struct Refused {
    ending: Ending,
    refusal: Refusal,
    http1: bool,
    /// What was not read of the request.
    rest: Option<Rest>,
}

/// The unread body of a request.
#[derive(Debug)]
struct Rest {
    body: Incoming,
    /// The client sends it only if it is asked to, and the answer is that it is not.
    on_demand: bool,
}

impl Rest {
    fn of(body: Incoming, headers: &HeaderMap) -> Option<Self> {
        (!body.is_end_stream()).then(|| Self { body, on_demand: headers.contains_key(header::EXPECT) })
    }
}

/// Gives a client the gateway's own answer, and sees to what was not read of its request.
fn hand_over(mut response: Response<ProxyBody>, exchange: &Exchange, rest: Option<Rest>) -> Response<ProxyBody> {
    exchange.refused();
    exchange.set_deadlines(TAKES_REFUSAL, None);
    exchange.handed_piece();
    if let Some(Rest { body, on_demand }) = rest {
        if on_demand {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        } else if !response.headers().contains_key(header::CONNECTION) {
            rest::discard(body);
        }
    }
    response
}

impl Refused {
    fn respond(mut self) -> Response<ProxyBody> {
        let exchange = self.ending.exchange().clone();
        let ended_by = match self.refusal {
            Refusal::Rejected(Rejection::Interrupted(by)) => Some(by),
            _ => None,
        };
        if !self.refusal.is_for_nobody() {
            self.ending.refused(self.refusal.status().as_u16(), self.refusal.reason(), ended_by);
        }
        tracing::debug!(
            request_id = %exchange.request_id, route = %exchange.route, reason = self.refusal.reason(), "refused"
        );
        let response = self.refusal.respond(&exchange.request_id, self.http1);
        hand_over(response, &exchange, self.rest.filter(|_| self.http1))
    }
}
