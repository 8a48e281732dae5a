//! Upstreams and servers by name, from one policy to the next.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::Notify;

use crate::limit::keys::KeyBudget;
use crate::limit::lanes::Lanes;
use crate::policy::{self, Policy};
use crate::sync::Mutex;
use crate::telemetry::metrics::Metrics;
use crate::tls::Outgoing;
use crate::upstream::failure::KINDS;
use crate::upstream::{Shared, Upstream, server::Server};

/// Everything that is known of the servers.
#[derive(Debug)]
pub struct Registry {
    known: Mutex<Known>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Known {
    servers: HashMap<(Arc<str>, Arc<str>), Arc<Server>>,
    shared: HashMap<Arc<str>, Arc<Shared>>,
    next_id: u64,
}

impl Registry {
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { known: Mutex::new(Known::default()), metrics }
    }

    /// The upstreams of `policy`, in its order. Servers that it still names keep their health and their load. `tls` is
    /// asked how TLS is spoken with an upstream's `https` servers.
    #[must_use]
    pub fn reconcile(
        &self,
        policy: &Policy,
        tls: impl Fn(&policy::Upstream) -> Option<Outgoing>,
    ) -> Vec<Arc<Upstream>> {
        let mut known = self.known.lock();
        let mut servers = HashMap::new();
        let mut shared = HashMap::new();
        let upstreams = policy.upstreams.iter().map(|upstream| {
            let outgoing = tls(upstream);
            let of_upstream = upstream.servers.iter().map(|server| {
                let name = (upstream.name.clone(), server.url.clone());
                let state = known.server(&name, server);
                state.configure(server.weight, server.concurrency);
                state.speak(outgoing.as_ref().filter(|_| server.https), || known.next_id());
                if upstream.health.is_none() {
                    state.unchecked();
                }
                servers.insert(name, state.clone());
                state
            });
            let of_upstream = of_upstream.collect();
            let state = known.shared.get(&upstream.name).cloned().unwrap_or_else(|| Arc::new(Shared::new()));
            shared.insert(upstream.name.clone(), state.clone());
            // A slot may be free under the new limits.
            state.slot_came_back.notify_waiters();
            let metrics = self.metrics.upstream(&upstream.name);
            metrics.show(&KINDS, upstream.servers.iter().map(|server| &*server.url));
            Arc::new(Upstream {
                policy: upstream.clone(),
                servers: of_upstream,
                metrics: Arc::new(metrics),
                shared: state,
            })
        });
        let upstreams = upstreams.collect();
        // One that still has requests would, if it came back, begin to count them from nothing.
        let busy = known.servers.iter().filter(|(_, server)| server.in_flight() > 0);
        let busy: Vec<_> = busy.map(|(name, server)| (name.clone(), server.clone())).collect();
        for name in known.servers.keys().filter(|name| !servers.contains_key(*name)) {
            let _ = self.metrics.upstream_healthy.remove_label_values(&[&name.0, &name.1]);
        }
        for name in known.shared.keys().filter(|name| !shared.contains_key(*name)) {
            for state in ["active", "idle"] {
                let _ = self.metrics.upstream_connections.remove_label_values(&[name, state]);
            }
        }
        for (name, server) in busy {
            servers.entry(name).or_insert(server);
        }
        known.servers = servers;
        known.shared = shared;
        upstreams
    }
}

impl Known {
    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn server(&mut self, name: &(Arc<str>, Arc<str>), policy: &policy::UpstreamServer) -> Arc<Server> {
        if let Some(server) = self.servers.get(name) {
            return server.clone();
        }
        Arc::new(Server::new(self.next_id(), policy.url.clone(), policy.host.clone(), policy.port))
    }
}

impl Shared {
    fn new() -> Self {
        // A line for the upstream and one for each server: bounded by the policy, not by a budget.
        let lines = Arc::new(Lanes::new(Arc::new(KeyBudget::new(usize::MAX))));
        Self { round: AtomicUsize::new(0), slot_came_back: Notify::new(), lines, in_line: AtomicUsize::new(0) }
    }
}
