//! Rate limits: what one is from policy to policy, and how a request waits for its token.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use crate::admission::tokens::Tokens;
use crate::admission::{Allowance, Quota, RateKey, Rejection, RouteGates};
use crate::limit::keys::KeyBudget;
use crate::limit::rate::{NotTaken, RateTable, Taken};
use crate::policy::{Rate, RateLimit, RatePer};
use crate::time;

/// A rate limit of one policy with its buckets.
#[derive(Debug)]
pub struct RateLimiter {
    pub policy: Arc<RateLimit>,
    pub(super) state: Arc<RateState>,
    pub(super) in_force: Arc<InForce>,
}

impl RateLimiter {
    /// The buckets by which those who wait are let through now; `None` once the policy has no such limit any more.
    pub(super) fn now(&self) -> Option<Arc<RateState>> {
        self.in_force.state()
    }

    /// Why a request is refused, by the definition in force.
    pub(super) fn rejection(&self, not_taken: NotTaken) -> Rejection {
        self.now().as_ref().unwrap_or(&self.state).rejection(not_taken)
    }

    /// Takes a token as soon as there is one, by the definition that is in force then; without one there is nothing to
    /// wait for. Meanwhile `there_at` says when that will be, as far as is known.
    ///
    /// Cancel safe: no token is taken unless this ends with `Ok`.
    pub(super) async fn token(
        &self,
        tokens: &mut Tokens,
        gates: &RouteGates,
        place: usize,
        key: &RateKey,
        there_at: &mut Instant,
    ) -> Result<(), NotTaken> {
        loop {
            // Before it looks, so that no change falls between.
            let mut changed = pin!(self.in_force.changed.notified());
            changed.as_mut().enable();
            let Some(state) = self.now() else { return Ok(()) };
            let wait = match tokens.take(gates, place, &state, key.clone()) {
                Err(NotTaken::Wait(wait)) => wait,
                taken => return taken,
            };
            *there_at = time::after(time::now(), wait);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = changed => {}
            }
        }
    }
}

/// One rate limit from policy to policy, by its route and its name, as long as it counts the same things: those who wait
/// stand in one line, whatever it allows meanwhile.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) id: u64,
    per: RatePer,
    state: ArcSwapOption<RateState>,
    changed: Notify,
}

impl InForce {
    pub(super) fn new(id: u64, limit: &RateLimit, keys: &Arc<KeyBudget>) -> Self {
        Self {
            id,
            per: limit.per.clone(),
            state: ArcSwapOption::from_pointee(RateState::new(limit, keys.clone())),
            changed: Notify::new(),
        }
    }

    /// Whether those who wait in its line would wait in that of `limit`.
    pub(super) fn counts_as(&self, limit: &RateLimit) -> bool {
        self.per == limit.per
    }

    /// The buckets of `limit`: as they are if it allows what it allowed, else full ones, which those who wait are told of.
    pub(super) fn define(&self, limit: &RateLimit, keys: &Arc<KeyBudget>) -> Arc<RateState> {
        let known = self.state.load_full().filter(|state| state.defines(limit));
        known.unwrap_or_else(|| {
            let state = Arc::new(RateState::new(limit, keys.clone()));
            self.state.store(Some(state.clone()));
            self.changed.notify_waiters();
            state
        })
    }

    /// Its route goes on without it: those who wait need no token.
    pub(super) fn end(&self) {
        self.state.store(None);
        self.changed.notify_waiters();
    }

    pub(super) fn state(&self) -> Option<Arc<RateState>> {
        self.state.load_full()
    }
}

/// The buckets of one rate limit. Lives as long as its definition stays the same.
#[derive(Debug)]
pub struct RateState {
    allowance: Arc<Allowance>,
    rate: Rate,
    pub(super) table: RateTable<RateKey>,
}

impl RateState {
    fn new(limit: &RateLimit, keys: Arc<KeyBudget>) -> Self {
        let table = RateTable::new(limit.rate.interval(), limit.burst, keys);
        let allowance = Arc::new(Allowance::new(limit.name.clone(), table.burst(), table.interval()));
        Self { allowance, rate: limit.rate, table }
    }

    /// Whether its balances mean the same under `limit`. What happens when it is exceeded is no part of that.
    fn defines(&self, limit: &RateLimit) -> bool {
        self.rate == limit.rate && self.table.burst() == limit.burst
    }

    /// A bucket that a token was taken of, as the RateLimit fields tell it.
    pub(super) fn quota(&self, taken: Taken) -> Quota {
        self.quota_with(taken.remaining, self.table.interval().min(taken.until_full))
    }

    fn quota_with(&self, remaining: u32, reset: Duration) -> Quota {
        Quota { allowance: self.allowance.clone(), remaining, reset }
    }

    pub(super) fn rejection(&self, not_taken: NotTaken) -> Rejection {
        match not_taken {
            NotTaken::Wait(retry_after) => {
                Rejection::RateLimited { quota: self.quota_with(0, retry_after), retry_after }
            }
            // Room comes at the latest when one of the buckets is full again.
            NotTaken::Keys => Rejection::KeyTableFull { retry_after: self.table.interval() },
        }
    }
}
