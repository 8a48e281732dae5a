//! What the requests of one route go through.

use std::sync::Arc;
use std::time::Duration;

use crate::admission::{Allowance, Pace, Quota, RateKey};
use crate::limit::keys::KeyBudget;
use crate::limit::places::Scope;
use crate::limit::rate::{RateTable, Taken};
use crate::policy::{Rate, RateLimit, RatePer, Route};
use crate::telemetry::metrics::RouteMetrics;

/// A route of one policy, tied to the state that outlives the policy.
#[derive(Debug)]
pub struct RouteGates {
    pub policy: Arc<Route>,
    pub(super) scope: Scope,
    pub(super) upstream: Scope,
    pub rates: Vec<RateLimiter>,
    pub metrics: Arc<RouteMetrics>,
    pub(super) pace: Arc<Pace>,
}

impl RouteGates {
    /// Where its requests take places; nowhere if it is exempt.
    pub(super) fn scopes(&self) -> Option<(Scope, Scope)> {
        (!self.policy.exempt).then_some((self.scope, self.upstream))
    }
}

/// A rate limit of one policy with its buckets.
#[derive(Debug)]
pub struct RateLimiter {
    pub policy: Arc<RateLimit>,
    pub(super) state: Arc<RateState>,
}

/// The buckets of one rate limit. Lives as long as its definition stays the same.
#[derive(Debug)]
pub struct RateState {
    pub(super) id: u64,
    allowance: Arc<Allowance>,
    per: RatePer,
    rate: Rate,
    pub(super) table: RateTable<RateKey>,
}

impl RateState {
    pub(super) fn new(id: u64, limit: &RateLimit, keys: Arc<KeyBudget>) -> Self {
        let table = RateTable::new(limit.rate.interval(), limit.burst, keys);
        let allowance = Arc::new(Allowance::new(limit.name.clone(), table.burst(), table.interval()));
        Self { id, allowance, per: limit.per.clone(), rate: limit.rate, table }
    }

    /// Whether its balances mean the same under `limit`. What happens when it is exceeded is no part of that.
    pub(super) fn defines(&self, limit: &RateLimit) -> bool {
        self.per == limit.per && self.rate == limit.rate && self.table.burst() == limit.burst
    }

    /// A bucket that a token was taken of, as the RateLimit fields tell it.
    pub(super) fn quota(&self, taken: Taken) -> Quota {
        self.quota_with(taken.remaining, self.table.interval().min(taken.until_full))
    }

    pub(super) fn quota_with(&self, remaining: u32, reset: Duration) -> Quota {
        Quota { allowance: self.allowance.clone(), remaining, reset }
    }
}
