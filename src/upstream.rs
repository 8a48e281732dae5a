//! The servers behind the gateway: which one, over which connection, within which deadlines.
//!
//! [`Upstream::send`] takes a request and the permit that allows it, and returns the response head with a body that
//! still holds the connection and the server's slot. Everything that is learnt about a server on the way (failures in
//! a row, requests in flight) stays in [`Server`], which outlives a reload.

pub mod balance;
pub mod connect;
pub mod failure;
pub mod fields;
pub mod health;
pub mod http1;
pub mod interim;
pub mod octets;
pub mod pool;
pub mod registry;
pub mod rest;
pub mod send;
pub mod server;
pub mod upload;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::Notify;

use crate::limit::lanes::Lanes;
use crate::policy;
use crate::telemetry::metrics::UpstreamMetrics;
use server::Server;

/// An upstream of one policy, tied to the servers that outlive the policy.
#[derive(Debug)]
pub struct Upstream {
    pub policy: Arc<policy::Upstream>,
    /// In the order of the policy.
    pub servers: Vec<Arc<Server>>,
    pub metrics: Arc<UpstreamMetrics>,
    shared: Arc<Shared>,
}

/// What the requests of one upstream share, by its name, from one policy to the next.
#[derive(Debug)]
struct Shared {
    /// Where the next round begins.
    round: AtomicUsize,
    /// Told whenever a server's slot comes back.
    slot_came_back: Notify,
    /// First come, first served where all servers are at their own limits; by server where it must be that one.
    lines: Arc<Lanes<Option<u64>, ()>>,
    /// How many stand in them.
    in_line: AtomicUsize,
}

impl Upstream {
    /// Whether an answer's status may lead to another try.
    #[must_use]
    pub fn retries_statuses(&self) -> bool {
        self.policy.retry.on_429 || self.policy.retry.on_503
    }

    /// Whether any server may get requests.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.servers.iter().any(|server| server.passes_checks())
    }
}
