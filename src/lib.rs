//! Turnwise: a reverse proxy that makes the requests to an agent API take turns.
pub mod policy;
