//! The one clock.
//!
//! Everything that measures or waits reads tokio's clock, the rate limiter included, so that a test that pauses and
//! advances it moves the whole gateway at once. A second clock (governor's own, or `std`'s) would stand still there.

//!
//! # Precision
//!
//! A request asks for the time some fifteen times, mostly several times within one step. So whoever polls the tasks of
//! requests reads the clock once for a step, and [`hold`]s it: within the step it is the instant at which the step
//! began. What is measured from one step to another is off by no more than the steps took, which is microseconds, but
//! for one that works through a large body (milliseconds); what is measured within one step is zero. Two threads may
//! disagree by as much. tokio's timers never fire ahead of a held clock: they fire between steps only.

use std::cell::Cell;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::time::Sleep;

thread_local! {
    static HELD: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Now, on the monotonic clock that a paused runtime stops; while it is [held](hold), when that began.
#[must_use]
pub fn now() -> Instant {
    HELD.get().unwrap_or_else(read)
}

fn read() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Holds the clock of this thread while the value lives. Within another hold it changes nothing.
///
/// For the time of one poll: the value is not `Send`, so that no task can keep it while it waits.
pub fn hold() -> Hold {
    let before = HELD.get();
    if before.is_none() {
        HELD.set(Some(read()));
    }
    Hold { before, _not_send: PhantomData }
}

/// See [`hold`].
#[derive(Debug)]
#[must_use = "the clock goes on when this is dropped"]
pub struct Hold {
    before: Option<Instant>,
    _not_send: PhantomData<*const ()>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        HELD.set(self.before);
    }
}

/// A timer for a deadline that mostly moves on before it comes. It is made when there is first something to wait for,
/// and set to a later deadline only when it fires, so that moving on costs nothing.
#[derive(Debug, Default)]
pub struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    /// Ready once it is `deadline`. Until then `cx` is woken at the latest when it is.
    pub fn poll_until(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let due = tokio::time::Instant::from_std(deadline);
        while now() < deadline {
            let timer = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if timer.is_elapsed() || due < timer.deadline() {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }
}

/// Sleeps until `deadline` of the same clock.
///
/// Cancel safe: dropping it forgets the wait.
pub fn sleep_until(deadline: Instant) -> Sleep {
    tokio::time::sleep_until(tokio::time::Instant::from_std(deadline))
}

/// Seconds since 1970 by the wall clock, for people and dashboards only; nothing in the gateway decides by it.
#[must_use]
pub fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// Milliseconds since 1970 by the wall clock, for what is to be known after a restart.
#[must_use]
pub fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn a_held_clock_stands_still_until_the_outermost_hold_ends() {
        let began = now();
        let outer = hold();
        std::thread::scope(|threads| {
            let other = threads.spawn(|| HELD.get()).join().expect("no panic");
            assert_eq!(other, None, "another thread's clock goes on");
        });
        let inner = hold();
        // What `advance` does, without a step that waits.
        let advancing = Box::pin(tokio::time::advance(Duration::from_secs(1)));
        let _ = futures_util::FutureExt::now_or_never(advancing);
        assert_eq!(now(), began);
        drop(inner);
        assert_eq!(now(), began);
        drop(outer);
        assert_eq!(now(), began + Duration::from_secs(1));
    }

    #[test]
    fn a_panic_lets_the_clock_go_on() {
        let _ = std::panic::catch_unwind(|| {
            let _hold = hold();
            panic!("within a hold");
        });
        assert_eq!(HELD.get(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lazy_timer_follows_its_deadline_in_both_directions() {
        let began = now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut timer = LazyTimer::default();
        for (asked_first, deadline) in [(5, 3), (4, 9), (9, 9)] {
            let mut asked = false;
            poll_fn(|cx| {
                let first = !std::mem::replace(&mut asked, true);
                if first {
                    let _ = timer.poll_until(at(asked_first), cx);
                }
                let _hold = hold();
                timer.poll_until(at(deadline), cx)
            })
            .await;
            assert_eq!(now(), at(deadline));
        }
    }
}
