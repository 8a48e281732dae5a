//! What makes a test a few lines: a gateway that is a real process, an upstream that records, a client of exact bytes.

mod at_rest;
pub mod client;
pub mod command;
mod exchange;
pub mod gateway;
pub mod http2;
pub mod metrics;
pub mod recorder;
mod recorder_itself;
pub mod tls;
pub mod wait;
pub mod wire;

pub use client::{Connection, Request, Response, get, post, request};
pub use exchange::Exchange;
pub use gateway::Gateway;
pub use recorder::Recorder;
pub use wait::eventually;
