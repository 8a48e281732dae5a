//! The roll of all requests that are here: what gauges and lists are read from, and what a leak would show in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use slab::Slab;

use crate::request::exchange::Exchange;
use crate::sync::Mutex;

const SHARDS: usize = 64;

/// A shard that has held more than that is made anew when it is empty.
const KEPT_CAPACITY: usize = 1024;

/// Lines of the threads with one number. An allocation of its own, so that threads share no cache line of it either.
type Shard = Mutex<Slab<Arc<Exchange>>>;

/// Every exchange from its arrival to its end.
#[derive(Debug)]
pub struct Roll {
    shards: [Arc<Shard>; SHARDS],
}

impl Default for Roll {
    fn default() -> Self {
        Self::new()
    }
}

/// The shard of the thread that calls: threads are numbered as they come, so two workers share one only where there are
/// more of them than shards.
fn own_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    OWN.with(|own| *own)
}

impl Roll {
    #[must_use]
    pub fn new() -> Self {
        Self { shards: std::array::from_fn(|_| Arc::new(Mutex::new(Slab::new()))) }
    }

    /// Enters `exchange` until the entry is dropped, on whichever thread.
    pub fn enter(&self, exchange: Arc<Exchange>) -> RollEntry {
        let shard = self.shards[own_shard()].clone();
        let line = shard.lock().insert(exchange);
        RollEntry { shard, line }
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
    shard: Arc<Shard>,
    line: usize,
}

impl Drop for RollEntry {
    fn drop(&mut self) {
        let mut shard = self.shard.lock();
        shard.remove(self.line);
        if shard.is_empty() && shard.capacity() > KEPT_CAPACITY {
            *shard = Slab::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::RequestId;
    use std::net::Ipv4Addr;

    fn exchange() -> Arc<Exchange> {
        let id = RequestId::of(&http::HeaderMap::new());
        Arc::new(Exchange::new(id, "route".into(), http::Method::GET, Ipv4Addr::LOCALHOST.into()))
    }

    #[test]
    fn a_line_is_struck_out_by_whichever_thread_drops_it() {
        let roll = Roll::new();
        let (here, there) = (roll.enter(exchange()), roll.enter(exchange()));
        let elsewhere = std::thread::scope(|scope| scope.spawn(|| roll.enter(exchange())).join().expect("no panic"));
        assert_eq!(roll.len(), 3);
        std::thread::spawn(move || drop(there)).join().expect("no panic");
        drop(elsewhere);
        let mut seen = 0;
        roll.for_each(|_| seen += 1);
        assert_eq!((seen, roll.len()), (1, 1));
        drop(here);
        assert!(roll.is_empty());
    }
}
