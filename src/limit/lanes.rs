//! Lanes by key, and the waiting for a turn in one.
//!
//! A lane exists while somebody stands in it and is forgotten with the last one. The table is cut into shards, each
//! under its own lock; a request touches one shard when it arrives and when it goes.
//!
//! Lock order: one shard at a time, nothing else is locked inside. Wakers are called after unlocking.
//! Who may unlink: only the [`Turn`] that stands in the line, by its drop.

use std::future::poll_fn;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use hashbrown::HashTable;

use crate::limit::keys::{KeyBudget, KeyHasher, key_hasher};
use crate::limit::lane::{Lane, Ticket};
use crate::sync::{Arc, Mutex};

#[cfg(not(turnwise_loom))]
const SHARDS: usize = 64;
#[cfg(turnwise_loom)]
const SHARDS: usize = 1;

/// A shard's table is shrunk when it is this much larger than what is in it.
const SLACK: usize = 8;
const KEPT_CAPACITY: usize = 64;
/// Lanes that nobody stands in, kept by a shard for the next key: a request alone in its lane then allocates nothing.
const SPARE_LANES: usize = 8;
/// The longest line that is kept so.
const SPARE_CAPACITY: usize = 4;

/// All lanes of one kind. `K` is the key, `M` what is known of each member.
#[derive(Debug)]
pub struct Lanes<K, M> {
    shards: Box<[Mutex<Shard<K, M>>]>,
    hasher: KeyHasher,
    keys: Arc<KeyBudget>,
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct Shard<K, M> {
    lanes: HashTable<Keyed<K, M>>,
    spare: Vec<Lane<Member<M>>>,
    next: u64,
}

/// One key's lane.
#[derive(Debug)]
struct Keyed<K, M> {
    key: K,
    hash: u64,
    /// Names the lane among all that its shard ever had: whoever stands in it need not know its key.
    id: u64,
    lane: Lane<Member<M>>,
}

impl<K, M> Shard<K, M> {
    fn new() -> Self {
        Self { lanes: HashTable::new(), spare: Vec::new(), next: 0 }
    }

    fn find(&mut self, hash: u64, id: u64) -> Option<&mut Keyed<K, M>> {
        self.lanes.find_mut(hash, |keyed| keyed.id == id)
    }

    fn begin(&mut self, key: K, hash: u64, width: usize) -> &mut Keyed<K, M> {
        let mut lane = self.spare.pop().unwrap_or_else(|| Lane::new(width));
        lane.begin_anew(width);
        self.next += 1;
        let keyed = Keyed { key, hash, id: self.next, lane };
        self.lanes.insert_unique(hash, keyed, |keyed| keyed.hash).into_mut()
    }

    fn forget(&mut self, hash: u64, id: u64) {
        let Ok(found) = self.lanes.find_entry(hash, |keyed| keyed.id == id) else {
            return;
        };
        let (Keyed { lane, .. }, _) = found.remove();
        if self.spare.len() < SPARE_LANES && lane.capacity() <= SPARE_CAPACITY {
            self.spare.push(lane);
        }
        if self.lanes.capacity() > KEPT_CAPACITY && self.lanes.len() < self.lanes.capacity() / SLACK {
            let keep = self.lanes.len() * 2;
            self.lanes.shrink_to(keep.max(KEPT_CAPACITY / 2), |keyed| keyed.hash);
        }
    }
}

#[derive(Debug)]
struct Member<M> {
    value: M,
    waker: Option<Waker>,
}

/// Why nobody was let in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneRefused {
    /// The key's line is as long as it may be.
    Full,
    /// One more key cannot be remembered.
    Keys,
}

impl<K, M> Lanes<K, M>
where
    K: Eq + Hash,
    M: Clone,
{
    /// An empty table whose lanes are counted in `keys`.
    #[must_use]
    pub fn new(keys: Arc<KeyBudget>) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new())).collect(),
            hasher: key_hasher(),
            keys,
            waiting: AtomicUsize::new(0),
        }
    }

    /// Stands in the line of `key` at once, in order of the calls.
    ///
    /// `width` counts only for a lane that does not exist yet; [`resize`](Self::resize) changes those that do.
    ///
    /// # Errors
    /// [`LaneRefused`]; nothing changed then.
    pub fn arrive(self: &Arc<Self>, key: K, width: usize, depth: usize, value: M) -> Result<Turn<K, M>, LaneRefused> {
        let member = Member { value, waker: None };
        let hash = self.hasher.hash_one(&key);
        let mut shard = self.shard(hash).lock();
        let (lane, ticket, granted) = if let Some(keyed) = shard.lanes.find_mut(hash, |keyed| keyed.key == key) {
            let running = keyed.lane.running();
            let ticket = keyed.lane.arrive(depth, member).map_err(|_| LaneRefused::Full)?;
            (keyed.id, ticket, keyed.lane.running() > running)
        } else {
            self.keys.take().map_err(|_| LaneRefused::Keys)?;
            let keyed = shard.begin(key, hash, width);
            // An empty lane has a turn for its first, so its depth does not matter.
            let ticket = keyed.lane.arrive(1, member).map_err(|_| LaneRefused::Full)?;
            (keyed.id, ticket, true)
        };
        if !granted {
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
        drop(shard);
        Ok(Turn { lanes: self.clone(), hash, lane, ticket, granted })
    }

    /// Gives every lane the width that `width_of` names for its key (`None`: as it is) and lets in who fits now.
    pub fn resize(&self, width_of: impl Fn(&K) -> Option<usize>) {
        for shard in &self.shards {
            let mut woken = Vec::new();
            let mut shard = shard.lock();
            for Keyed { key, lane, .. } in shard.lanes.iter_mut() {
                if let Some(width) = width_of(key) {
                    lane.resize(width);
                    self.grant(lane, &mut woken);
                }
            }
            drop(shard);
            woken.into_iter().for_each(Waker::wake);
        }
    }

    /// Everyone in the line of `key`, in order, with whether it holds a turn. `None`: nobody is there.
    pub fn members(&self, key: &K) -> Option<Vec<(bool, M)>> {
        let hash = self.hasher.hash_one(key);
        let shard = self.shard(hash).lock();
        let keyed = shard.lanes.find(hash, |keyed| keyed.key == *key)?;
        Some(keyed.lane.iter().map(|(granted, member)| (granted, member.value.clone())).collect())
    }

    /// Shows every lane's key and line to `visit`, one shard locked at a time.
    pub fn for_each(&self, mut visit: impl FnMut(&K, &mut dyn Iterator<Item = (bool, &M)>)) {
        for shard in &self.shards {
            for Keyed { key, lane, .. } in shard.lock().lanes.iter() {
                visit(key, &mut lane.iter().map(|(granted, member)| (granted, &member.value)));
            }
        }
    }

    /// Lanes with somebody in them.
    #[must_use]
    pub fn active(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().lanes.len()).sum()
    }

    /// Members without a turn, in all lanes.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl<K, M> Lanes<K, M> {
    fn shard(&self, hash: u64) -> &Mutex<Shard<K, M>> {
        // Bits that the shard's own table looks at last.
        &self.shards[(hash >> 32) as usize % self.shards.len()]
    }

    fn grant(&self, lane: &mut Lane<Member<M>>, woken: &mut Vec<Waker>) {
        while let Some(member) = lane.advance() {
            woken.extend(member.waker.take());
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn leave(&self, hash: u64, id: u64, ticket: Ticket) {
        let mut woken = Vec::new();
        let mut shard = self.shard(hash).lock();
        let Some(Keyed { lane, .. }) = shard.find(hash, id) else {
            debug_assert!(false, "a turn outlived its lane");
            return;
        };
        let waiting = lane.waiting();
        lane.leave(ticket);
        if lane.waiting() < waiting {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        self.grant(lane, &mut woken);
        if lane.is_empty() {
            shard.forget(hash, id);
            self.keys.give_back(1);
        }
        drop(shard);
        woken.into_iter().for_each(Waker::wake);
    }
}

/// A place in the line of one key, and then the turn itself. Dropping it gives up whichever it is.
#[derive(Debug)]
#[must_use = "dropping it leaves the line"]
pub struct Turn<K, M> {
    lanes: Arc<Lanes<K, M>>,
    hash: u64,
    lane: u64,
    ticket: Ticket,
    granted: bool,
}

impl<K, M> Turn<K, M> {
    /// Whether the turn has come, as far as this value has been told.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.granted
    }

    /// Waits for the turn.
    ///
    /// Cancel safe: the place in line is kept until `self` is dropped.
    pub async fn granted(&mut self) {
        if self.granted {
            return;
        }
        poll_fn(|cx| {
            let mut shard = self.lanes.shard(self.hash).lock();
            let member = shard.find(self.hash, self.lane).and_then(|keyed| keyed.lane.get_mut(self.ticket));
            let Some((granted, member)) = member else {
                debug_assert!(false, "a turn outlived its place in line");
                return Poll::Pending;
            };
            if granted {
                return Poll::Ready(());
            }
            match &mut member.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            Poll::Pending
        })
        .await;
        self.granted = true;
    }
}

impl<K, M> Drop for Turn<K, M> {
    fn drop(&mut self) {
        self.lanes.leave(self.hash, self.lane, self.ticket);
    }
}

#[cfg(all(test, not(turnwise_loom)))]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn lanes(limit: usize) -> Arc<Lanes<&'static str, u32>> {
        Arc::new(Lanes::new(Arc::new(KeyBudget::new(limit))))
    }

    #[test]
    fn a_turn_passes_on_when_it_is_dropped_and_nothing_is_left_behind() {
        let lanes = lanes(10);
        let a = lanes.arrive("k", 1, 9, 1).expect("room");
        let mut b = lanes.arrive("k", 1, 9, 2).expect("room");
        let c = lanes.arrive("k", 1, 9, 3).expect("room");
        assert!(a.is_granted());
        assert_eq!(b.granted().now_or_never(), None);
        assert_eq!((lanes.active(), lanes.waiting()), (1, 2));
        drop(a);
        assert_eq!(b.granted().now_or_never(), Some(()));
        drop(b);
        assert_eq!(lanes.members(&"k"), Some(vec![(true, 3)]));
        drop(c);
        assert_eq!((lanes.active(), lanes.waiting(), lanes.keys.used()), (0, 0, 0));
    }

    #[test]
    fn a_lane_that_is_used_again_is_like_a_new_one() {
        let lanes = lanes(10);
        let wide: Vec<_> = (0..3).map(|n| lanes.arrive("wide", 3, 9, n).expect("room")).collect();
        assert!(wide.iter().all(Turn::is_granted));
        drop(wide);
        let (a, b) = (lanes.arrive("k", 1, 9, 1).expect("room"), lanes.arrive("k", 1, 9, 2).expect("room"));
        assert!(a.is_granted() && !b.is_granted());
        assert_eq!(lanes.members(&"k"), Some(vec![(true, 1), (false, 2)]));
        assert!(lanes.members(&"wide").is_none());
    }

    #[test]
    fn a_grant_that_crosses_a_departure_is_passed_on() {
        let lanes = lanes(10);
        let a = lanes.arrive("k", 1, 9, 1).expect("room");
        let b = lanes.arrive("k", 1, 9, 2).expect("room");
        let mut c = lanes.arrive("k", 1, 9, 3).expect("room");
        drop(a);
        drop(b); // granted by now, though it never looked
        assert_eq!(c.granted().now_or_never(), Some(()));
    }

    #[test]
    fn keys_that_are_in_use_are_never_forgotten_to_make_room() {
        let lanes = lanes(1);
        let a = lanes.arrive("a", 1, 9, 1).expect("room");
        assert_eq!(lanes.arrive("b", 1, 9, 1).err(), Some(LaneRefused::Keys));
        drop(a);
        assert!(lanes.arrive("b", 1, 9, 1).is_ok());
    }

    #[test]
    fn widening_lets_in_who_waits_and_keeps_the_order() {
        let lanes = lanes(10);
        let mut turns: Vec<_> = (0..5).map(|n| lanes.arrive("k", 1, 9, n).expect("room")).collect();
        lanes.resize(|_| Some(3));
        let granted: Vec<bool> = turns.iter_mut().map(|t| t.granted().now_or_never().is_some()).collect();
        assert_eq!(granted, [true, true, true, false, false]);
    }
}
