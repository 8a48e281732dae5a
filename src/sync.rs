//! The locks of the wait queues, replaceable by loom's for model checking.
//!
//! parking_lot's mutex does not poison: a panic in one request must not close a lane to all others. The queues keep
//! their invariants at every point where foreign code (a waker) runs, because wakers are called after unlocking.

// loom's own `Arc` cannot be a method's receiver. Nothing is lost: it is the order of the locks that is explored.
pub use std::sync::Arc;

#[cfg(turnwise_loom)]
pub use model::Mutex;
#[cfg(not(turnwise_loom))]
pub use parking_lot::Mutex;

#[cfg(turnwise_loom)]
mod model {
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
}
