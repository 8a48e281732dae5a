//! Who may go to an upstream, and when.
//!
//! A request is let in through the gates in one order: rate limits that reject, its session's turn, rate limits that
//! wait, a place. [`Admission::arrive`] is synchronous, because it decides the order of arrival; the waiting comes
//! after it, in [`Arrival::admitted`], which ends with a [`Permit`] or a [`Rejection`].
//!
//! Invariant: a request that waits for its turn holds no place, and the gate before the places never waits for a lane.
//! Invariant: a rejection gives back every token, turn and place that was taken on the way.

mod arrival;
mod gates;
mod ledger;
mod line;
mod member;
pub mod nesting;
mod permit;
mod quota;
mod rate;
mod rejection;
mod roll;
mod tokens;

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

pub use arrival::{Arrival, Rated, Visitor};
pub use gates::RouteGates;
pub use ledger::{Leak, Ledger, unaccounted};
pub use member::Member;
pub use permit::Permit;
pub use quota::{Allowance, Quota};
pub use rate::{RateLimiter, RateState};
pub use rejection::{QueueScope, Rejection};
pub use roll::{Roll, RollEntry};
pub use tokens::RateKey;

use crate::limit::gate::Gate;
use crate::limit::held_bytes::HeldBytes;
use crate::limit::keys::KeyBudget;
use crate::limit::lanes::{Lanes, Turn};
use crate::limit::places::{QueueLimits, Scope};
use crate::policy::Policy;
use crate::request::session_key::SessionKey;
use crate::sync::Mutex;
use crate::telemetry::metrics::Metrics;
use crate::time;
use nesting::Nesting;
use rate::InForce;

/// The lane of one session: requests of all routes that share the lane's name take turns together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneKey {
    pub lane: Arc<str>,
    pub session: SessionKey,
}

impl Hash for LaneKey {
    /// Few lanes share a key, so its hash, which it brings with it, is enough.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.session.hash(state);
    }
}

/// The lanes of all sessions.
pub type Sessions = Lanes<LaneKey, Member>;
/// A place in a session's line, then its turn.
pub type SessionTurn = Turn<LaneKey, Member>;

/// All that decides about admission and outlives a reload.
#[derive(Debug)]
pub struct Admission {
    pub sessions: Arc<Sessions>,
    pub gate: Arc<Gate>,
    pub held: Arc<HeldBytes>,
    pub roll: Arc<Roll>,
    pub nesting: Arc<Nesting>,
    /// Lines before the buckets of rate limits that wait, one for each bucket.
    rate_lines: Arc<Lanes<(u64, RateKey), ()>>,
    keys: Arc<KeyBudget>,
    metrics: Arc<Metrics>,
    registry: Mutex<Registry>,
    /// For `Retry-After` of a full queue.
    pace: Arc<Pace>,
    /// When room for keys may be made next, in nanoseconds after the start.
    room_due: AtomicU64,
}

/// What is known by name from one policy to the next.
#[derive(Debug, Default)]
struct Registry {
    routes: HashMap<Arc<str>, Scope>,
    upstreams: HashMap<Arc<str>, Scope>,
    rates: HashMap<(Arc<str>, Arc<str>), Arc<InForce>>,
    next_rate: u64,
}

impl Admission {
    /// Gates for `policy`, all of them free.
    #[must_use]
    pub fn new(policy: &Policy, metrics: Arc<Metrics>) -> Self {
        let keys = Arc::new(KeyBudget::new(policy.limits.keys));
        let (bytes, share) = held_limits(policy);
        Self {
            sessions: Arc::new(Lanes::new(keys.clone())),
            gate: Arc::new(Gate::new(policy.limits.concurrency as usize, queue_limits(policy))),
            held: Arc::new(HeldBytes::new(bytes, share)),
            roll: Arc::new(Roll::new()),
            nesting: Arc::default(),
            // Their keys are those of buckets, which are counted already.
            rate_lines: Arc::new(Lanes::new(Arc::new(KeyBudget::new(usize::MAX)))),
            keys,
            metrics,
            registry: Mutex::new(Registry::default()),
            pace: Arc::new(Pace::new()),
            room_due: AtomicU64::new(0),
        }
    }

    /// Brings the gates in line with `policy` and returns what its routes go through, in their order.
    ///
    /// Whoever waits keeps its place and its deadline; a raised limit admits at once, a lowered one drains. The balance
    /// of a rate limit survives if its definition did not change.
    #[must_use]
    pub fn reconcile(&self, policy: &Policy) -> Vec<Arc<RouteGates>> {
        let mut registry = self.registry.lock();
        let upstreams: Vec<Scope> = policy
            .upstreams
            .iter()
            .map(|upstream| {
                *registry.upstreams.entry(upstream.name.clone()).or_insert_with(|| self.gate.add_scope(None))
            })
            .collect();
        let mut limits: Vec<_> = policy
            .upstreams
            .iter()
            .zip(&upstreams)
            .map(|(upstream, scope)| (*scope, upstream.effective_concurrency().map(|n| n as usize)))
            .collect();
        let mut rates = HashMap::new();
        let mut gates = Vec::with_capacity(policy.routes.len());
        for route in &policy.routes {
            let scope = *registry.routes.entry(route.name.clone()).or_insert_with(|| self.gate.add_scope(None));
            limits.push((scope, route.concurrency.map(|n| n as usize)));
            let limiters = route.rate_limits.iter().map(|limit| {
                let name = (route.name.clone(), limit.name.clone());
                let in_force = registry.in_force(&name, limit, &self.keys);
                rates.insert(name, in_force.clone());
                RateLimiter { policy: limit.clone(), state: in_force.define(limit, &self.keys), in_force }
            });
            let limiters = limiters.collect();
            gates.push(Arc::new(RouteGates {
                policy: route.clone(),
                scope,
                upstream: upstreams[route.upstream],
                rates: limiters,
                metrics: Arc::new(self.metrics.route(&route.name)),
                pace: self.pace.clone(),
            }));
        }
        let before = std::mem::replace(&mut registry.rates, rates);
        // Those who wait in a route that is no more wait by what it was.
        let goes_on = |route: &Arc<str>| policy.routes.iter().any(|other| other.name == *route);
        for (name, limit) in before.iter().filter(|((route, _), _)| goes_on(route)) {
            if !registry.rates.get(name).is_some_and(|now| Arc::ptr_eq(now, limit)) {
                limit.end();
            }
        }
        drop(registry);

        self.keys.resize(policy.limits.keys);
        let (bytes, share) = held_limits(policy);
        self.held.resize(bytes, share);
        self.gate.resize(policy.limits.concurrency as usize, queue_limits(policy), &limits);
        let widths: HashMap<&str, usize> = policy
            .routes
            .iter()
            .filter_map(|route| route.session.as_ref())
            .map(|session| (&*session.lane, session.concurrency.get() as usize))
            .collect();
        self.sessions.resize(|key| widths.get(&*key.lane).copied());
        gates
    }

    /// Forgets the rate-limit keys that say nothing any more.
    pub fn sweep(&self) {
        self.rates().iter().for_each(|rate| rate.table.forget_full());
    }

    /// Forgets some of them, and others the next time, so that nobody waits long for it. Call it every second.
    pub fn sweep_in_parts(&self) {
        self.rates().iter().for_each(|rate| rate.table.forget_some_full());
    }

    fn rates(&self) -> Vec<Arc<RateState>> {
        self.registry.lock().rates.values().filter_map(|limit| limit.state()).collect()
    }

    /// Makes room for a key by forgetting those that say nothing. It takes a tenth of the time at most: with a million
    /// keys to look through, the next sweep is nearer than its end.
    fn make_room(&self) {
        let now = || nanos(time::now().saturating_duration_since(self.pace.start));
        let (due, began) = (self.room_due.load(Relaxed), now());
        if began >= due && self.room_due.compare_exchange(due, u64::MAX, Relaxed, Relaxed).is_ok() {
            self.sweep();
            let ended = now();
            self.room_due.store(ended.saturating_add((ended - began).saturating_mul(10)), Relaxed);
        }
    }

    /// Places that are taken by those who have seen it, by route.
    fn places_taken(&self) -> HashMap<Arc<str>, usize> {
        let registry = self.registry.lock();
        let routes: Vec<(Scope, &Arc<str>)> = registry.routes.iter().map(|(name, scope)| (*scope, name)).collect();
        let scopes: Vec<Scope> = routes.iter().map(|(scope, _)| *scope).collect();
        let taken = self.gate.taken_in(&scopes);
        routes.into_iter().zip(taken).map(|((_, name), taken)| (name.clone(), taken)).collect()
    }

    /// Rate-limit keys remembered now.
    #[must_use]
    pub fn rate_limit_keys(&self) -> usize {
        self.rates().iter().map(|rate| rate.table.len()).sum()
    }
}

impl Registry {
    fn in_force(
        &mut self,
        name: &(Arc<str>, Arc<str>),
        limit: &crate::policy::RateLimit,
        keys: &Arc<KeyBudget>,
    ) -> Arc<InForce> {
        if let Some(known) = self.rates.get(name).filter(|known| known.counts_as(limit)) {
            return known.clone();
        }
        self.next_rate += 1;
        Arc::new(InForce::new(self.next_rate, limit, keys))
    }
}

fn queue_limits(policy: &Policy) -> QueueLimits {
    let all = policy.limits.queue as usize;
    QueueLimits { all, share: (all * usize::from(policy.limits.queue_share)).div_ceil(100).max(1) }
}

fn held_limits(policy: &Policy) -> (u64, u64) {
    let all = policy.limits.queue_bytes;
    (all, (u128::from(all) * u128::from(policy.limits.queue_share)).div_ceil(100) as u64)
}

/// How fast requests go on, for an honest `Retry-After`: exponentially weighted means, of the time between two permits
/// that come back and of how long a permit is held. Races between writers lose a sample, which such a mean survives.
#[derive(Debug)]
struct Pace {
    start: Instant,
    last: AtomicU64,
    between: AtomicU64,
    held: AtomicU64,
}

impl Pace {
    fn new() -> Self {
        Self { start: time::now(), last: AtomicU64::new(0), between: AtomicU64::new(0), held: AtomicU64::new(0) }
    }

    /// A permit came back `now` that was given at `since`.
    fn permit_came_back(&self, since: Instant, now: Instant) {
        let held = nanos(now.saturating_duration_since(since));
        let now = nanos(now.saturating_duration_since(self.start));
        let between = now.saturating_sub(self.last.load(Relaxed));
        self.last.store(now, Relaxed);
        for (mean, sample) in [(&self.between, between), (&self.held, held)] {
            let old = mean.load(Relaxed);
            mean.store(if old == 0 { sample } else { old - old / 8 + sample / 8 }, Relaxed);
        }
    }

    /// When `ahead` requests will have gone through the gate, as far as can be told.
    fn gate_time(&self, ahead: usize) -> Duration {
        Self::bounded(self.between.load(Relaxed), ahead)
    }

    /// When `ahead` requests will have run one after another.
    fn turn_time(&self, ahead: usize) -> Duration {
        Self::bounded(self.held.load(Relaxed), ahead)
    }

    fn bounded(each: u64, count: usize) -> Duration {
        Duration::from_nanos(each.saturating_mul(count as u64)).min(Duration::from_secs(3600))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
