//! Lanes by key, and the waiting for a turn in one.
//!
//! A lane exists while somebody stands in it and is forgotten with the last one. The table is cut into shards, each
//! under its own lock; a request touches one shard when it arrives and when it goes.
//!
//! Lock order: one shard at a time, nothing else is locked inside. Wakers are called after unlocking.
//! Who may unlink: the [`Turn`] that stands in the line, by its drop; and a newcomer that takes the stead of those who
//! wait. Whoever was put out so is woken and told, and its drop finds that it stands nowhere any more.

mod shard;

use std::future::poll_fn;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use crate::limit::keys::{KeyBudget, KeyHasher, key_hasher};
use crate::limit::lane::{Lane, Ticket};
use crate::limit::lanes::shard::{Keyed, Shard};
use crate::sync::{Arc, Mutex};

/// Parts that [`Lanes::for_each_of`] counts.
#[cfg(not(feature = "loom"))]
pub const SHARDS: usize = 64;
#[cfg(feature = "loom")]
pub const SHARDS: usize = 1;

type Part<K, M> = Mutex<Shard<K, Member<M>>>;

/// All lanes of one kind. `K` is the key, `M` what is known of each member.
#[derive(Debug)]
pub struct Lanes<K, M> {
    shards: Box<[Part<K, M>]>,
    hasher: KeyHasher,
    keys: Arc<KeyBudget>,
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct Member<M> {
    value: M,
    waker: Option<Waker>,
    /// A newcomer has asked for its end.
    ending: bool,
}

/// What one does on arrival that would have to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newcomer {
    Waits,
    /// It does not stay.
    Leaves,
    /// It puts those out who wait.
    Replaces,
    /// It puts those out who wait, and asks for the end of the one that has run longest, unless that of another one was
    /// asked for and is still to come.
    Interrupts,
}

/// Those who hold a turn when somebody comes who does not want to wait behind others. Empty for all who do.
#[derive(Debug)]
pub struct Before<M> {
    pub holders: Vec<M>,
    pub interrupted: Option<M>,
}

impl<M> Default for Before<M> {
    fn default() -> Self {
        Self { holders: Vec::new(), interrupted: None }
    }
}

/// A newcomer has taken one's stead in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutOut;

/// Why nobody was let in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneRefused {
    /// The key's line is as long as it may be.
    Full,
    /// One more key cannot be remembered.
    Keys,
    /// It would have to wait, and does not want to.
    Busy,
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
        self.arrive_as(Newcomer::Waits, key, width, depth, value).map(|(turn, _)| turn)
    }

    /// As [`arrive`](Self::arrive), for those who may not want to wait.
    ///
    /// # Errors
    /// [`LaneRefused`]; nothing changed then.
    pub fn arrive_as(
        self: &Arc<Self>,
        newcomer: Newcomer,
        key: K,
        width: usize,
        depth: usize,
        value: M,
    ) -> Result<(Turn<K, M>, Before<M>), LaneRefused> {
        let member = Member { value, waker: None, ending: false };
        let mut before = Before::default();
        let mut put_out = Vec::new();
        let hash = self.hasher.hash_one(&key);
        let mut shard = self.shard(hash).lock();
        let (lane, ticket, granted) = if let Some(keyed) = shard.of_key(hash, &key) {
            match newcomer {
                Newcomer::Leaves if keyed.lane.is_busy() => return Err(LaneRefused::Busy),
                Newcomer::Replaces | Newcomer::Interrupts if keyed.lane.is_busy() => {
                    before = self.make_way(&mut keyed.lane, newcomer, &mut put_out);
                }
                _ => {}
            }
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
        put_out.into_iter().filter_map(|member| member.waker).for_each(Waker::wake);
        Ok((Turn { lanes: self.clone(), hash, lane, ticket, granted, has_left: false }, before))
    }

    fn make_way(&self, lane: &mut Lane<Member<M>>, newcomer: Newcomer, put_out: &mut Vec<Member<M>>) -> Before<M> {
        put_out.extend(lane.put_out_waiting());
        self.waiting.fetch_sub(put_out.len(), Ordering::Relaxed);
        let holders = lane.running_mut().map(|member| member.value.clone()).collect();
        let one_is_ending = lane.running_mut().any(|member| member.ending);
        let oldest = lane.running_mut().next().filter(|_| newcomer == Newcomer::Interrupts && !one_is_ending);
        let interrupted = oldest.map(|member| {
            member.ending = true;
            member.value.clone()
        });
        Before { holders, interrupted }
    }

    /// Gives every lane the width that `width_of` names for its key (`None`: as it is) and lets in who fits now.
    pub fn resize(&self, width_of: impl Fn(&K) -> Option<usize>) {
        for shard in &self.shards {
            let mut woken = Vec::new();
            let mut shard = shard.lock();
            for Keyed { key, lane, .. } in shard.iter_mut() {
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
        self.line(key).map(|(_, members)| members)
    }

    /// As [`members`](Self::members), with how many may hold a turn at once.
    pub fn line(&self, key: &K) -> Option<(usize, Vec<(bool, M)>)> {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash).lock();
        let lane = &shard.of_key(hash, key)?.lane;
        let members = lane.iter().map(|(granted, member)| (granted, member.value.clone())).collect();
        Some((lane.width(), members))
    }

    /// Shows every lane's key and line to `visit`, one shard locked at a time.
    pub fn for_each(&self, mut visit: impl FnMut(&K, &mut dyn Iterator<Item = (bool, &M)>)) {
        (0..self.shards.len()).for_each(|part| self.for_each_of(part, &mut visit));
    }

    /// As [`for_each`](Self::for_each), of a part of the lanes. With counting `part` all have their turn.
    pub fn for_each_of(&self, part: usize, mut visit: impl FnMut(&K, &mut dyn Iterator<Item = (bool, &M)>)) {
        let shard = &self.shards[part % self.shards.len()];
        for Keyed { key, lane, .. } in shard.lock().iter() {
            visit(key, &mut lane.iter().map(|(granted, member)| (granted, &member.value)));
        }
    }

    /// Lanes with somebody in them.
    #[must_use]
    pub fn active(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Members without a turn, in all lanes.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl<K, M> Lanes<K, M> {
    fn shard(&self, hash: u64) -> &Part<K, M> {
        // Bits that the shard's own table looks at last.
        &self.shards[(hash >> 32) as usize % self.shards.len()]
    }

    fn grant(&self, lane: &mut Lane<Member<M>>, woken: &mut Vec<Waker>) {
        while let Some(member) = lane.advance() {
            woken.extend(member.waker.take());
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether one who waited has a turn now.
    fn leave(&self, hash: u64, id: u64, ticket: Ticket) -> bool {
        let mut woken = Vec::new();
        let mut shard = self.shard(hash).lock();
        let Some(Keyed { lane, .. }) = shard.find(hash, id) else {
            // It was put out, and those who came after it have gone.
            return false;
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
        let passed_on = !woken.is_empty();
        woken.into_iter().for_each(Waker::wake);
        passed_on
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
    has_left: bool,
}

impl<K, M> Turn<K, M> {
    /// Gives up the place or the turn, and says whether that gave a turn to one who waited for it.
    pub fn pass_on(mut self) -> bool {
        self.has_left = true;
        self.lanes.leave(self.hash, self.lane, self.ticket)
    }

    /// Whether the turn has come, as far as this value has been told.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.granted
    }

    /// Waits for the turn.
    ///
    /// Cancel safe: the place in line is kept until `self` is dropped.
    ///
    /// # Errors
    /// [`PutOut`], when a newcomer has taken its stead. Not once the turn has been granted.
    pub async fn granted(&mut self) -> Result<(), PutOut> {
        if self.granted {
            return Ok(());
        }
        let granted = poll_fn(|cx| {
            let mut shard = self.lanes.shard(self.hash).lock();
            let member = shard.find(self.hash, self.lane).and_then(|keyed| keyed.lane.get_mut(self.ticket));
            let Some((granted, member)) = member else {
                return Poll::Ready(Err(PutOut));
            };
            if granted {
                return Poll::Ready(Ok(()));
            }
            match &mut member.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            Poll::Pending
        });
        self.granted = granted.await.is_ok();
        if self.granted { Ok(()) } else { Err(PutOut) }
    }
}

impl<K, M> Drop for Turn<K, M> {
    fn drop(&mut self) {
        if !self.has_left {
            self.lanes.leave(self.hash, self.lane, self.ticket);
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
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
        assert_eq!(b.granted().now_or_never(), Some(Ok(())));
        drop(b);
        assert_eq!(lanes.members(&"k"), Some(vec![(true, 3)]));
        drop(c);
        assert_eq!((lanes.active(), lanes.waiting(), lanes.keys.used()), (0, 0, 0));
    }

    #[test]
    fn whoever_passes_on_hears_whether_somebody_has_the_turn_now() {
        let lanes = lanes(10);
        let a = lanes.arrive("k", 1, 9, 1).expect("room");
        let mut b = lanes.arrive("k", 1, 9, 2).expect("room");
        let other = lanes.arrive("other", 1, 9, 3).expect("room");
        assert_eq!(b.granted().now_or_never(), None);
        assert!(!other.pass_on(), "nobody waits there");
        assert!(a.pass_on());
        assert_eq!(b.granted().now_or_never(), Some(Ok(())));
        assert!(!b.pass_on());
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
        assert_eq!(c.granted().now_or_never(), Some(Ok(())));
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

    #[test]
    fn a_newcomer_that_replaces_puts_those_out_who_wait_and_nobody_else() {
        let lanes = lanes(10);
        let a = lanes.arrive("k", 1, 1, 1).expect("room");
        let mut b = lanes.arrive("k", 1, 1, 2).expect("room");
        assert_eq!(b.granted().now_or_never(), None);
        let (mut c, before) = lanes.arrive_as(Newcomer::Replaces, "k", 1, 1, 3).expect("b leaves it room");
        assert_eq!((before.holders, before.interrupted), (vec![1], None));
        assert_eq!(b.granted().now_or_never(), Some(Err(PutOut)));
        assert_eq!((lanes.members(&"k"), lanes.waiting()), (Some(vec![(true, 1), (false, 3)]), 1));
        drop(a);
        assert_eq!(c.granted().now_or_never(), Some(Ok(())));
        drop(c);
        assert_eq!((lanes.active(), lanes.waiting()), (0, 0));
        drop(b);
        assert_eq!((lanes.active(), lanes.waiting(), lanes.keys.used()), (0, 0, 0));
    }

    #[test]
    fn a_newcomer_that_interrupts_asks_for_one_end_at_a_time() {
        let lanes = lanes(10);
        let held: Vec<_> = (1..=2).map(|n| lanes.arrive("k", 2, 9, n).expect("room")).collect();
        let (mut c, before) = lanes.arrive_as(Newcomer::Interrupts, "k", 2, 9, 3).expect("room");
        assert_eq!((before.holders, before.interrupted), (vec![1, 2], Some(1)));
        let (mut d, before) = lanes.arrive_as(Newcomer::Interrupts, "k", 2, 9, 4).expect("room");
        assert_eq!((before.holders, before.interrupted), (vec![1, 2], None), "1 is ending, and its turn is enough");
        assert_eq!(c.granted().now_or_never(), Some(Err(PutOut)));
        assert_eq!(d.granted().now_or_never(), None);
        drop(held);
        assert_eq!(d.granted().now_or_never(), Some(Ok(())));
    }

    #[test]
    fn one_that_finds_a_free_turn_asks_nothing_of_anybody() {
        let lanes = lanes(10);
        let held = lanes.arrive("k", 2, 9, 1).expect("room");
        for newcomer in [Newcomer::Leaves, Newcomer::Replaces, Newcomer::Interrupts] {
            let (turn, before) = lanes.arrive_as(newcomer, "k", 2, 9, 2).expect("room");
            assert!(turn.is_granted() && before.holders.is_empty() && before.interrupted.is_none(), "{newcomer:?}");
        }
        let other = lanes.arrive("k", 2, 9, 3).expect("room");
        assert_eq!(lanes.arrive_as(Newcomer::Leaves, "k", 2, 9, 4).err(), Some(LaneRefused::Busy));
        drop((held, other));
    }
}
