//! The life of a request.
//!
//! ```text
//! receive     head checked, route found, whose it is                        refused: 400, 404, 413, 503
//! identify    session key, from the head or from the whole body             refused: 400, 408, 413, 503
//! arrive      rate limits that reject, then in line, in order of arrival    refused: 429, 503
//! admitted    turn, rate limits that wait, place                            refused: 409, 429, 503
//! forward     to a server and back to the response head                     failed: 502, 503, 504
//! guard       the body, which owns the permit and gives it back at its end
//! ```
//!
//! Everything up to standing in line happens in [`Proxy::call`] itself, before it returns a future, unless the key
//! stands in the body: requests of one connection are called in their order, and so stand in line in their order.

mod abandonable;
pub mod edition;
mod forward;
mod identify;
mod receive;
mod tunnel;

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Body;
use hyper::body::Incoming;

use crate::admission::{Admission, Arrival};
use crate::response::body::ProxyBody;
use crate::response::ending::Ending;
use crate::response::refusal::Refusal;
use crate::telemetry::metrics::RouteMetrics;
use crate::upstream::pool::Pools;
use crate::upstream::rest;
use edition::Edition;
use identify::Identified;
use receive::Received;

pub use receive::{Lifecycle, Peer};

/// Everything that serving a request needs. One for each worker: the connections to the servers are its own.
#[derive(Debug)]
pub struct Proxy {
    pub edition: Arc<ArcSwap<Edition>>,
    pub admission: Arc<Admission>,
    pub pools: Arc<Pools>,
    pub lifecycle: Arc<Lifecycle>,
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
        match self.receive(request, peer).and_then(identify::from_head) {
            Ok(Ok(identified)) => match self.arrive(identified) {
                Ok((identified, arrival)) => self.clone().serve(identified, arrival),
                Err(refused) => Box::pin(ready(refused.respond())),
            },
            // Its key stands in the body.
            Ok(Err(received)) => Box::pin(self.clone().read_first(received)),
            Err(refused) => Box::pin(ready(refused.respond())),
        }
    }

    async fn read_first(self: Arc<Self>, received: Box<Received>) -> Response<ProxyBody> {
        let arrived = match identify::from_body(received, &self.admission).await {
            Ok(identified) => self.arrive(identified),
            Err(refused) => Err(refused),
        };
        match arrived {
            Ok((identified, arrival)) => self.serve(identified, arrival).await,
            Err(refused) => refused.respond(),
        }
    }

    fn arrive(&self, mut identified: Identified) -> Result<(Identified, Arrival), Box<Refused>> {
        let held = identified.held.take();
        let visitor = identified.visitor(held);
        let received = &identified.received;
        let limits = &received.edition.policy.limits;
        match self.admission.arrive(received.gates(), visitor, received.ending.exchange(), limits) {
            Ok(arrival) => Ok((identified, arrival)),
            Err(rejection) => Err(identified.received.refuse(rejection)),
        }
    }

    /// From the line to the response head.
    fn serve(self: Arc<Self>, mut identified: Identified, arrival: Arrival) -> Serving {
        match arrival.at_once(&self.admission, identified.received.ending.on_the_roll()) {
            Ok(Ok(permit)) => forward::forward(self, identified, permit),
            Ok(Err(rejection)) => Box::pin(ready(identified.received.refuse(rejection).respond())),
            Err(waiting) => Box::pin(async move {
                match waiting.admitted(&self.admission, identified.received.ending.on_the_roll()).await {
                    Ok(permit) => forward::forward(self, identified, permit).await,
                    Err(rejection) => identified.received.refuse(rejection).respond(),
                }
            }),
        }
    }
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

impl Refused {
    fn respond(mut self) -> Response<ProxyBody> {
        self.ending.metrics().rejected(self.refusal.reason());
        let exchange = self.ending.exchange().clone();
        self.ending.answered(self.refusal.status().as_u16());
        tracing::debug!(
            request_id = %exchange.request_id, route = %exchange.route, reason = self.refusal.reason(), "refused"
        );
        exchange.set_deadlines(TAKES_REFUSAL, None);
        exchange.handed_piece();
        let mut response = self.refusal.into_response(&exchange.request_id, self.http1);
        if let Some(Rest { body, on_demand }) = self.rest.filter(|_| self.http1) {
            if on_demand {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            } else if !response.headers().contains_key(header::CONNECTION) {
                rest::discard(body);
            }
        }
        response
    }
}
