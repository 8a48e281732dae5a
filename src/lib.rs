//! Turnwise: a reverse proxy that makes the requests to an agent API take turns.
pub mod limit;
pub mod policy;
pub mod sync;
pub mod time;
