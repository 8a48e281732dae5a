//! The locks and atomics of the wait queues, replaceable by loom's for model checking.
//!
//! parking_lot's mutex does not poison: a panic in one request must not close a lane to all others. The queues keep
//! their invariants at every point where foreign code (a waker) runs, because wakers are called after unlocking.

// loom's own `Arc` cannot be a method's receiver. Nothing is lost: it is the order of the locks that is explored.
pub use std::sync::Arc;

/// Atomics that decide who goes on. Those that only count for somebody who looks are the standard library's.
pub mod atomic {
    #[cfg(feature = "loom")]
    pub use super::model::AtomicU64;
    #[cfg(not(feature = "loom"))]
    pub use std::sync::atomic::AtomicU64;
    pub use std::sync::atomic::Ordering;
}

#[cfg(feature = "loom")]
pub use model::Mutex;
#[cfg(not(feature = "loom"))]
pub use parking_lot::Mutex;

#[cfg(feature = "loom")]
mod model {
    use std::sync::atomic::Ordering;

    /// loom's mutex behind parking_lot's signature.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("no model panics while it holds the lock")
        }
    }

    /// An atomic whose steps follow one another in one order, as they do where all of them are `SeqCst`. loom's own
    /// stumbles over words that many threads change by compare-and-swap (an assertion of its `VersionVec` fails).
    #[derive(Debug)]
    pub struct AtomicU64(Mutex<u64>);

    impl AtomicU64 {
        pub fn new(value: u64) -> Self {
            Self(Mutex::new(value))
        }

        pub fn load(&self, order: Ordering) -> u64 {
            self.step(order, |value| value)
        }

        pub fn compare_exchange_weak(&self, old: u64, new: u64, order: Ordering, _: Ordering) -> Result<u64, u64> {
            let before = self.step(order, |value| if value == old { new } else { value });
            if before == old { Ok(before) } else { Err(before) }
        }

        pub fn fetch_sub(&self, less: u64, order: Ordering) -> u64 {
            self.step(order, |value| value - less)
        }

        pub fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
            self.step(order, |value| value | bits)
        }

        pub fn fetch_and(&self, bits: u64, order: Ordering) -> u64 {
            self.step(order, |value| value & bits)
        }

        fn step(&self, order: Ordering, change: impl FnOnce(u64) -> u64) -> u64 {
            assert_eq!(order, Ordering::SeqCst, "a weaker order has more outcomes than this shows");
            let mut value = self.0.lock();
            let before = *value;
            *value = change(before);
            before
        }
    }
}
