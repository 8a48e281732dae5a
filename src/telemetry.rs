//! What the gateway tells about itself: log lines on stderr, traces, metrics, and their last minutes.

pub mod buckets;
pub mod history;
pub mod log;
pub mod metrics;
#[cfg(target_os = "linux")]
mod process;
pub mod reading;
pub mod requests;
pub mod traces;
