//! The roll of all requests that are here: what gauges and lists are read from, and what a leak would show in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use slab::Slab;

use crate::request::exchange::Exchange;
use crate::sync::Mutex;

const SHARDS: usize = 16;

/// Every exchange from its arrival to its end.
#[derive(Debug)]
pub struct Roll {
    shards: [Mutex<Slab<Arc<Exchange>>>; SHARDS],
    next: AtomicUsize,
}

impl Default for Roll {
    fn default() -> Self {
        Self::new()
    }
}

impl Roll {
    #[must_use]
    pub fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::new(Slab::new())), next: AtomicUsize::new(0) }
    }

    /// Enters `exchange` until the entry is dropped.
    pub fn enter(self: &Arc<Self>, exchange: Arc<Exchange>) -> RollEntry {
        let shard = self.next.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let key = self.shards[shard].lock().insert(exchange);
        RollEntry { roll: self.clone(), shard, key }
    }

    /// Shows every exchange to `visit`, one shard locked at a time.
    pub fn for_each(&self, mut visit: impl FnMut(&Arc<Exchange>)) {
        for shard in &self.shards {
            shard.lock().iter().for_each(|(_, exchange)| visit(exchange));
        }
    }

    /// How many are here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One line of the roll; dropping it strikes it out.
#[derive(Debug)]
pub struct RollEntry {
    roll: Arc<Roll>,
    shard: usize,
    key: usize,
}

impl Drop for RollEntry {
    fn drop(&mut self) {
        let mut shard = self.roll.shards[self.shard].lock();
        shard.remove(self.key);
        if shard.is_empty() && shard.capacity() > 1024 {
            *shard = Slab::new();
        }
    }
}
