//! The waiting for a place.
//!
//! One lock guards [`Places`]; it is held for one decision at a time, and wakers are called after unlocking.
//! Who may unlink: only the [`Place`] itself, by its drop, whether it was granted or not.

use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Instant;

use crate::limit::places::{PlaceId, Places, QueueFull, QueueLimits, Scope, Wish};
use crate::sync::{Arc, Mutex};
use crate::time;

/// The gate before the upstreams.
#[derive(Debug)]
pub struct Gate {
    places: Mutex<Places<Option<Waker>>>,
}

impl Gate {
    #[must_use]
    pub fn new(limit: usize, queue: QueueLimits) -> Self {
        Self { places: Mutex::new(Places::new(limit, queue)) }
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
        let (id, granted) = self.places.lock().arrive(wish, time::now(), None)?;
        Ok(Place { gate: self.clone(), id, granted })
    }

    /// New limits; whoever fits now is let in, whoever holds a place keeps it.
    pub fn resize(&self, limit: usize, queue: QueueLimits, scopes: &[(Scope, Option<usize>)]) {
        self.change(|places| {
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

    /// Places held now.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.places.lock().in_use()
    }

    /// Since when the one waits that has waited longest.
    #[must_use]
    pub fn oldest_wait(&self) -> Option<Instant> {
        self.places.lock().oldest_wait()
    }

    /// Applies `change` and wakes all who were granted a place by it.
    fn change(&self, change: impl FnOnce(&mut Places<Option<Waker>>)) {
        let mut woken = Vec::new();
        let mut places = self.places.lock();
        change(&mut places);
        if places.waiting() > 0 {
            let now = time::now();
            while let Some(waker) = places.advance(now) {
                woken.extend(waker.take());
            }
        }
        drop(places);
        woken.into_iter().for_each(Waker::wake);
    }
}

/// A place in the line, and then the place itself. Dropping it gives up whichever it is.
#[derive(Debug)]
#[must_use = "dropping it gives the place back"]
pub struct Place {
    gate: Arc<Gate>,
    id: PlaceId,
    granted: bool,
}

impl Place {
    #[must_use]
    pub fn is_granted(&self) -> bool {
        self.granted
    }

    /// How many wait before this one on its route; `None` once it is granted.
    #[must_use]
    pub fn position(&self) -> Option<usize> {
        self.gate.places.lock().position(self.id)
    }

    /// Waits for the place.
    ///
    /// Cancel safe: the place in line is kept until `self` is dropped.
    pub async fn granted(&mut self) {
        if self.granted {
            return;
        }
        poll_fn(|cx| {
            let mut places = self.gate.places.lock();
            let Some((granted, waker)) = places.get_mut(self.id) else {
                debug_assert!(false, "a place outlived its entry");
                return Poll::Pending;
            };
            if granted {
                return Poll::Ready(());
            }
            *waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        self.granted = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.change(|places| {
            places.leave(self.id);
        });
    }
}

#[cfg(all(test, not(turnwise_loom)))]
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
