//! What is noted of one request, for those that have a line in the log when they end or are part of a trace. Of the others
//! nothing is noted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::request::session_key::SessionKey;
use crate::sync::Mutex;
use crate::telemetry::traces::Trace;

/// See the module. Work that is done for several clients has that of the first.
#[derive(Debug, Default)]
pub struct Story {
    is_logged: bool,
    trace: Option<Trace>,
    session: OnceLock<String>,
    stays: Mutex<Vec<Stay>>,
    server: OnceLock<Arc<str>>,
    received: AtomicU64,
    sent: AtomicU64,
    reason: OnceLock<&'static str>,
    cut: OnceLock<&'static str>,
    is_own: AtomicBool,
}

/// The time in one queue.
#[derive(Debug, Clone, Copy)]
pub struct Stay {
    /// `turn`, `rate`, `place` or `server`.
    pub queue: &'static str,
    pub since: Instant,
    pub took: Duration,
}

impl Story {
    /// For a line in the log, a trace, or both.
    #[must_use]
    pub fn new(is_logged: bool, trace: Option<Trace>) -> Self {
        Self { is_logged, trace, ..Self::default() }
    }

    /// Whether the log may have a line of it.
    #[must_use]
    pub fn is_logged(&self) -> bool {
        self.is_logged
    }

    #[must_use]
    pub fn trace(&self) -> Option<&Trace> {
        self.trace.as_ref()
    }

    /// Notes whose request it is: 16 digits of the key's SHA-256, never the key.
    pub fn in_session(&self, key: &SessionKey) {
        self.session.get_or_init(|| {
            let digest = Sha256::digest(key.as_str().as_bytes());
            digest[..8].iter().map(|octet| format!("{octet:02x}")).collect()
        });
    }

    pub fn stayed(&self, stay: Stay) {
        if let Some(trace) = &self.trace {
            trace.waited(stay.queue, stay.since, stay.took);
        }
        if self.is_logged {
            self.stays.lock().push(stay);
        }
    }

    /// Notes the server that has it; of several tries the first that got so far.
    pub fn sent_to(&self, server: &Arc<str>) {
        let _ = self.server.set(server.clone());
    }

    /// Notes bytes of the client's body.
    pub fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Relaxed);
    }

    /// Notes bytes of the answer's body.
    pub fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Relaxed);
    }

    /// Notes that the gateway answered itself.
    pub fn answered_itself(&self) {
        self.is_own.store(true, Relaxed);
    }

    /// Notes that the gateway answered itself, and why.
    pub fn refused(&self, reason: &'static str) {
        self.answered_itself();
        let _ = self.reason.set(reason);
    }

    /// Notes why the answer broke off.
    pub fn cut(&self, why: &'static str) {
        let _ = self.cut.set(why);
    }

    #[must_use]
    pub fn session(&self) -> Option<&str> {
        self.session.get().map(String::as_str)
    }

    #[must_use]
    pub fn stays(&self) -> Vec<Stay> {
        self.stays.lock().clone()
    }

    #[must_use]
    pub fn server(&self) -> Option<&str> {
        self.server.get().map(|server| &**server)
    }

    /// Bytes of the client's body and of the answer's.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.received.load(Relaxed), self.sent.load(Relaxed))
    }

    /// Whether the gateway answered itself.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.is_own.load(Relaxed)
    }

    /// Why the gateway answered itself, where that was a refusal.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        self.reason.get().copied()
    }

    /// Why the answer broke off.
    #[must_use]
    pub fn why_cut(&self) -> Option<&'static str> {
        self.cut.get().copied()
    }
}
