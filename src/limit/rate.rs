//! Token buckets by key: governor's GCRA over a table of our own.
//!
//! Governor decides; the table keeps one number for each key, the theoretical arrival time (TAT) of GCRA. Ours differs
//! from governor's in three ways that the product needs: a token can be given back, a full bucket is forgotten (its
//! number lies in the past and says nothing), and a key that is limited is never forgotten to make room.
//!
//! A request hashes its key once and locks one shard once: its bucket is found or made, lent to governor, and put back.
//!
//! Source: ITU-T I.371 (GCRA), as governor implements it.

use std::cell::Cell;
use std::hash::{BuildHasher, Hash, Hasher};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::limit::keys::{KeyBudget, KeyHasher, key_hasher};
use crate::sync::{Arc, Mutex};
use crate::time::{self, Clock};

const SHARDS: usize = 256;

/// In so many parts a large table is swept.
const SWEEPS: usize = 8;
/// A sweep looks at that many keys, if there are so many, before it leaves the rest to the next one.
const SWEPT_AT_LEAST: usize = 16 * 1024;

/// One rate limit: a bucket of `burst` tokens for each key, one token coming back every `interval`.
#[derive(Debug)]
pub struct RateTable<K> {
    limiter: RateLimiter<Lent, Lending, Clock, StateInformationMiddleware>,
    shards: Box<[Mutex<HashTable<Bucket<K>>>]>,
    hasher: KeyHasher,
    keys: Arc<KeyBudget>,
    len: AtomicUsize,
    /// Governor counts nanoseconds from its own start; ours is read just after, which differs by nothing that matters:
    /// it only makes a full bucket be forgotten that much later.
    start: Instant,
    /// The shard at which the next sweep in parts begins.
    swept: AtomicUsize,
    interval: Duration,
    burst: NonZeroU32,
}

#[derive(Debug)]
struct Bucket<K> {
    key: K,
    /// In nanoseconds after the start.
    tat: u64,
}

/// A token was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Tokens left in the bucket.
    pub remaining: u32,
    /// Time until the bucket has all its tokens again.
    pub until_full: Duration,
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
        Self {
            limiter: RateLimiter::new(quota, Lending, Clock),
            start: time::now(),
            shards: (0..SHARDS).map(|_| Mutex::new(HashTable::new())).collect(),
            hasher: key_hasher(),
            keys,
            len: AtomicUsize::new(0),
            swept: AtomicUsize::new(0),
            interval,
            burst,
        }
    }

    /// Takes a token of `key`'s bucket.
    ///
    /// # Errors
    /// [`NotTaken`]; the bucket is unchanged then.
    pub fn take(&self, key: &K) -> Result<Taken, NotTaken> {
        let hash = self.hasher.hash_one(key);
        let mut room_was_made = false;
        loop {
            let mut shard = self.shard(hash).lock();
            match shard.entry(hash, |bucket| bucket.key == *key, |bucket| self.hasher.hash_one(&bucket.key)) {
                Entry::Occupied(mut entry) => return self.take_of(&mut entry.get_mut().tat),
                Entry::Vacant(entry) if self.keys.take().is_ok() => {
                    self.len.fetch_add(1, Ordering::Relaxed);
                    // The beginning of time: a full bucket, by whichever start it is read.
                    let mut entry = entry.insert(Bucket { key: key.clone(), tat: 0 });
                    return self.take_of(&mut entry.get_mut().tat);
                }
                Entry::Vacant(_) if room_was_made => return Err(NotTaken::Keys),
                Entry::Vacant(_) => {}
            }
            drop(shard);
            // Full buckets are remembered for nothing; only when all that remain say something is there no room.
            self.forget_full();
            room_was_made = true;
        }
    }

    fn take_of(&self, tat: &mut u64) -> Result<Taken, NotTaken> {
        let lent = Lent(Cell::new(*tat));
        match self.limiter.check_key(&lent) {
            Ok(state) => {
                *tat = lent.0.get();
                let until_full = Duration::from_nanos(tat.saturating_sub(self.now()));
                Ok(Taken { remaining: state.remaining_burst_capacity(), until_full })
            }
            Err(not_until) => Err(NotTaken::Wait(not_until.wait_time_from(time::now()).max(Duration::from_nanos(1)))),
        }
    }

    /// Gives back a token that was taken and not used.
    pub fn give_back(&self, key: &K) {
        let interval = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        let hash = self.hasher.hash_one(key);
        if let Some(bucket) = self.shard(hash).lock().find_mut(hash, |bucket| bucket.key == *key) {
            bucket.tat = bucket.tat.saturating_sub(interval);
        }
    }

    /// Time until `key`'s bucket has all its tokens again.
    #[must_use]
    pub fn until_full(&self, key: &K) -> Duration {
        let hash = self.hasher.hash_one(key);
        let tat = self.shard(hash).lock().find(hash, |bucket| bucket.key == *key).map_or(0, |bucket| bucket.tat);
        Duration::from_nanos(tat.saturating_sub(self.now()))
    }

    /// Forgets the keys whose buckets are full.
    pub fn forget_full(&self) {
        let now = self.now();
        for shard in &self.shards {
            self.forget_past(shard, now);
        }
    }

    /// Forgets some of the keys whose buckets are full, and others the next time: all of a small table at once, an eighth
    /// of a large one, so that nobody waits long for it.
    pub fn forget_some_full(&self) {
        let now = self.now();
        let begin = self.swept.load(Ordering::Relaxed);
        let mut keys = 0;
        let mut next = begin;
        for number in 0..SHARDS {
            if number >= SHARDS / SWEEPS && keys >= SWEPT_AT_LEAST {
                break;
            }
            keys += self.forget_past(&self.shards[next], now);
            next = (next + 1) % SHARDS;
        }
        self.swept.store(next, Ordering::Relaxed);
    }

    /// Forgets the full buckets of one shard, and says how many it had.
    fn forget_past(&self, shard: &Mutex<HashTable<Bucket<K>>>, now: u64) -> usize {
        let mut shard = shard.lock();
        let before = shard.len();
        shard.retain(|bucket| bucket.tat > now);
        let gone = before - shard.len();
        if gone > 0 {
            let keep = shard.len() * 2;
            shard.shrink_to(keep, |bucket| self.hasher.hash_one(&bucket.key));
            self.len.fetch_sub(gone, Ordering::Relaxed);
            self.keys.give_back(gone);
        }
        before
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
        self.len.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, hash: u64) -> &Mutex<HashTable<Bucket<K>>> {
        // Bits that the shard's own table looks at last.
        &self.shards[(hash >> 32) as usize % SHARDS]
    }

    fn now(&self) -> u64 {
        u64::try_from(time::now().saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl<K> Drop for RateTable<K> {
    fn drop(&mut self) {
        self.keys.give_back(self.len.load(Ordering::Relaxed));
    }
}

/// A bucket's number on loan to governor, for one decision.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lent(Cell<u64>);

impl Hash for Lent {
    /// Governor wants keys that could stand in a table. These never do.
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// Governor's view of the table: the number that it is handed.
#[derive(Debug)]
struct Lending;

impl StateStore for Lending {
    type Key = Lent;

    fn measure_and_replace<T, F, E>(&self, lent: &Lent, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, tat) = f(Some(Nanos::from(lent.0.get())))?;
        lent.0.set(tat.as_u64());
        Ok(outcome)
    }
}

#[cfg(all(test, not(feature = "loom")))]
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
    async fn what_is_told_of_a_taken_token_is_what_the_bucket_says() {
        let table = table(10, 3, 10);
        for taken_before in 0..3 {
            let taken = table.take(&1).expect("three tokens");
            assert_eq!(taken.until_full, Duration::from_millis(100) * (taken_before + 1));
            assert_eq!(taken.until_full, table.until_full(&1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_in_parts_comes_past_every_key() {
        let table = table(1000, 1, usize::MAX);
        let keys = 3 * SWEPT_AT_LEAST as u32;
        assert!((0..keys).all(|key| table.take(&key).is_ok()));
        tokio::time::advance(Duration::from_secs(1)).await;
        table.forget_some_full();
        assert!(table.len() < keys as usize && !table.is_empty(), "{} are left", table.len());
        (0..8).for_each(|_| table.forget_some_full());
        assert!(table.is_empty());
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
