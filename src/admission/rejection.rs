//! Why a request was not let in.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// The answer of the gates when it is no. A closed set: whoever turns it into an answer must name each one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// A rate limit that rejects, or whose queue is full or timed out.
    RateLimited { quota: Quota, retry_after: Duration },
    /// `session.queue` others wait already.
    SessionQueueFull { waiting: u32, retry_after: Duration },
    /// Its turn did not come within `session.queue_timeout`.
    SessionQueueTimeout { waited: Duration, retry_after: Duration },
    /// One of the bounds of waiting is reached.
    QueueFull { scope: QueueScope, retry_after: Duration },
    /// `limits.keys` are in use.
    KeyTableFull { retry_after: Duration },
    /// No place within `limits.queue_timeout`.
    QueueTimeout { waited: Duration, retry_after: Duration },
    /// Ended by an operator.
    Interrupted,
}

/// Which bound of waiting is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueScope {
    Requests,
    RequestsShare,
    Bytes,
    BytesShare,
}

/// The state of one rate limit's bucket, for the RateLimit fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    pub name: Arc<str>,
    /// Tokens of a full bucket.
    pub burst: NonZeroU32,
    /// Time after which one token comes back.
    pub interval: Duration,
    pub remaining: u32,
    /// Until the next token comes back.
    pub reset: Duration,
}

impl Quota {
    /// Whether this one is closer to refusing than `other`.
    #[must_use]
    pub fn is_tighter_than(&self, other: &Self) -> bool {
        let part = |quota: &Self| u64::from(quota.remaining) * u64::from(u32::MAX) / u64::from(quota.burst.get());
        part(self) < part(other)
    }
}
