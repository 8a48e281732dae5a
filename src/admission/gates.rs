//! What the requests of one route go through.

use std::sync::Arc;

use crate::admission::{Pace, RateLimiter};
use crate::limit::places::Scope;
use crate::policy::Route;
use crate::telemetry::metrics::RouteMetrics;

/// A route of one policy, tied to the state that outlives the policy.
#[derive(Debug)]
pub struct RouteGates {
    pub policy: Arc<Route>,
    pub(super) scope: Scope,
    pub(super) upstream: Scope,
    pub rates: Vec<RateLimiter>,
    pub metrics: Arc<RouteMetrics>,
    pub(super) pace: Arc<Pace>,
}

impl RouteGates {
    /// Where its requests take places; nowhere if it is exempt.
    pub(super) fn scopes(&self) -> Option<(Scope, Scope)> {
        (!self.policy.exempt).then_some((self.scope, self.upstream))
    }
}
