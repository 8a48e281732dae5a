//! How many places are in use in each scope, without a lock.
//!
//! A [`Count`] is one word: how many are in use, how many there may be, and (in the count of the whole gateway only)
//! whether somebody waits. Everything that a decision needs is changed and compared in one step, so no count ever
//! exceeds its limit, not even for the moment of a race or while the limit is lowered. All steps are `SeqCst`, so that the
//! model checker, which tries every order of single steps, sees all that can happen; it costs nothing where every change
//! is a read-modify-write anyway.

use std::sync::OnceLock;

use super::Wish;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::SeqCst;

/// Places in use.
const USED: u64 = (1 << 31) - 1;
/// Somebody waits, or looks under the lock whether it has to.
const WAITED_FOR: u64 = 1 << 31;
const LIMIT_BITS: u32 = 32;

/// Scopes of the first piece of the table; each further piece is as large as all before it.
const FIRST_PIECE: usize = 16;
const PIECES: usize = 24;

/// Names one scope that counts: a route or an upstream. Given out by [`Counts::add`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(pub(super) usize);

/// One scope.
#[derive(Debug)]
struct Count(AtomicU64);

impl Count {
    fn new(limit: Option<usize>) -> Self {
        Self(AtomicU64::new(limit_bits(limit)))
    }

    fn word(&self) -> u64 {
        self.0.load(SeqCst)
    }

    /// Takes one of what there is, unless the word has one of the `forbidden` bits.
    fn take(&self, forbidden: u64) -> bool {
        let mut word = self.word();
        while has_room(word) && word & forbidden == 0 {
            match self.0.compare_exchange_weak(word, word + 1, SeqCst, SeqCst) {
                Ok(_) => return true,
                Err(other) => word = other,
            }
        }
        false
    }

    /// The word as it was before.
    fn give_back(&self) -> u64 {
        let before = self.0.fetch_sub(1, SeqCst);
        debug_assert!(before & USED > 0, "a place was given back twice");
        before
    }

    fn resize(&self, limit: Option<usize>) {
        let limit = limit_bits(limit);
        let mut word = self.word();
        while let Err(other) = self.0.compare_exchange_weak(word, word & (USED | WAITED_FOR) | limit, SeqCst, SeqCst) {
            word = other;
        }
    }
}

fn has_room(word: u64) -> bool {
    word & USED < word >> LIMIT_BITS
}

/// Without a bound: more than can ever be in use.
fn limit_bits(limit: Option<usize>) -> u64 {
    u64::from(limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(u32::MAX)) << LIMIT_BITS
}

/// The counts of all scopes, and of the whole gateway.
#[derive(Debug)]
pub struct Counts {
    global: Count,
    /// A table that grows without moving what is in it: scopes are few and never go.
    pieces: [OnceLock<Box<[Count]>>; PIECES],
}

impl Counts {
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { global: Count::new(Some(limit)), pieces: [const { OnceLock::new() }; PIECES] }
    }

    /// The scope number `number`, with room for `limit` (`None`: without a bound). Numbers begin at 0 and leave none out.
    pub(super) fn add(&self, number: usize, limit: Option<usize>) -> Scope {
        let (piece, _) = place_of(number);
        let unbounded = || (0..FIRST_PIECE << piece).map(|_| Count::new(None)).collect();
        self.pieces[piece].get_or_init(unbounded);
        self.resize_scope(Scope(number), limit);
        Scope(number)
    }

    fn of(&self, scope: Scope) -> &Count {
        let (piece, place) = place_of(scope.0);
        &self.pieces[piece].get().expect("scopes are named by the table that has them")[place]
    }

    /// How many places there may be in all.
    pub fn limit(&self) -> usize {
        (self.global.word() >> LIMIT_BITS) as usize
    }

    /// How many there may be in one scope.
    pub fn limit_of(&self, scope: Scope) -> usize {
        (self.of(scope).word() >> LIMIT_BITS) as usize
    }

    /// Takes a place in all three scopes or in none, if nobody waits at that moment.
    pub fn take_unless_waited_for(&self, wish: Wish) -> bool {
        // Most of those that find no room find it out here, and touch nothing.
        let word = self.global.word();
        has_room(word) && word & WAITED_FOR == 0 && self.take_all(wish, WAITED_FOR)
    }

    /// Takes a place in all three scopes or in none. Only for those who hold the lock of the queue.
    pub(super) fn take(&self, wish: Wish) -> bool {
        self.take_all(wish, 0)
    }

    /// The gateway's comes last: its word says whether somebody waits.
    fn take_all(&self, wish: Wish, forbidden: u64) -> bool {
        let (route, upstream) = (self.of(wish.route), self.of(wish.upstream));
        if !route.take(0) {
            return false;
        }
        if !upstream.take(0) {
            route.give_back();
            return false;
        }
        if !self.global.take(forbidden) {
            upstream.give_back();
            route.give_back();
            return false;
        }
        true
    }

    /// Gives back a place in all three scopes. The answer says whether somebody waits; whoever is told so has to take
    /// the lock and look who goes on.
    #[must_use]
    pub fn give_back(&self, wish: Wish) -> bool {
        self.of(wish.route).give_back();
        self.of(wish.upstream).give_back();
        // Last, so that whoever comes to wait after it finds the others given back.
        self.global.give_back() & WAITED_FOR != 0
    }

    /// Whether somebody waits, as far as can be told without asking twice.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        self.global.word() & WAITED_FOR != 0
    }

    /// Nobody takes a place without the lock from here on, and whoever gives one back comes to look. Only for those who
    /// hold the lock.
    pub fn begin_to_wait(&self) {
        self.global.0.fetch_or(WAITED_FOR, SeqCst);
    }

    /// The last of those who waited has gone. Only for those who hold the lock.
    pub fn end_to_wait(&self) {
        self.global.0.fetch_and(!WAITED_FOR, SeqCst);
    }

    pub(super) fn has_room(&self) -> bool {
        has_room(self.global.word())
    }

    pub(super) fn scopes_have_room(&self, route: Scope, upstream: Scope) -> bool {
        has_room(self.of(route).word()) && has_room(self.of(upstream).word())
    }

    pub(super) fn resize(&self, limit: usize) {
        self.global.resize(Some(limit));
    }

    pub(super) fn resize_scope(&self, scope: Scope, limit: Option<usize>) {
        self.of(scope).resize(limit);
    }

    /// Places in use in one scope.
    #[must_use]
    pub fn in_use_of(&self, scope: Scope) -> usize {
        (self.of(scope).word() & USED) as usize
    }

    #[must_use]
    pub fn in_use(&self) -> usize {
        (self.global.word() & USED) as usize
    }
}

/// The piece of the table, and the place within it.
fn place_of(number: usize) -> (usize, usize) {
    let shifted = number + FIRST_PIECE;
    let piece = (shifted.ilog2() - FIRST_PIECE.ilog2()) as usize;
    (piece, shifted - (FIRST_PIECE << piece))
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::limit::places::FairKey;

    #[test]
    fn every_scope_has_a_place_of_its_own() {
        let mut next = (0, 0);
        for number in 0..10_000 {
            assert_eq!(place_of(number), next);
            next = if next.1 + 1 == FIRST_PIECE << next.0 { (next.0 + 1, 0) } else { (next.0, next.1 + 1) };
        }
    }

    #[test]
    fn what_does_not_fit_everywhere_is_taken_nowhere() {
        let counts = Counts::new(3);
        let (route, upstream) = (counts.add(0, None), counts.add(1, Some(1)));
        let wish = Wish { route, upstream, class: 0, key: FairKey::default() };
        assert!(counts.take(wish));
        assert!(!counts.take(wish), "the upstream is full");
        assert_eq!((counts.in_use(), counts.of(route).word() & USED), (1, 1));
        counts.resize_scope(upstream, None);
        counts.begin_to_wait();
        assert!(!counts.take_unless_waited_for(wish), "somebody came before");
        assert!(counts.take(wish));
        assert!(counts.give_back(wish) && counts.give_back(wish), "somebody waits");
        counts.end_to_wait();
        assert!(counts.take_unless_waited_for(wish));
        assert!(!counts.give_back(wish), "nobody waits");
        assert_eq!(counts.in_use(), 0);
    }

    #[test]
    fn a_limit_changes_while_places_are_held() {
        let count = Count::new(Some(2));
        assert!(count.take(0) && count.take(0) && !count.take(0));
        count.resize(Some(1));
        count.give_back();
        assert!(!count.take(0));
        count.resize(None);
        assert!(count.take(0));
        count.resize(Some(usize::MAX));
        assert!(count.take(0));
        count.resize(Some(0));
        assert!(!count.take(0));
    }
}
