//! The waiting for a place.
//!
//! While nobody waits, places are taken and given back by the [`Counts`] alone: three words, each changed by
//! compare-and-swap, and no lock. Who does not fit, or comes while somebody waits, goes through the one lock, which
//! guards [`Places`]; it is held for one decision at a time, and wakers are called after unlocking.
//! Who may unlink: only the [`Place`] itself, by its drop, whether it was granted or not.
//!
//! Why that is right. *Marked* is one bit in the gateway's count; it is changed under the lock only. It is set before
//! anybody looks under the lock whether there is room, and cleared when the lock is released and nobody waits.
//!
//! - *No place too many.* A count grows only by a compare-and-swap from a word whose limit it stays within, and the limit
//!   is in that word.
//! - *Nobody overtakes.* The last step of taking a place without the lock is the swap of the gateway's count, and it
//!   fails if the word is marked. So whoever succeeds did so while nobody waited. Under the lock all who fit go first, and
//!   then the newcomer is asked.
//! - *No wake-up is lost.* Whoever gives a place back changes the gateway's count last. Either that comes before the mark
//!   of a waiter in the order of that word's changes: then the waiter, which looks at the counts after its mark, finds
//!   all three given back. Or it comes after: then the giver reads the mark, takes the lock once the waiter stands in
//!   line, and looks who goes on.
//! - *Who takes only a part and then finds no room* gives it back and goes through the lock, where it looks who goes on,
//!   as everybody does there. Somebody to whom that part was missing stands in line by then, or comes later and finds it.
//!
//! Two things are weaker than under a lock, for as long as another one's few steps take. Somebody who fits may be told to
//! wait (or be refused, where nobody may) while that other one holds a part that it is about to give back; but it had
//! found room when it began, so the gateway became full in that same moment. And while a place goes back that nobody
//! waited for when its holder began to give it back, those who have come since are served as its scopes become free, which
//! need not be their order where they wait for different ones.

use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Instant;

use crate::limit::places::counts::Counts;
use crate::limit::places::{PlaceId, Places, QueueFull, QueueLimits, Scope, Wish};
use crate::sync::{Arc, Mutex};
use crate::time;

/// The gate before the upstreams.
#[derive(Debug)]
pub struct Gate {
    counts: Arc<Counts>,
    places: Mutex<Places<Option<Waker>>>,
}

impl Gate {
    #[must_use]
    pub fn new(limit: usize, queue: QueueLimits) -> Self {
        let places = Places::new(limit, queue);
        Self { counts: places.counts().clone(), places: Mutex::new(places) }
    }

    /// A new scope that counts, with room for `limit`.
    pub fn add_scope(&self, limit: Option<usize>) -> Scope {
        self.places.lock().add_scope(limit)
    }

    /// Stands in line for a place at once, in order of the calls.
    ///
    /// # Errors
    /// [`QueueFull`] when it would have to wait and may not.
    pub fn arrive(self: &Arc<Self>, wish: Wish) -> Result<Place, QueueFull> {
        let waits = if self.counts.take_unless_waited_for(wish) { None } else { self.arrive_in_line(wish)? };
        Ok(Place { gate: self.clone(), wish, waits })
    }

    #[cold]
    fn arrive_in_line(&self, wish: Wish) -> Result<Option<PlaceId>, QueueFull> {
        self.change(|places, woken| {
            self.counts.begin_to_wait();
            let now = time::now();
            // Whoever gave a place back without the lock may not have come to look yet.
            grant(places, now, woken);
            places.arrive(wish, now, None)
        })
    }

    fn give_back(&self, wish: Wish) {
        // While somebody waits, under the lock: then the line is looked through when all three scopes have it again.
        if self.counts.is_waited_for() {
            self.change(|_, _| self.counts.give_back(wish));
        } else if self.counts.give_back(wish) {
            self.change(|_, _| ());
        }
    }

    /// New limits; whoever fits now is let in, whoever holds a place keeps it.
    pub fn resize(&self, limit: usize, queue: QueueLimits, scopes: &[(Scope, Option<usize>)]) {
        self.change(|places, _| {
            places.resize(limit, queue);
            for (scope, limit) in scopes {
                places.resize_scope(*scope, *limit);
            }
        });
    }

    #[must_use]
    pub fn waiting(&self) -> usize {
        self.places.lock().waiting()
    }

    /// Places that there may be in all.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.counts.limit()
    }

    /// Places that there may be in one scope.
    #[must_use]
    pub fn limit_of(&self, scope: Scope) -> usize {
        self.counts.limit_of(scope)
    }

    /// Places held now.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.counts.in_use()
    }

    /// Places held in each of these scopes of routes, but for those that were granted and not noticed yet.
    #[must_use]
    pub fn taken_in(&self, routes: &[Scope]) -> Vec<usize> {
        let places = self.places.lock();
        let mut taken: Vec<usize> = routes.iter().map(|scope| self.counts.in_use_of(*scope)).collect();
        for route in places.unnoticed() {
            if let Some(place) = routes.iter().position(|scope| *scope == route) {
                taken[place] = taken[place].saturating_sub(1);
            }
        }
        taken
    }

    /// Since when the one waits that has waited longest.
    #[must_use]
    pub fn oldest_wait(&self) -> Option<Instant> {
        self.places.lock().oldest_wait()
    }

    /// Applies `change`, and wakes those whom it names and all who are granted a place by it.
    fn change<T>(&self, change: impl FnOnce(&mut Places<Option<Waker>>, &mut Vec<Waker>) -> T) -> T {
        let mut woken = Vec::new();
        let mut places = self.places.lock();
        let changed = change(&mut places, &mut woken);
        if places.waiting() > 0 {
            grant(&mut places, time::now(), &mut woken);
        }
        if places.waiting() == 0 {
            self.counts.end_to_wait();
        }
        drop(places);
        woken.into_iter().for_each(Waker::wake);
        changed
    }
}

/// Grants places to all who fit.
fn grant(places: &mut Places<Option<Waker>>, now: Instant, woken: &mut Vec<Waker>) {
    while let Some(waker) = places.advance(now) {
        woken.extend(waker.take());
    }
}

/// A place in the line, and then the place itself. Dropping it gives up whichever it is.
#[derive(Debug)]
#[must_use = "dropping it gives the place back"]
pub struct Place {
    gate: Arc<Gate>,
    wish: Wish,
    /// Its entry in the line, until it has seen that it was granted the place.
    waits: Option<PlaceId>,
}

impl Place {
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.waits.is_none()
    }

    /// How many wait before this one on its route; `None` once it is granted.
    #[must_use]
    pub fn position(&self) -> Option<usize> {
        self.gate.places.lock().position(self.waits?)
    }

    /// Waits for the place.
    ///
    /// Cancel safe: the place in line is kept until `self` is dropped.
    pub async fn granted(&mut self) {
        let Some(id) = self.waits else {
            return;
        };
        poll_fn(|cx| {
            let mut places = self.gate.places.lock();
            if places.take_note(id) {
                return Poll::Ready(());
            }
            match places.get_mut(id) {
                Some(waker) => *waker = Some(cx.waker().clone()),
                None => debug_assert!(false, "a place outlived its entry"),
            }
            Poll::Pending
        })
        .await;
        self.waits = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match self.waits {
            None => self.gate.give_back(self.wish),
            Some(id) => {
                self.gate.change(|places, _| places.leave(id));
            }
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::limit::places::FairKey;
    use futures_util::FutureExt;

    #[test]
    fn a_place_passes_on_when_it_is_dropped_also_if_its_grant_was_never_seen() {
        let gate = Arc::new(Gate::new(1, QueueLimits { all: 9, share: 9 }));
        let wish =
            Wish { route: gate.add_scope(None), upstream: gate.add_scope(None), class: 1, key: FairKey::default() };
        let a = gate.arrive(wish).expect("room");
        let b = gate.arrive(wish).expect("room");
        let mut c = gate.arrive(wish).expect("room");
        assert!(a.is_granted());
        assert_eq!(c.granted().now_or_never(), None);
        drop(a);
        drop(b);
        assert_eq!(c.granted().now_or_never(), Some(()));
        drop(c);
        assert_eq!((gate.in_use(), gate.waiting()), (0, 0));
    }
}
