//! A load and correctness test of any agent API, from outside.
//!
//! It measures as honestly as it can: in an open loop (`rate`) the latency of a request counts from when it was to start,
//! so that a server that stalls cannot hide behind clients that wait for it (coordinated omission). And it judges: turns are
//! numbered, and the agent's own record of what it executed, where it offers one, says which of them were lost, ran twice,
//! overlapped or overtook one another.
//!
//! ```text
//!   plan ──what to send──▶ run (threads of workers) ──tallies──▶ outcome ─▶ summary, JSON, HTML, thresholds
//!                                                   record ──▶ judge ──▲
//! ```

pub mod client;
pub mod html;
pub mod judge;
pub mod outcome;
pub mod plan;
pub mod process;
pub mod run;
pub mod summary;
pub mod tally;

use std::time::Duration;

pub use outcome::Outcome;
pub use plan::Plan;

/// How much is sent, how fast, and for how long is waited.
#[derive(Debug, Clone)]
pub struct Load {
    /// Requests at once; at least 1.
    pub concurrency: usize,
    pub amount: Amount,
    /// Requests a second that are to begin, whatever becomes of those before (open loop). `None`: each client sends its
    /// next request when it has its answer (closed loop).
    pub rate: Option<f64>,
    /// For one request.
    pub timeout: Duration,
    pub seed: u64,
    /// Of a hundred clients, how many leave before they have their answer.
    pub leave: f64,
    /// Threads that send; at least 1.
    pub threads: usize,
    /// Whether progress is told on stderr.
    pub progress: bool,
}

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    Requests(u64),
    Time(Duration),
}

/// What must hold. `None`: not asked for.
#[derive(Debug, Clone, Default)]
pub struct Thresholds {
    /// Part of all, 0 to 1.
    pub max_error_rate: Option<f64>,
    pub max_p95: Option<Duration>,
    pub max_mean: Option<Duration>,
    /// Answers a second that were successes.
    pub min_throughput: Option<f64>,
    /// Turns out of order, overlapping, repeated or lost.
    pub max_turn_faults: Option<u64>,
}
