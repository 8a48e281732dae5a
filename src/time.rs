//! The one clock.
//!
//! Everything that measures or waits reads tokio's clock, the rate limiter included, so that a test that pauses and
//! advances it moves the whole gateway at once. A second clock (governor's own, or `std`'s) would stand still there.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Now, on the monotonic clock that a paused runtime stops.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Sleeps until `deadline` of the same clock.
///
/// Cancel safe: dropping it forgets the wait.
pub fn sleep_until(deadline: Instant) -> tokio::time::Sleep {
    tokio::time::sleep_until(tokio::time::Instant::from_std(deadline))
}

/// Seconds since 1970 by the wall clock, for people and dashboards only; nothing in the gateway decides by it.
#[must_use]
pub fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// `now` plus `wait`, or some thirty years hence where that would overflow.
#[must_use]
pub fn after(now: Instant, wait: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);
    now.checked_add(wait.min(FAR)).unwrap_or(now)
}

/// Governor's view of the one clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl governor::clock::Clock for Clock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        now()
    }
}
