//! Why a request was not let in.

use std::time::Duration;

use crate::admission::Quota;
use crate::request::exchange::EndedBy;

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
    /// Its session is busy, and it does not want to wait.
    SessionBusy,
    /// An equal request, by its key, runs, and its answer cannot be had from the beginning any more.
    EqualRuns,
    /// Nested in more turns than may be.
    NestedTooDeep { most: u8 },
    /// It would wait for a turn that waits for it.
    TurnDeadlock,
    /// Ended before its time.
    Interrupted(EndedBy),
}

/// Which bound of waiting is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueScope {
    Requests,
    RequestsShare,
    Bytes,
    BytesShare,
}
