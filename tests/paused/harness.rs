//! A whole gateway in memory: clients on one side, a scripted agent on the other.

pub mod agent;
pub mod client;
pub mod dice;
pub mod house;

pub use agent::{Agent, Door};
pub use client::{Answer, Client};
pub use house::{Asked, House, ONE_AGENT};

use std::time::Duration;

/// `seconds` later.
pub async fn later(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// Until everything that can happen now has happened. A paused clock only moves when all tasks are idle.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Runs a test of its own on a paused clock.
pub fn paused(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(test);
}

/// Seconds on the paused clock that `future` took, and what came of it.
pub async fn timed<T>(future: impl Future<Output = T>) -> (f64, T) {
    let start = tokio::time::Instant::now();
    let value = future.await;
    (start.elapsed().as_secs_f64(), value)
}

/// Whether `took` is `seconds`, but for the milliseconds that timers round to.
#[track_caller]
pub fn assert_took(took: f64, seconds: f64) {
    assert!((took - seconds).abs() < 0.1, "took {took} s, not {seconds} s");
}
