use std::net::Ipv4Addr;

use super::*;
use crate::admission::{Arrival, Permit, RollEntry, RouteGates, Visitor};
use crate::limit::places::FairKey;
use crate::policy::{Policy, WhenBusy, compile};
use crate::request::session_key::SessionKey;
use crate::request::{RequestId, Tenant};
use crate::telemetry::metrics::Metrics;

struct House {
    admission: Admission,
    policy: Policy,
    gates: Vec<Arc<RouteGates>>,
}

impl House {
    fn new() -> Self {
        let text = b"limits: {concurrency: 2}\nupstreams: {a: {servers: ['http://a']}}\n\
            routes: [{name: s, match: {path: /s}, session: {key: [{header: X}], reentrant: true}}, {name: p}]";
        let policy = compile::compile("p", text, &|_| None).expect("it holds").policy;
        let admission = Admission::new(&policy, Arc::new(Metrics::new()));
        let gates = admission.reconcile(&policy);
        Self { admission, policy, gates }
    }

    fn arrive(&self, route: usize) -> (Arrival, RollEntry) {
        let id = RequestId::of(&http::HeaderMap::new());
        let gates = &self.gates[route];
        let exchange = Exchange::new(id, gates.policy.name.clone(), http::Method::GET, Ipv4Addr::LOCALHOST.into());
        let exchange = Arc::new(exchange);
        let key = SessionKey::named("ann", &Tenant::default());
        let visitor = Visitor {
            session: Some(&key),
            client: Ipv4Addr::LOCALHOST.into(),
            fair: FairKey::default(),
            headers: &http::HeaderMap::new(),
            held: None,
            when_busy: WhenBusy::Wait,
            nested_in: None,
            tenant: Tenant::default(),
        };
        let entry = self.admission.roll.enter(exchange.clone());
        let arrival = self.admission.arrive(gates, visitor, &exchange, &self.policy.limits).expect("room");
        (arrival, entry)
    }

    fn permit(&self, route: usize) -> (Permit, RollEntry) {
        let (arrival, entry) = self.arrive(route);
        (arrival.at_once(&self.admission, &mut None).expect("let in").expect("at once"), entry)
    }

    /// What is found in so many looks.
    fn looks(&self, ledger: &mut Ledger, count: usize) -> Vec<Leak> {
        (0..count).flat_map(|_| ledger.audit(&self.admission)).collect()
    }
}

const MANY: usize = 3 * PLACE_LOOKS as usize;

#[test]
fn whatever_is_held_by_somebody_is_no_leak() {
    let house = House::new();
    let mut ledger = Ledger::default();
    let (running, waiting) = (house.permit(0), house.arrive(0));
    let other = house.permit(1);
    let (queued, entry) = house.arrive(1);
    let queued = (queued.at_once(&house.admission, &mut None).expect_err("full"), entry);
    assert_eq!(house.looks(&mut ledger, MANY), []);
    drop(other);
    // Granted, and not noticed yet.
    assert_eq!(house.looks(&mut ledger, MANY), []);
    drop((running, waiting, queued));
    assert_eq!(house.looks(&mut ledger, MANY), []);
}

#[test]
fn a_place_that_nobody_holds_is_told_once_with_its_route() {
    let house = House::new();
    let mut ledger = Ledger::default();
    let (permit, entry) = house.permit(1);
    std::mem::forget(permit);
    assert_eq!(house.looks(&mut ledger, MANY), [], "its request is still here");
    drop(entry);
    let leak = Leak { what: "place", route: "p".into(), request_id: None, count: 1 };
    assert_eq!(house.looks(&mut ledger, MANY), [leak]);
}

#[test]
fn a_turn_that_nobody_holds_is_told_once_with_its_request() {
    let house = House::new();
    let mut ledger = Ledger::default();
    let (arrival, entry) = house.arrive(0);
    std::mem::forget(arrival);
    drop(entry);
    let leaks = house.looks(&mut ledger, MANY);
    assert_eq!(leaks.len(), 1, "{leaks:?}");
    assert_eq!((leaks[0].what, &*leaks[0].route, leaks[0].count), ("turn", "s", 1));
    assert!(leaks[0].request_id.is_some());
}
