//! Values that one task keeps about its connection.
//!
//! A connection is served by one task, on one thread for all its life (after an upgrade by two tasks of that thread), so
//! nobody ever races for these: plain loads and stores do, without a lock and without one atomic instruction that reads
//! and writes. They are atomics at all because the task's future has to be `Send`, as those of all tasks.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::time;

/// Yes or no.
#[derive(Debug, Default)]
pub(super) struct Flag(AtomicBool);

impl Flag {
    pub(super) const fn new(value: bool) -> Self {
        Self(AtomicBool::new(value))
    }

    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, value: bool) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// A number.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicUsize);

impl Count {
    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, value: usize) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// An instant, or none: nanoseconds after the connection's begin and one more, so that 0 means none.
#[derive(Debug, Default)]
pub(super) struct Moment(AtomicU64);

impl Moment {
    pub(super) fn get(&self, begin: Instant) -> Option<Instant> {
        let nanos = self.0.load(Ordering::Relaxed).checked_sub(1)?;
        Some(time::after(begin, Duration::from_nanos(nanos)))
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    pub(super) fn set(&self, begin: Instant, at: Instant) {
        let nanos = u64::try_from(at.saturating_duration_since(begin).as_nanos()).unwrap_or(u64::MAX);
        self.0.store(nanos.saturating_add(1), Ordering::Relaxed);
    }

    /// Sets it to now, unless it is set.
    pub(super) fn set_once(&self, begin: Instant) {
        if !self.is_set() {
            self.set(begin, time::now());
        }
    }

    pub(super) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_begin_itself_is_an_instant_and_not_none() {
        let begin = time::now();
        let moment = Moment::default();
        assert_eq!(moment.get(begin), None);
        moment.set(begin, begin);
        assert_eq!(moment.get(begin), Some(begin));
        moment.set(begin, begin + Duration::from_nanos(7));
        assert_eq!(moment.get(begin), Some(begin + Duration::from_nanos(7)));
        moment.clear();
        assert!(!moment.is_set());
    }
}
