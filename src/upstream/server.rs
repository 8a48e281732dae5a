//! One server: its load, and what is known of its health.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::time;
use crate::tls::Outgoing;

/// Milliseconds between two lines in the log that say the same of a server.
const TOLD_EVERY: u64 = 10_000;

/// A server, known by its upstream's name and its URL from one policy to the next.
#[derive(Debug)]
pub struct Server {
    /// Unique in this process.
    pub id: u64,
    /// Connection pools go by it: it changes when TLS is to be spoken in another way.
    pool_id: AtomicU64,
    tls: ArcSwapOption<Outgoing>,
    /// The `server` label of metrics.
    pub url: Arc<str>,
    pub host: Arc<str>,
    pub port: u16,
    weight: AtomicU32,
    /// 0: no limit of its own.
    limit: AtomicUsize,
    in_flight: AtomicUsize,
    /// Requests here that take no slot.
    beside: AtomicUsize,
    /// The last word of the active checks.
    passes_checks: AtomicBool,
    checks_in_a_row: AtomicU32,
    failures_in_a_row: AtomicU32,
    born: Instant,
    /// Milliseconds after `born`; 0: not ejected.
    ejected_until: AtomicU64,
    /// When the log was told that it cannot be reached, in milliseconds after `born`; 0: never.
    told_unreached: AtomicU64,
    pub(super) connections: AtomicUsize,
    pub(super) idle: AtomicUsize,
}

impl Server {
    pub(super) fn new(id: u64, url: Arc<str>, host: Arc<str>, port: u16) -> Self {
        Self {
            id,
            pool_id: AtomicU64::new(id),
            tls: ArcSwapOption::empty(),
            url,
            host,
            port,
            weight: AtomicU32::new(1),
            limit: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            beside: AtomicUsize::new(0),
            passes_checks: AtomicBool::new(true),
            checks_in_a_row: AtomicU32::new(0),
            failures_in_a_row: AtomicU32::new(0),
            born: time::now(),
            ejected_until: AtomicU64::new(0),
            told_unreached: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
        }
    }

    pub(super) fn configure(&self, weight: u32, limit: Option<u32>) {
        self.weight.store(weight, Ordering::Relaxed);
        self.limit.store(limit.map_or(0, |limit| limit as usize), Ordering::Relaxed);
    }

    /// Takes how TLS is to be spoken with it from now on. Connections that were made in another way get no more requests.
    pub(super) fn speak(&self, tls: Option<&Outgoing>, next_id: impl FnOnce() -> u64) {
        let same = match (&*self.tls.load(), tls) {
            (Some(now), Some(new)) => now.is(new),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.tls.store(tls.cloned().map(Arc::new));
            self.pool_id.store(next_id(), Ordering::Release);
        }
    }

    /// How TLS is spoken with it, if it is.
    #[must_use]
    pub fn tls(&self) -> Option<Arc<Outgoing>> {
        self.tls.load_full()
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.load().is_some() { "https" } else { "http" }
    }

    #[must_use]
    pub fn pool_id(&self) -> u64 {
        self.pool_id.load(Ordering::Acquire)
    }

    /// Host and port as a `Host` field names them.
    #[must_use]
    pub fn authority(&self) -> String {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        format!("{open}{}{close}:{}", self.host, self.port)
    }

    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed).max(1)
    }

    /// Requests at this server now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed) + self.beside.load(Ordering::Relaxed)
    }

    /// Connections open to it, and how many of them are idle.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        let open = self.connections.load(Ordering::Relaxed);
        // Where requests share a connection, it is never lent and given back.
        let idle = if self.in_flight() == 0 { open } else { self.idle.load(Ordering::Relaxed) };
        (open, idle.min(open))
    }

    /// The most requests that may be here at once.
    #[must_use]
    pub fn limit(&self) -> Option<usize> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit > 0)
    }

    #[must_use]
    pub fn has_room(&self) -> bool {
        self.limit().is_none_or(|limit| self.in_flight.load(Ordering::Relaxed) < limit)
    }

    /// Takes a slot, if there is room.
    pub(super) fn try_enter(&self) -> bool {
        let limit = self.limit().unwrap_or(usize::MAX);
        self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |now| (now < limit).then_some(now + 1)).is_ok()
    }

    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    /// Counts a request that takes no slot.
    pub(super) fn enter_beside(&self) {
        self.beside.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn leave_beside(&self) {
        self.beside.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether it may get requests: it passes its checks and is not ejected.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.passes_checks.load(Ordering::Relaxed) && !self.is_ejected()
    }

    /// Whether its last active checks were passed; true without any.
    #[must_use]
    pub fn passes_checks(&self) -> bool {
        self.passes_checks.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn is_ejected(&self) -> bool {
        let until = self.ejected_until.load(Ordering::Relaxed);
        until > 0 && self.age_millis() < until
    }

    /// Takes the outcome of one active check. Returns the new state if it changed.
    pub(super) fn checked(&self, passed: bool, healthy_after: u32, unhealthy_after: u32) -> Option<bool> {
        let state = self.passes_checks.load(Ordering::Relaxed);
        if passed == state {
            self.checks_in_a_row.store(0, Ordering::Relaxed);
            return None;
        }
        let against = self.checks_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        if against < if passed { healthy_after } else { unhealthy_after } {
            return None;
        }
        self.checks_in_a_row.store(0, Ordering::Relaxed);
        self.passes_checks.store(passed, Ordering::Relaxed);
        Some(passed)
    }

    /// Without active checks there is nobody to call it unhealthy.
    pub(super) fn unchecked(&self) {
        self.passes_checks.store(true, Ordering::Relaxed);
        self.checks_in_a_row.store(0, Ordering::Relaxed);
    }

    /// Says in the log why no connection to it came about, for people the first time and then every ten seconds.
    pub(super) fn not_reached(&self, error: &dyn std::fmt::Display) {
        let now = self.age_millis().max(1);
        let told = self.told_unreached.load(Ordering::Relaxed);
        let is_due = told == 0 || now.saturating_sub(told) >= TOLD_EVERY;
        let url = &*self.url;
        if is_due && self.told_unreached.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!(%error, server = url, "a server could not be reached");
        } else {
            tracing::debug!(%error, server = url, "a server could not be reached");
        }
    }

    pub(super) fn succeeded(&self) {
        if self.failures_in_a_row.load(Ordering::Relaxed) > 0 {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Counts one more failure in a row; true when there are `enough` for an ejection.
    pub(super) fn failed(&self, enough: u32) -> bool {
        self.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= enough
    }

    pub(super) fn eject(&self, duration: Duration) {
        self.failures_in_a_row.store(0, Ordering::Relaxed);
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.ejected_until.store(self.age_millis().saturating_add(millis).max(1), Ordering::Relaxed);
    }

    fn age_millis(&self) -> u64 {
        u64::try_from(time::now().saturating_duration_since(self.born).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server::new(1, "http://a".into(), "a".into(), 80)
    }

    #[test]
    fn a_slot_is_never_given_beyond_the_limit() {
        let server = server();
        server.configure(1, Some(2));
        assert_eq!([server.try_enter(), server.try_enter(), server.try_enter()], [true, true, false]);
        server.leave();
        assert!(server.try_enter());
    }

    #[test]
    fn checks_count_in_a_row() {
        let server = server();
        assert_eq!(server.checked(false, 1, 2), None);
        assert_eq!(server.checked(true, 1, 2), None, "a success in between starts the count anew");
        assert_eq!(server.checked(false, 1, 2), None);
        assert_eq!(server.checked(false, 1, 2), Some(false));
        assert!(!server.is_healthy());
        assert_eq!(server.checked(true, 1, 2), Some(true));
        assert!(server.is_healthy());
    }

    #[tokio::test(start_paused = true)]
    async fn an_ejection_ends_by_itself() {
        let server = server();
        server.eject(Duration::from_secs(10));
        assert!(!server.is_healthy());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(server.is_healthy());
    }
}
