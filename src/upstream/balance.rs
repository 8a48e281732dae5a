//! Which server a request goes to.
//!
//! Only healthy servers are asked. A server that was tried already for the same request is asked again only if there
//! is no other. Where the chosen ones are at their own limits the request waits, first come first served.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::policy::Balance;
use crate::upstream::{Shared, Upstream, server::Server};

/// A request's slot at a server; dropping it gives the slot back.
#[derive(Debug)]
pub struct Slot {
    server: Arc<Server>,
    shared: Arc<Shared>,
    /// Whether it counts against the server's limit.
    counts: bool,
}

impl Slot {
    #[must_use]
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.counts {
            self.server.leave_beside();
            return;
        }
        self.server.leave();
        if self.server.limit().is_some() {
            self.shared.slot_came_back.notify_waiters();
        }
    }
}

/// How often the head of a line looks for what nobody tells it.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What decides about the server of one request.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub session: Option<&'a str>,
    /// Servers that were tried already.
    pub tried: &'a [u64],
    /// It takes no slot, and waits for none.
    pub exempt: bool,
}

/// No server may get the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoServer;

enum Choice {
    Taken(Slot),
    /// All that come into question are full; the line to wait in.
    Full(Option<u64>),
}

impl Upstream {
    /// Takes a slot, if one is free now and nobody waits for it.
    ///
    /// # Errors
    /// [`NoServer`] when none is healthy. `Ok(None)`: wait with [`wait_for_slot`](Self::wait_for_slot).
    pub fn try_slot(&self, wanted: &Wanted<'_>) -> Result<Option<Slot>, NoServer> {
        if self.shared.in_line.load(Ordering::Relaxed) > 0 && !wanted.exempt {
            return if self.is_available() { Ok(None) } else { Err(NoServer) };
        }
        match self.choose(wanted)? {
            Choice::Taken(slot) => Ok(Some(slot)),
            Choice::Full(_) => Ok(None),
        }
    }

    /// Waits for a slot. Cancel safe: dropped, it leaves the line.
    ///
    /// # Errors
    /// [`NoServer`] when none is healthy (any more).
    pub async fn wait_for_slot(&self, wanted: &Wanted<'_>) -> Result<Slot, NoServer> {
        let line = match self.choose(wanted)? {
            // It came free meanwhile; those in the line are told of it as well, so the first of them still gets it.
            Choice::Taken(slot) if self.shared.in_line.load(Ordering::Relaxed) == 0 => return Ok(slot),
            Choice::Taken(slot) => self.line_of(wanted, slot.server()),
            Choice::Full(line) => line,
        };
        let _in_line = InLine::new(&self.shared.in_line);
        // The line has no bound of its own: whoever stands in it holds a place, and those are bounded.
        let Ok(mut head) = self.shared.lines.arrive(line, 1, usize::MAX, ()) else {
            return Err(NoServer);
        };
        // Nobody is put out of this line.
        let _ = head.granted().await;
        loop {
            let came_back = self.shared.slot_came_back.notified();
            tokio::pin!(came_back);
            came_back.as_mut().enable();
            match self.choose(wanted)? {
                Choice::Taken(slot) => return Ok(slot),
                // An ejection that runs out tells nobody, so it is looked for.
                Choice::Full(_) => drop(tokio::time::timeout(LOOK_AGAIN, came_back).await),
            }
        }
    }

    fn choose(&self, wanted: &Wanted<'_>) -> Result<Choice, NoServer> {
        let some_healthy = self.servers.iter().any(|server| server.is_healthy());
        // Where nobody is healthy, one that is only ejected is better than none.
        let healthy =
            || self.servers.iter().filter(move |s| if some_healthy { s.is_healthy() } else { s.passes_checks() });
        let fresh = || healthy().filter(|server| !wanted.tried.contains(&server.id));
        let any_fresh = fresh().next().is_some();
        let asked = || healthy().filter(move |server| !any_fresh || !wanted.tried.contains(&server.id));
        if let (Balance::Session, Some(session)) = (self.policy.balance, wanted.session) {
            let server = asked().max_by(|a, b| rendezvous(session, a).total_cmp(&rendezvous(session, b)));
            let server = server.ok_or(NoServer)?;
            return Ok(self.enter(server, wanted).map_or(Choice::Full(self.line_of(wanted, server)), Choice::Taken));
        }
        let start = self.shared.round.fetch_add(1, Ordering::Relaxed);
        // Another worker may take the slot between the look and the entry; then look again.
        for _ in 0..=self.servers.len() {
            let open = || asked().filter(|server| wanted.exempt || server.has_room());
            let chosen = match self.policy.balance {
                Balance::RoundRobin => by_weight(open, start),
                Balance::LeastInflight | Balance::Session => least_loaded(open, start),
            };
            let Some(chosen) = chosen else { break };
            if let Some(slot) = self.enter(chosen, wanted) {
                return Ok(Choice::Taken(slot));
            }
        }
        if asked().next().is_some() { Ok(Choice::Full(None)) } else { Err(NoServer) }
    }

    /// The line to wait in: that of the server where it must be this one, else that of all.
    fn line_of(&self, wanted: &Wanted<'_>, server: &Server) -> Option<u64> {
        (self.policy.balance == Balance::Session && wanted.session.is_some()).then_some(server.id)
    }

    fn enter(&self, server: &Arc<Server>, wanted: &Wanted<'_>) -> Option<Slot> {
        if wanted.exempt {
            server.enter_beside();
        } else if !server.try_enter() {
            return None;
        }
        Some(Slot { server: server.clone(), shared: self.shared.clone(), counts: !wanted.exempt })
    }
}

/// Counts one that waits for a slot.
struct InLine<'a>(&'a AtomicUsize);

impl<'a> InLine<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn load(server: &Server) -> f64 {
    (server.in_flight() + 1) as f64 / f64::from(server.weight())
}

/// The least loaded one; of equals, the first from where the `n`th round begins.
fn least_loaded<'a, I: Iterator<Item = &'a Arc<Server>>>(open: impl Fn() -> I, n: usize) -> Option<&'a Arc<Server>> {
    let count = open().count();
    let start = n.checked_rem(count)?;
    open().skip(start).chain(open().take(start)).min_by(|a, b| load(a).total_cmp(&load(b)))
}

/// The server of the `n`th request where each gets as many in a row as it weighs.
fn by_weight<'a, I: Iterator<Item = &'a Arc<Server>>>(open: impl Fn() -> I, n: usize) -> Option<&'a Arc<Server>> {
    let total: usize = open().map(|server| server.weight() as usize).sum();
    let mut place = n % total.max(1);
    open().find(|server| {
        let weight = server.weight() as usize;
        let here = place < weight;
        place = place.saturating_sub(weight);
        here
    })
}

/// Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights after Schindelhauer and Schomaker 2005): each
/// server draws a number from the session's key, the highest serves it. One that goes or comes moves only the sessions
/// that it had or gets.
fn rendezvous(session: &str, server: &Server) -> f64 {
    let mut hasher = DefaultHasher::new(); // fixed keys: the same after a restart
    session.hash(&mut hasher);
    server.url.hash(&mut hasher);
    let uniform = (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64;
    -f64::from(server.weight()) / uniform.max(f64::MIN_POSITIVE).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(weights: &[u32]) -> Vec<Arc<Server>> {
        let server = |(n, weight): (usize, &u32)| {
            let server = Server::new(n as u64, format!("http://s{n}").into(), "h".into(), 80);
            server.configure(*weight, None);
            Arc::new(server)
        };
        weights.iter().enumerate().map(server).collect()
    }

    fn home(session: &str, servers: &[Arc<Server>]) -> u64 {
        servers.iter().max_by(|a, b| rendezvous(session, a).total_cmp(&rendezvous(session, b))).expect("some").id
    }

    #[test]
    fn a_server_that_goes_moves_only_its_own_sessions() {
        let all = servers(&[1, 1, 1]);
        for n in 0..300 {
            let session = format!("session-{n}");
            let before = home(&session, &all);
            let after = home(&session, &all[..2]);
            assert!(before == after || before == 2, "{session} moved from {before} to {after}");
        }
    }

    #[test]
    fn sessions_spread_by_weight() {
        let all = servers(&[1, 3]);
        let heavy = (0..4000).filter(|n| home(&format!("session-{n}"), &all) == 1).count();
        assert!((2800..3200).contains(&heavy), "{heavy} of 4000 at weight 3 of 4");
    }

    #[test]
    fn a_round_gives_each_as_many_as_it_weighs() {
        let all = servers(&[1, 3]);
        let order: Vec<u64> = (0..8).map(|n| by_weight(|| all.iter(), n).expect("some").id).collect();
        assert_eq!(order, [0, 1, 1, 1, 0, 1, 1, 1]);
    }
}
