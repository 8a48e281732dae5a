//! One policy in force, tied to the state that outlives it.

use std::sync::Arc;

use crate::admission::RouteGates;
use crate::policy::Policy;
use crate::upstream::Upstream;
use crate::upstream::fields::KnownFields;

/// What a request is served under, from its arrival to its end.
#[derive(Debug)]
pub struct Edition {
    /// Counts the policies that have been in force, from 1.
    pub generation: u64,
    pub policy: Arc<Policy>,
    /// In the order of `policy.routes`.
    pub gates: Vec<Arc<RouteGates>>,
    /// In the order of `policy.upstreams`.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The fields that this policy or the gateway reads.
    pub known: KnownFields,
}
