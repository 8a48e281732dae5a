//! How many bytes of request bodies may be held for requests that wait, in all and for one fairness key.

use std::collections::HashMap;

use crate::limit::places::FairKey;
use crate::sync::{Arc, Mutex};

/// The budget of held bodies.
#[derive(Debug)]
pub struct HeldBytes {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    total: u64,
    limit: u64,
    /// The most that one fairness key may hold.
    share: u64,
    by_key: HashMap<FairKey, u64>,
}

/// Holding that much more would exceed the limit or the key's share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BytesRefused {
    Limit,
    Share,
}

impl HeldBytes {
    #[must_use]
    pub fn new(limit: u64, share: u64) -> Self {
        Self { state: Mutex::new(State { total: 0, limit, share, by_key: HashMap::new() }) }
    }

    /// Begins a reservation of nothing; grow it as the body comes in.
    #[must_use]
    pub fn begin(self: &Arc<Self>, key: FairKey) -> HeldBody {
        HeldBody { held: self.clone(), key, bytes: 0 }
    }

    /// New limits hold for what comes; what is held stays.
    pub fn resize(&self, limit: u64, share: u64) {
        let mut state = self.state.lock();
        state.limit = limit;
        state.share = share;
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.state.lock().total
    }
}

/// Bytes that one request holds; dropping it gives them back.
#[derive(Debug)]
pub struct HeldBody {
    held: Arc<HeldBytes>,
    key: FairKey,
    bytes: u64,
}

impl HeldBody {
    /// Holds `more` bytes.
    ///
    /// # Errors
    /// [`BytesRefused`] names the limit that is reached; the reservation is unchanged.
    pub fn grow(&mut self, more: u64) -> Result<(), BytesRefused> {
        if more == 0 {
            return Ok(());
        }
        let mut state = self.held.state.lock();
        if state.total.saturating_add(more) > state.limit {
            return Err(BytesRefused::Limit);
        }
        let share = state.share;
        let of_key = state.by_key.entry(self.key).or_default();
        if of_key.saturating_add(more) > share {
            if *of_key == 0 {
                state.by_key.remove(&self.key);
            }
            return Err(BytesRefused::Share);
        }
        *of_key += more;
        state.total += more;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for HeldBody {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut state = self.held.state.lock();
        state.total -= self.bytes;
        if let Some(of_key) = state.by_key.get_mut(&self.key) {
            *of_key -= self.bytes;
            if *of_key == 0 {
                state.by_key.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_and_share_hold_and_everything_comes_back() {
        let held = Arc::new(HeldBytes::new(100, 60));
        let (mut a, mut b) = (held.begin(FairKey(1)), held.begin(FairKey(2)));
        assert_eq!(a.grow(60), Ok(()));
        assert_eq!(a.grow(1), Err(BytesRefused::Share));
        assert_eq!(b.grow(41), Err(BytesRefused::Limit));
        assert_eq!(b.grow(40), Ok(()));
        drop(a);
        assert_eq!(b.grow(20), Ok(()));
        drop(b);
        assert_eq!(held.total(), 0);
        assert!(held.state.lock().by_key.is_empty());
    }
}
