//! Turnwise: a reverse proxy that makes the requests to an agent API take turns.
//!
//! The modules are floors of one house: each imports only from those below it. `ARCHITECTURE.md` has the plan, and a
//! test keeps it.

pub mod admin;
pub mod admission;
pub mod background;
pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod gateway;
pub mod limit;
pub mod policy;
pub mod proxy;
pub mod request;
pub mod response;
pub mod server;
pub mod stress;
pub mod sync;
pub mod telemetry;
pub mod time;
pub mod tls;
pub mod upstream;
