//! Token buckets by key: governor's GCRA over a store of our own.
//!
//! Governor decides; the store keeps one number for each key, the theoretical arrival time (TAT) of GCRA. Ours differs
//! from governor's in three ways that the product needs: a token can be given back, a full bucket is forgotten (its
//! number lies in the past and says nothing), and a key that is limited is never forgotten to make room.
//!
//! Source: ITU-T I.371 (GCRA), as governor implements it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};

use crate::limit::keys::KeyBudget;
use crate::sync::{Arc, Mutex};
use crate::time::{self, Clock};

const SHARDS: usize = 32;

/// One rate limit: a bucket of `burst` tokens for each key, one token coming back every `interval`.
#[derive(Debug)]
pub struct RateTable<K: Eq + Hash + Clone> {
    limiter: RateLimiter<K, SharedStore<K>, Clock, StateInformationMiddleware>,
    store: SharedStore<K>,
    interval: Duration,
    burst: NonZeroU32,
}

/// A token was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Tokens left in the bucket.
    pub remaining: u32,
}

/// No token was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// The next token comes back after this.
    Wait(Duration),
    /// One more key cannot be remembered.
    Keys,
}

impl<K: Eq + Hash + Clone> RateTable<K> {
    /// Buckets that hold `burst` tokens and get one back every `interval` (at least a nanosecond). Their keys are
    /// counted in `keys`.
    #[must_use]
    pub fn new(interval: Duration, burst: NonZeroU32, keys: Arc<KeyBudget>) -> Self {
        let interval = interval.max(Duration::from_nanos(1));
        let quota = Quota::with_period(interval).map_or_else(|| Quota::per_second(burst), |q| q.allow_burst(burst));
        let store = SharedStore(Arc::new(Store::new(keys)));
        Self { limiter: RateLimiter::new(quota, store.clone(), Clock), store, interval, burst }
    }

    /// Takes a token of `key`'s bucket.
    ///
    /// # Errors
    /// [`NotTaken`]; the bucket is unchanged then.
    pub fn take(&self, key: &K) -> Result<Taken, NotTaken> {
        self.store.0.make_room(key)?;
        match self.limiter.check_key(key) {
            Ok(state) => Ok(Taken { remaining: state.remaining_burst_capacity() }),
            Err(not_until) => Err(NotTaken::Wait(not_until.wait_time_from(time::now()).max(Duration::from_nanos(1)))),
        }
    }

    /// Gives back a token that was taken and not used.
    pub fn give_back(&self, key: &K) {
        self.store.0.give_back(key, self.interval);
    }

    /// Time until `key`'s bucket has all its tokens again.
    #[must_use]
    pub fn until_full(&self, key: &K) -> Duration {
        self.store.0.until_past(key)
    }

    /// Forgets the keys whose buckets are full.
    pub fn forget_full(&self) {
        self.store.0.forget_past();
    }

    #[must_use]
    pub fn burst(&self) -> NonZeroU32 {
        self.burst
    }

    /// Time after which one token comes back.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Keys remembered now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.0.len.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The store in two hands: the limiter's and ours.
#[derive(Debug)]
struct SharedStore<K>(Arc<Store<K>>);

impl<K> Clone for SharedStore<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug)]
struct Store<K> {
    shards: Box<[Mutex<HashMap<K, u64>>]>,
    hasher: RandomState,
    keys: Arc<KeyBudget>,
    len: AtomicUsize,
    /// Governor counts nanoseconds from its own start; ours is read just before, which differs by nothing that matters:
    /// it only makes a full bucket be forgotten that much later.
    start: Instant,
}

impl<K: Eq + Hash + Clone> Store<K> {
    fn new(keys: Arc<KeyBudget>) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect(),
            hasher: RandomState::new(),
            keys,
            len: AtomicUsize::new(0),
            start: time::now(),
        }
    }

    fn shard(&self, key: &K) -> &Mutex<HashMap<K, u64>> {
        &self.shards[(self.hasher.hash_one(key) >> 32) as usize % SHARDS]
    }

    fn now(&self) -> u64 {
        u64::try_from(time::now().duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Makes sure that `key` has an entry, so that governor's update cannot exceed the budget.
    fn make_room(&self, key: &K) -> Result<(), NotTaken> {
        if self.shard(key).lock().contains_key(key) {
            return Ok(());
        }
        if self.keys.take().is_err() {
            // Full buckets are remembered for nothing; only when all that remain say something is there no room.
            self.forget_past();
            self.keys.take().map_err(|_| NotTaken::Keys)?;
        }
        let mut shard = self.shard(key).lock();
        if let Entry::Vacant(entry) = shard.entry(key.clone()) {
            // The beginning of time: a full bucket, by whichever start it is read.
            entry.insert(0);
            self.len.fetch_add(1, Ordering::Relaxed);
        } else {
            // Another request of the same key was quicker.
            self.keys.give_back(1);
        }
        Ok(())
    }

    fn give_back(&self, key: &K, interval: Duration) {
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        if let Some(tat) = self.shard(key).lock().get_mut(key) {
            *tat = tat.saturating_sub(interval);
        }
    }

    fn until_past(&self, key: &K) -> Duration {
        let tat = self.shard(key).lock().get(key).copied().unwrap_or(0);
        Duration::from_nanos(tat.saturating_sub(self.now()))
    }

    fn forget_past(&self) {
        let now = self.now();
        for shard in &self.shards {
            let mut shard = shard.lock();
            let before = shard.len();
            shard.retain(|_, tat| *tat > now);
            let gone = before - shard.len();
            if gone > 0 {
                let keep = shard.len() * 2;
                shard.shrink_to(keep);
                self.len.fetch_sub(gone, Ordering::Relaxed);
                self.keys.give_back(gone);
            }
        }
    }
}

impl<K> Drop for Store<K> {
    fn drop(&mut self) {
        self.keys.give_back(self.len.load(Ordering::Relaxed));
    }
}

impl<K: Eq + Hash + Clone> StateStore for SharedStore<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut shard = self.0.shard(key).lock();
        let entry = shard.get_mut(key);
        let (outcome, tat) = f(entry.as_deref().map(|tat| Nanos::from(*tat)))?;
        // No entry: it was forgotten since room was made for it, by a sweep in between. The token then goes unrecorded
        // rather than uncounted against the budget; the bucket was full, so at most one token too many passes.
        if let Some(entry) = entry {
            *entry = tat.as_u64();
        }
        Ok(outcome)
    }
}

#[cfg(all(test, not(turnwise_loom)))]
mod tests {
    use super::*;

    fn table(per_second: u32, burst: u32, keys: usize) -> RateTable<u32> {
        let burst = NonZeroU32::new(burst).expect("not zero");
        RateTable::new(Duration::from_secs(1) / per_second, burst, Arc::new(KeyBudget::new(keys)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate_holds() {
        let table = table(10, 3, 10);
        let remaining: Vec<_> = (0..3).map(|_| table.take(&1).map(|taken| taken.remaining)).collect();
        assert_eq!(remaining, [Ok(2), Ok(1), Ok(0)]);
        assert_eq!(table.take(&1), Err(NotTaken::Wait(Duration::from_millis(100))));
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(table.take(&1).is_ok());
        assert!(table.take(&2).is_ok(), "another key has a bucket of its own");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_given_back_can_be_taken_again_and_never_overfills() {
        let table = table(1, 1, 10);
        assert!(table.take(&1).is_ok());
        table.give_back(&1);
        assert!(table.take(&1).is_ok());
        table.give_back(&1);
        table.give_back(&1);
        assert!(table.take(&1).is_ok());
        assert!(table.take(&1).is_err(), "two tokens given back do not make a bucket of one hold two");
    }

    #[tokio::test(start_paused = true)]
    async fn a_limited_key_is_never_forgotten_and_a_full_one_makes_room() {
        let table = table(1, 1, 2);
        assert!(table.take(&1).is_ok());
        assert!(table.take(&2).is_ok());
        assert_eq!(table.take(&3), Err(NotTaken::Keys), "both keys are limited");
        tokio::time::advance(Duration::from_millis(1001)).await;
        assert!(table.take(&3).is_ok());
        assert_eq!(table.len(), 1);
        tokio::time::advance(Duration::from_millis(1001)).await;
        table.forget_full();
        assert!(table.is_empty());
    }
}
