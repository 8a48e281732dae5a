//! The first look at a request: is it one, which route is it for, whose is it?

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, Method, Request, Uri, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::sync::Notify;

use super::{Edition, Proxy, Refused, Rest};
use crate::admission::RouteGates;
use crate::limit::places::FairKey;
use crate::policy::{FairBy, InDoubt, NormalPath, Target};
use crate::request::RequestId;
use crate::request::client_address::{Client, client_address};
use crate::request::exchange::Exchange;
use crate::request::framing::{check_head, host, whole_number};
use crate::request::story::Story;
use crate::response::ending::Ending;
use crate::response::refusal::Refusal;
use crate::sync::Mutex;
use crate::telemetry::metrics::NO_ROUTE;
use crate::telemetry::{requests, traces};
use crate::upstream::fields::Hop;

/// The other end of a connection, as its listener knows it.
#[derive(Debug, Clone)]
pub struct Peer {
    pub hop: Arc<Hop>,
    /// What is wrong with the framing of the head, where hyper's own reading hides it.
    pub bad_framing: Option<&'static str>,
    /// Where the listener looks for the exchange that its connection is in.
    pub current: Arc<Mutex<Option<Arc<Exchange>>>>,
}

/// Where in its own life the gateway is.
#[derive(Debug, Default)]
pub struct Lifecycle {
    refusing: AtomicBool,
    told: Notify,
}

impl Lifecycle {
    /// From now on no new request is taken.
    pub fn refuse_requests(&self) {
        self.refusing.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    /// Waits until no new request is taken any more. Cancel safe.
    pub(super) async fn refuses(&self) {
        let mut told = pin!(self.told.notified());
        told.as_mut().enable();
        if !self.is_refusing() {
            told.await;
        }
    }

    #[must_use]
    pub fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Acquire)
    }
}

/// The parts of a request that are needed beyond its first look.
#[derive(Debug)]
pub(super) struct Head {
    pub method: Method,
    pub uri: Uri,
    pub version: Version,
    pub headers: HeaderMap,
    pub upgrade: Option<OnUpgrade>,
    pub hop: Arc<Hop>,
    /// Whether what the peer says about the way to it is believed.
    pub peer_trusted: bool,
}

/// A request with a route.
#[derive(Debug)]
pub(super) struct Received {
    pub edition: Arc<Edition>,
    /// Its place in the edition's routes.
    pub route: usize,
    pub head: Head,
    /// `None`: it is a job's, and has been read whole.
    pub body: Option<Incoming>,
    pub ending: Ending,
    pub fair: FairKey,
}

impl Received {
    pub(super) fn gates(&self) -> &Arc<RouteGates> {
        &self.edition.gates[self.route]
    }

    /// Whether nothing of the body is still to come.
    pub(super) fn has_body_ended(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    pub(super) fn refuse(self: Box<Self>, refusal: impl Into<Refusal>) -> Box<Refused> {
        let http1 = self.head.version < Version::HTTP_2;
        let rest = self.body.and_then(|body| Rest::of(body, &self.head.headers));
        Box::new(Refused { ending: self.ending, refusal: refusal.into(), http1, rest })
    }
}

impl Proxy {
    /// Finds the route of `request`.
    pub(super) fn receive(&self, request: Request<Incoming>, peer: &Peer) -> Result<Box<Received>, Box<Refused>> {
        let edition = self.edition.load_full();
        let (head, body, client) = Self::dissect(&edition, request, peer);
        let (route, refusal) = match self.route(&edition, &head, peer) {
            Ok(route) => (Some(route), oversized(&edition, route, &head)),
            Err(refusal) => (None, Some(refusal)),
        };
        let (name, metrics) = match route {
            Some(route) => {
                let gates = &edition.gates[route];
                (gates.policy.name.clone(), gates.metrics.clone())
            }
            None => (NO_ROUTE.into(), self.unrouted.clone()),
        };
        let exchange = Exchange::new(RequestId::of(&head.headers), name, head.method.clone(), client);
        let exchange = Arc::new(noted(exchange, &head.headers));
        *peer.current.lock() = Some(exchange.clone());
        let ending = Ending::new(exchange.clone(), metrics, self.admission.roll.enter(exchange));
        match (route, refusal) {
            (Some(route), None) => {
                let fair = fair_key(edition.policy.limits.fair_by.as_ref(), client, &head.headers);
                Ok(Box::new(Received { edition, route, head, body: Some(body), ending, fair }))
            }
            (_, refusal) => {
                let http1 = head.version < Version::HTTP_2;
                let rest = Rest::of(body, &head.headers);
                Err(Box::new(Refused { ending, refusal: refusal.unwrap_or(Refusal::NoRoute), http1, rest }))
            }
        }
    }

    /// Whether it is a request at all, and one that may be served now.
    pub(super) fn check(&self, head: &Head, peer: &Peer) -> Result<(), Refusal> {
        if let Some(bad) = peer.bad_framing {
            return Err(Refusal::BadFraming(bad.into()));
        }
        check_head(head.version, &head.method, &head.uri, &head.headers)
            .map_err(|bad| Refusal::BadFraming(bad.to_string().into()))?;
        if self.lifecycle.is_refusing() {
            return Err(Refusal::Draining);
        }
        Ok(())
    }

    fn route(&self, edition: &Edition, head: &Head, peer: &Peer) -> Result<usize, Refusal> {
        self.check(head, peer)?;
        route(edition, head)
    }

    /// Takes a request to pieces: its head, its body, and the address of its client.
    pub(super) fn dissect(edition: &Edition, request: Request<Incoming>, peer: &Peer) -> (Head, Incoming, IpAddr) {
        let (mut parts, body) = request.into_parts();
        let trusted = &edition.policy.server.trusted_proxies;
        let Client { address: client, peer_trusted } = client_address(peer.hop.address(), &parts.headers, trusted);
        let head = Head {
            upgrade: parts.extensions.remove::<OnUpgrade>(),
            method: parts.method,
            uri: parts.uri,
            version: parts.version,
            headers: parts.headers,
            hop: peer.hop.clone(),
            peer_trusted,
        };
        (head, body, client)
    }
}

/// The route of a request.
pub(super) fn route(edition: &Edition, head: &Head) -> Result<usize, Refusal> {
    let path = NormalPath::parse(head.uri.path()).map_err(|bad| Refusal::BadRequest(bad.to_string().into()))?;
    let target =
        Target { method: &head.method, host: host(&head.uri, &head.headers), path: &path, headers: &head.headers };
    let route = edition
        .policy
        .route_or_doubt(&target)
        .map_err(|InDoubt| Refusal::BadRequest("some servers would read the path as one of another route".into()))?;
    route.ok_or(Refusal::NoRoute)
}

/// Which requests are told of in the log, where not all are: by their ids, which clients may choose.
static CHANCE: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Has it told of in the log and in a trace, if it is one that is.
pub(super) fn noted(exchange: Exchange, headers: &HeaderMap) -> Exchange {
    let is_logged = requests::notes(|| CHANCE.hash_one(exchange.request_id.as_value()));
    let trace = traces::begin(headers, &exchange.method, &exchange.route, exchange.client, exchange.arrived);
    if is_logged || trace.is_some() { exchange.told(Arc::new(Story::new(is_logged, trace))) } else { exchange }
}

/// A body whose length is known is refused before it is sent.
fn oversized(edition: &Edition, route: usize, head: &Head) -> Option<Refusal> {
    let limit = edition.gates[route].policy.body_limit;
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(whole_number)?;
    (length > limit).then_some(Refusal::BodyTooLarge { limit })
}

/// Whom a request's place goes round to. Keyed anew in every process, so that nobody can choose to collide.
pub(super) fn fair_key(fair_by: Option<&FairBy>, client: IpAddr, headers: &HeaderMap) -> FairKey {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    match fair_by {
        None => FairKey::default(),
        Some(FairBy::ClientIp) => FairKey(KEYS.hash_one(client)),
        Some(FairBy::Header(name)) => FairKey(KEYS.hash_one(headers.get(name).map(|value| value.as_bytes()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_a_body_may_be_absent_costs_no_room() {
        assert_eq!(size_of::<Option<Incoming>>(), size_of::<Incoming>());
    }
}
