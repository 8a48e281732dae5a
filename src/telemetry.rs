//! What the gateway tells about itself: log lines on stderr, and metrics.

pub mod log;
pub mod metrics;
pub mod requests;
