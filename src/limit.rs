//! Mechanisms that decide who may go on, and nothing else: no HTTP, no YAML, no metrics.
//!
//! Each has a pure heart (a value that takes events and returns decisions, without clock, lock or task) and, where
//! requests wait, a thin async shell around it:
//!
//! | heart | shell | decides |
//! |---|---|---|
//! | [`lane::Lane`] | [`lanes::Lanes`] | whose turn it is, per key, first come first served |
//! | [`places::Places`], [`places::counts::Counts`] | [`gate::Gate`] | who gets the next free place, across routes and upstreams |
//! | [`rate::RateTable`] | | whether a token is there (GCRA, by governor) |
//! | [`held_bytes::HeldBytes`] | | whether one more body may be held in memory |
//! | [`joining::Joining`] | | whose answer equal requests share, and who reads how far |
//! | [`keys::KeyBudget`] | | whether one more key may be remembered |
//!
//! Invariant: what was granted is given back exactly once, by the guard's drop, whichever way the request ends. A
//! grant that crosses the waiter's departure is found by the same drop, under the same lock, and passed on.

pub mod gate;
pub mod held_bytes;
pub mod joining;
pub mod keys;
pub mod lane;
pub mod lanes;
pub mod places;
pub mod rate;
