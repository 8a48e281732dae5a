//! How many keys may be remembered at once, sessions and rate-limit keys together; and how tables hash them.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The hash of the tables: cheap, and seeded anew for each. Texts that strangers choose bring a hash of their own, made
/// once with a stronger key.
pub(super) type KeyHasher = foldhash::quality::SeedableRandomState;

pub(super) fn key_hasher() -> KeyHasher {
    KeyHasher::with_seed(RandomState::new().hash_one(0), foldhash::SharedSeed::global_random())
}

/// Every table entry that exists is counted here; nothing may be remembered without having been counted.
#[derive(Debug)]
pub struct KeyBudget {
    used: AtomicUsize,
    limit: AtomicUsize,
}

/// As many keys are in use as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeysExhausted;

impl KeyBudget {
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit: AtomicUsize::new(limit) }
    }

    /// Counts one more key.
    ///
    /// # Errors
    /// [`KeysExhausted`] when the limit is reached; nothing was counted then.
    pub fn take(&self) -> Result<(), KeysExhausted> {
        let limit = self.limit.load(Ordering::Relaxed);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| (used < limit).then_some(used + 1))
            .map(|_| ())
            .map_err(|_| KeysExhausted)
    }

    /// Gives back `count` keys that were taken.
    pub fn give_back(&self, count: usize) {
        let before = self.used.fetch_sub(count, Ordering::Relaxed);
        debug_assert!(before >= count, "more keys were given back than taken");
    }

    /// A lower limit than is in use stops new keys only.
    pub fn resize(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_exact_and_what_is_given_back_can_be_taken_again() {
        let keys = KeyBudget::new(2);
        assert_eq!([keys.take(), keys.take(), keys.take()], [Ok(()), Ok(()), Err(KeysExhausted)]);
        keys.give_back(1);
        assert_eq!(keys.take(), Ok(()));
        keys.resize(1);
        keys.give_back(1);
        assert_eq!(keys.take(), Err(KeysExhausted), "a lowered limit holds for newcomers");
    }
}
