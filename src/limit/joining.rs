//! Equal requests that share one answer, and answers that are kept for those who come later.
//!
//! The first of equal requests [leads](Lead): its answer is written here, piece by piece. Everybody, the first one's own
//! client included, [follows](Follower) and reads from the beginning at a pace of its own.
//!
//! ```text
//!   enter ──▶ Leads ──head──▶ answering ──whole──▶ kept for a while, or forgotten
//!     │          └────cut, or nobody follows───▶ forgotten
//!     └────▶ Follows (from the first piece)
//! ```
//!
//! Bounds. The answer is read at most [`AHEAD`] beyond the fastest of its readers: the fastest sets the pace, and nobody
//! else slows it. Whoever falls more than [`WINDOW`] (or [`WINDOW_PIECES`])
//! behind what has come is cut. What lies so far back is dropped, and
//! after that nobody joins any more; unless the answer is to be [kept](Keep), and all such take no more than
//! [`KEPT_BYTES`]: the oldest make room. At most [`KEPT_ANSWERS`] are kept when they have ended.
//!
//! Lock order: the table, then one answer.

mod shared;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

pub use shared::{Cut, Follower};
use shared::{End, Shared};

use crate::sync::Mutex;

/// Bytes that are read before the fastest reader wants them.
pub const AHEAD: u64 = 64 * 1024;
/// Bytes by which a reader may fall behind.
pub const WINDOW: u64 = 1024 * 1024;
/// Bytes of all answers that are or may be kept.
pub const KEPT_BYTES: u64 = 64 * 1024 * 1024;
/// Answers that are kept.
pub const KEPT_ANSWERS: usize = 10_000;
/// What a piece counts for beside its own bytes, where memory is counted.
const PIECE_BYTES: u64 = 128;
/// Pieces by which a reader may fall behind: a stream of single bytes must not take a hundred times the window.
pub const WINDOW_PIECES: u64 = 16 * 1024;

/// A digest that no two different things share (SHA-256).
pub type Print = [u8; 32];

/// What a request is compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Likeness {
    /// Of all that equal requests have in common.
    pub key: Print,
    /// Of what must be the same too once the key is.
    pub body: Print,
}

/// How much of an answer stays for those who come later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// All of it while it is not whole yet, however long it is.
    pub whole: bool,
    /// For how long once it is whole. Zero: not at all.
    pub afterwards: Duration,
}

/// What a request is among its equals. `W` stands for who does the work, `H` is the head of an answer, `P` a piece of its
/// body.
#[derive(Debug)]
pub enum Entered<W, H, P> {
    /// It is the first, and follows itself.
    Leads(Lead<W, H, P>, Follower<W, H, P>),
    /// `kept`: the answer had ended already.
    Follows { follower: Follower<W, H, P>, kept: bool },
    /// Its key is another request's.
    Differs,
    /// It has an equal, whose answer cannot be had from the beginning any more.
    Apart,
}

/// All answers that can be joined.
#[derive(Debug)]
pub struct Joining<W, H, P> {
    table: Mutex<Table<W, H, P>>,
    /// Of all that are whole in memory for the sake of those who come later, for as long as anybody has them.
    bytes: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Table<W, H, P> {
    entries: HashMap<Print, Entry<W, H, P>>,
    /// Keys of the answers that are kept, the oldest first, each with its entry's number.
    kept: VecDeque<(Print, u64)>,
    next: u64,
}

#[derive(Debug)]
struct Entry<W, H, P> {
    number: u64,
    body: Print,
    shared: Arc<Shared<W, H, P>>,
    /// Until when, once it is kept.
    kept: Option<Instant>,
}

impl<W, H, P> Default for Joining<W, H, P> {
    fn default() -> Self {
        let table = Table { entries: HashMap::new(), kept: VecDeque::new(), next: 0 };
        Self { table: Mutex::new(table), bytes: Arc::default() }
    }
}

impl<W, H: Clone, P: Clone> Joining<W, H, P> {
    /// Joins an equal request, or is the first.
    pub fn enter(self: &Arc<Self>, likeness: Likeness, keep: Keep, now: Instant) -> Entered<W, H, P> {
        let mut table = self.table.lock();
        // One that has broken off is nobody's equal any more, also before its writer has gone.
        table.forget_if(likeness.key, |entry| entry.kept.is_some_and(|until| until <= now) || entry.shared.is_cut());
        if let Some(entry) = table.entries.get(&likeness.key) {
            let (shared, kept) = (entry.shared.clone(), entry.kept.is_some());
            if entry.body != likeness.body {
                return Entered::Differs;
            }
            drop(table);
            return match Shared::follow(&shared) {
                Some(follower) => Entered::Follows { follower, kept },
                None => Entered::Apart,
            };
        }
        table.next += 1;
        let number = table.next;
        let keeps = keep.whole || !keep.afterwards.is_zero();
        let shared = Arc::new(Shared::new(keeps, self.bytes.clone()));
        table.entries.insert(likeness.key, Entry { number, body: likeness.body, shared: shared.clone(), kept: None });
        drop(table);
        let follower = Shared::follow(&shared).expect("a new answer can be had from its beginning");
        let lead =
            Lead { joining: self.clone(), shared, key: likeness.key, number, keeps, afterwards: keep.afterwards };
        Entered::Leads(lead, follower)
    }

    /// Forgets answers that have been kept for long enough. Call it every second.
    pub fn sweep(&self, now: Instant) {
        let mut table = self.table.lock();
        let kept = std::mem::take(&mut table.kept);
        for (key, number) in kept {
            let entry = table.entries.get(&key).filter(|entry| entry.number == number);
            match entry.and_then(|entry| entry.kept) {
                Some(until) if until > now => table.kept.push_back((key, number)),
                Some(_) => drop(table.entries.remove(&key)),
                // It was forgotten, and another one may have come to its key.
                None => {}
            }
        }
    }

    /// Answers that can be joined, and the bytes of those that are whole in memory.
    #[must_use]
    pub fn size(&self) -> (usize, u64) {
        (self.table.lock().entries.len(), self.bytes.load(Relaxed))
    }
}

impl<W, H, P> Table<W, H, P> {
    fn forget_if(&mut self, key: Print, which: impl FnOnce(&Entry<W, H, P>) -> bool) {
        if self.entries.get(&key).is_some_and(which) {
            self.entries.remove(&key);
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((key, number)) = self.kept.pop_front() else { return false };
        self.forget_if(key, |entry| entry.number == number);
        true
    }
}

/// The writing end of an answer. Dropped before its end, it cuts those who read.
#[derive(Debug)]
pub struct Lead<W, H, P> {
    joining: Arc<Joining<W, H, P>>,
    shared: Arc<Shared<W, H, P>>,
    key: Print,
    number: u64,
    keeps: bool,
    afterwards: Duration,
}

impl<W, H, P> Lead<W, H, P> {
    /// Says who does the work.
    pub fn done_by(&self, work: W) {
        self.shared.done_by(work);
    }

    /// Says how the answer begins; `whole`: and that nothing follows.
    pub fn begin(&self, head: H, whole: bool) {
        self.shared.begin(head, whole);
    }

    /// Lets nobody join any more, whatever becomes of the answer.
    pub fn withdraw(&mut self) {
        self.keep_not();
        self.forget();
    }

    /// Says that the answer is none to keep.
    fn keep_not(&mut self) {
        self.keeps = false;
        self.afterwards = Duration::ZERO;
        self.shared.keep_not();
    }

    /// Adds a piece of `length` bytes; `last`: the answer is whole with it.
    pub fn push(&mut self, piece: P, length: usize, last: bool) {
        let length = length as u64;
        if self.keeps && !self.reserve(length + PIECE_BYTES) {
            self.keep_not();
        }
        self.shared.push(piece, length, last);
    }

    /// The answer is whole. It is kept from `now` on, if it may be.
    pub fn finish(&mut self, now: Instant) {
        self.shared.end(End::Whole);
        if self.afterwards.is_zero() {
            return self.forget();
        }
        let mut table = self.joining.table.lock();
        while table.kept.len() >= KEPT_ANSWERS && table.forget_oldest() {}
        // Another one may have come to the key of an answer that was withdrawn or had broken off.
        if let Some(entry) = table.entries.get_mut(&self.key).filter(|entry| entry.number == self.number) {
            entry.kept = Some(now + self.afterwards);
            table.kept.push_back((self.key, self.number));
        }
    }

    /// Whether there is room for so much more; older answers make some.
    fn reserve(&self, length: u64) -> bool {
        while self.joining.bytes.load(Relaxed) + length > KEPT_BYTES {
            // Its bytes go when the last one who reads it goes.
            if !self.joining.table.lock().forget_oldest() {
                return false;
            }
        }
        true
    }

    /// Lets nobody join any more, unless the answer is kept.
    fn forget(&self) {
        let number = self.number;
        self.joining.table.lock().forget_if(self.key, |entry| entry.number == number && entry.kept.is_none());
    }
}

impl<W, H, P> Drop for Lead<W, H, P> {
    fn drop(&mut self) {
        self.forget();
        self.shared.end(End::Cut);
    }
}

#[cfg(test)]
mod tests;
