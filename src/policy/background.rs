//! Requests that are answered later.

use std::path::PathBuf;
use std::time::Duration;

/// The durable queue of requests that are answered later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Background {
    /// Its folder, beside the policy file unless absolute. It stays that of the first policy that has one.
    pub store: PathBuf,
    /// Bytes of requests and answers in it, above which no further request is taken.
    pub store_bytes: u64,
    /// Jobs at once.
    pub workers: usize,
    /// Jobs that have not ended.
    pub queue: usize,
    /// Tries in all, the first included; at least 1.
    pub attempts: u32,
    /// Before the second try; doubled before each further one.
    pub retry_delay: Duration,
    pub keep_results: Duration,
    /// Longest answer that is kept, in bytes.
    pub max_result: u64,
}

/// Which requests of a route are answered later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Later {
    Off,
    /// Those whose client prefers that.
    Prefer,
    Always,
}

impl Later {
    /// All, each with the policy's word for it.
    pub const WORDS: [(&'static str, Self); 3] =
        [("off", Self::Off), ("prefer", Self::Prefer), ("always", Self::Always)];

    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS[self as usize].0
    }
}
