//! Turnwise seen from outside: the real binary, real sockets, signals and files, and an upstream that is the judge.
//!
//! `cargo test --test it turns::` runs one room, `cargo test --test it turns::order` one file of it.
//! Nothing in here knows how the gateway is built; what it may rely on is what users may rely on.
//! A test ends by itself with every gauge of the gateway at zero and the upstream idle: dropping [`harness::Gateway`]
//! and [`harness::Recorder`] asserts it.

#![allow(clippy::unwrap_used)] // a test may end with a panic

mod abandoned;
mod admin;
mod background;
mod cli;
mod drain;
mod framing;
mod harness;
mod headers;
mod limits;
mod log;
mod paths;
mod proxying;
mod rates;
mod refusals;
mod reload;
mod timeouts;
mod tls;
mod traces;
mod turns;
mod upstreams;
