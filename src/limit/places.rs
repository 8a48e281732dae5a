//! Who gets the next free place: the pure heart of the global gate.
//!
//! A place counts in three scopes at once: the request's route, its upstream, and the whole gateway. It is taken in
//! all three together or in none, so nobody holds a part of what another one needs. A waiter whose route or upstream
//! is full lets those pass whose are not; places are fully used while there is work that fits.
//!
//! Among those who fit, the next place goes
//!
//! 1. to the highest class of priority; a waiter rises one class for every [`RISE_AFTER`] that it has waited, so none
//!    starves;
//! 2. within the class, to the fairness key whose turn it is in the round (a key that begins to wait joins the round
//!    at its end, so that fresh keys do not push old ones back);
//! 3. within the key, to the one who came first.
//!
//! ```text
//!   arrive ──▶ Waiting ──(a place fits)──▶ Granted ──leave──▶ gone
//!                 └──────────leave──────────────────────────▶ gone
//! ```
//!
//! Cost: logarithmic in the number of waiters, linear in the number of (route, upstream) pairs that have waiters.

pub mod counts;
mod group;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use counts::Counts;
pub use counts::Scope;
use group::Group;

use crate::sync::Arc;

/// A waiter rises one class of priority each time it has waited for so long.
pub const RISE_AFTER: Duration = Duration::from_secs(10);

/// Number of priority classes; 0 is served first.
pub const CLASSES: usize = 3;

/// Whom a place is for, as far as fairness goes: a digest of the client's address or of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FairKey(pub u64);

/// Names one request that waits, from its arrival until it has left or has seen that it holds a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaceId(u64);

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    pub route: Scope,
    pub upstream: Scope,
    /// 0 is served first; values from [`CLASSES`] on count as the last class.
    pub class: usize,
    pub key: FairKey,
}

/// How many may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// In all.
    pub all: usize,
    /// For one fairness key.
    pub share: usize,
}

/// Why nobody was let in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueFull {
    Limit,
    Share,
}

#[derive(Debug)]
struct Entry<T> {
    wish: Wish,
    /// `Some` while it waits: since when.
    waiting_since: Option<Instant>,
    value: T,
}

/// All who wait for a place, beside the [`Counts`] of the places; `T` is what the shell keeps for each who waits.
///
/// Places are taken and given back by the counts alone while nobody waits, so others may change them at any time.
/// Whoever is told that somebody waits when it gives a place back calls [`advance`](Self::advance).
#[derive(Debug)]
pub struct Places<T> {
    counts: Arc<Counts>,
    scopes: usize,
    queue: QueueLimits,
    entries: HashMap<PlaceId, Entry<T>>,
    groups: HashMap<(Scope, Scope), Group>,
    /// Where each fairness key stands in the round, while it waits.
    round: HashMap<FairKey, Standing>,
    next_id: u64,
    next_round: u64,
    waiting: usize,
}

#[derive(Debug, Clone, Copy)]
struct Standing {
    position: u64,
    waiting: usize,
}

impl<T> Places<T> {
    #[must_use]
    pub fn new(limit: usize, queue: QueueLimits) -> Self {
        Self {
            counts: Arc::new(Counts::new(limit)),
            scopes: 0,
            queue,
            entries: HashMap::new(),
            groups: HashMap::new(),
            round: HashMap::new(),
            next_id: 0,
            next_round: 0,
            waiting: 0,
        }
    }

    /// The places themselves.
    #[must_use]
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// A new scope that counts, with room for `limit` (`None`: without a bound).
    pub fn add_scope(&mut self, limit: Option<usize>) -> Scope {
        self.scopes += 1;
        self.counts.add(self.scopes - 1, limit)
    }

    /// Asks for a place. `None`: it was granted at once, and goes back by [`Counts::give_back`]. Otherwise it waits.
    ///
    /// Whoever fits has to have been let in before: call [`advance`](Self::advance) until it returns `None`.
    ///
    /// # Errors
    /// [`QueueFull`] when it would have to wait and may not; nothing changed then.
    pub fn arrive(&mut self, wish: Wish, now: Instant, value: T) -> Result<Option<PlaceId>, QueueFull> {
        // Those who wait in the same group wait for the same scopes: a newcomer must not overtake them. Those of other
        // groups wait for scopes that are full to them, unless the global gate is what is full, and then it is to all.
        if !self.groups.contains_key(&(wish.route, wish.upstream)) && self.counts.take(wish) {
            return Ok(None);
        }
        self.check_queue(wish.key)?;
        let id = PlaceId(self.next_id);
        self.next_id += 1;
        self.enqueue(id, wish, now);
        self.entries.insert(id, Entry { wish, waiting_since: Some(now), value });
        Ok(Some(id))
    }

    /// Takes one out, whether it waited or was granted a place. `None` if it is not here.
    ///
    /// Call [`advance`](Self::advance) afterwards: a place may have become free.
    pub fn leave(&mut self, id: PlaceId) -> Option<T> {
        let entry = self.entries.remove(&id)?;
        if entry.waiting_since.is_some() {
            let pair = (entry.wish.route, entry.wish.upstream);
            if let Some(group) = self.groups.get_mut(&pair) {
                group.remove(id, entry.wish.key);
                if group.is_empty() {
                    self.groups.remove(&pair);
                }
            }
            self.waits_no_more(entry.wish.key);
        } else {
            // Whoever calls this looks who goes on, whatever the counts say.
            let _ = self.counts.give_back(entry.wish);
        }
        Some(entry.value)
    }

    /// Takes note that one has seen that it holds a place, which goes back by [`Counts::give_back`] from now on. `false`:
    /// it still waits.
    pub fn take_note(&mut self, id: PlaceId) -> bool {
        let granted = self.entries.get(&id).is_some_and(|entry| entry.waiting_since.is_none());
        if granted {
            self.entries.remove(&id);
        }
        granted
    }

    /// The routes of those who were granted a place and have not taken note of it.
    pub fn unnoticed(&self) -> impl Iterator<Item = Scope> {
        self.entries.values().filter(|entry| entry.waiting_since.is_none()).map(|entry| entry.wish.route)
    }

    /// Grants the next free place, if somebody fits. Call until it returns `None`.
    pub fn advance(&mut self, now: Instant) -> Option<&mut T> {
        let (id, wish) = loop {
            let pair = self.next_group(now)?;
            let (_, _, first) = self.groups.get_mut(&pair)?.first(&self.round)?;
            let wish = self.entries.get(&first)?.wish;
            // One who does not wait may have been quicker, or hold a scope for the moment in which it finds that it does
            // not fit: then the next look finds that scope full, or free again.
            if self.counts.take(wish) {
                break (first, wish);
            }
        };
        let pair = (wish.route, wish.upstream);
        let group = self.groups.get_mut(&pair)?;
        group.take_first(&self.round);
        if group.is_empty() {
            self.groups.remove(&pair);
        }
        // To the end of the round, whichever class it was served in.
        self.next_round += 1;
        if let Some(standing) = self.round.get_mut(&wish.key) {
            standing.position = self.next_round;
        }
        self.waits_no_more(wish.key);
        let entry = self.entries.get_mut(&id)?;
        entry.waiting_since = None;
        Some(&mut entry.value)
    }

    /// What is kept for one that waits, or has not seen yet that it holds a place.
    pub fn get_mut(&mut self, id: PlaceId) -> Option<&mut T> {
        self.entries.get_mut(&id).map(|entry| &mut entry.value)
    }

    /// New limit across everything; whoever holds a place keeps it.
    pub fn resize(&mut self, limit: usize, queue: QueueLimits) {
        self.counts.resize(limit);
        self.queue = queue;
    }

    /// New limit of one scope; whoever holds a place keeps it.
    pub fn resize_scope(&mut self, scope: Scope, limit: Option<usize>) {
        self.counts.resize_scope(scope, limit);
    }

    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    #[must_use]
    pub fn in_use(&self) -> usize {
        self.counts.in_use()
    }

    /// Since when the one waits that has waited longest.
    #[must_use]
    pub fn oldest_wait(&self) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.waiting_since).min()
    }

    /// How many wait before `id` in its own group, whatever their class or key.
    #[must_use]
    pub fn position(&self, id: PlaceId) -> Option<usize> {
        let wish = self.entries.get(&id).filter(|entry| entry.waiting_since.is_some())?.wish;
        let ahead = |(other, entry): &(&PlaceId, &Entry<T>)| {
            **other < id && entry.waiting_since.is_some() && entry.wish.route == wish.route
        };
        Some(self.entries.iter().filter(ahead).count())
    }

    fn check_queue(&self, key: FairKey) -> Result<(), QueueFull> {
        if self.waiting >= self.queue.all {
            return Err(QueueFull::Limit);
        }
        if self.round.get(&key).is_some_and(|standing| standing.waiting >= self.queue.share) {
            return Err(QueueFull::Share);
        }
        Ok(())
    }

    fn enqueue(&mut self, id: PlaceId, wish: Wish, now: Instant) {
        let next = &mut self.next_round;
        let standing = self.round.entry(wish.key).or_insert_with(|| {
            *next += 1;
            Standing { position: *next, waiting: 0 }
        });
        standing.waiting += 1;
        let position = standing.position;
        self.waiting += 1;
        let group = self.groups.entry((wish.route, wish.upstream)).or_default();
        group.insert(id, wish.class.min(CLASSES - 1), wish.key, position, now);
    }

    fn waits_no_more(&mut self, key: FairKey) {
        self.waiting -= 1;
        if let Some(standing) = self.round.get_mut(&key) {
            standing.waiting -= 1;
            if standing.waiting == 0 {
                self.round.remove(&key);
            }
        }
    }

    /// The pair of route and upstream whose first waiter is the first of all who fit.
    fn next_group(&mut self, now: Instant) -> Option<(Scope, Scope)> {
        if !self.counts.has_room() {
            return None;
        }
        let counts = &self.counts;
        let round = &self.round;
        self.groups
            .iter_mut()
            .filter(|((route, upstream), _)| counts.scopes_have_room(*route, *upstream))
            .filter_map(|(pair, group)| {
                group.rise(now, round);
                Some((group.first(round)?, *pair))
            })
            .min()
            .map(|(_, pair)| pair)
    }
}

#[cfg(test)]
mod tests;
