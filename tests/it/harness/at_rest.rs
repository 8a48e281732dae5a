//! The end of every test: what a request took, it has given back.

use std::time::Duration;

use super::gateway::Gateway;
use super::wait::within;

impl Gateway {
    /// What is not at zero, although nothing should be going on.
    fn restless(&self) -> Vec<String> {
        let metrics = self.metrics();
        let mut restless = Vec::new();
        for gauge in [
            "turnwise_in_flight_requests",
            "turnwise_waiting_requests",
            "turnwise_queue_bytes",
            "turnwise_oldest_wait_seconds",
            "turnwise_oldest_in_flight_seconds",
            "turnwise_sessions_active",
        ] {
            let series = metrics.series(gauge);
            if series.is_empty() && !gauge.ends_with("_requests") {
                restless.push(format!("{gauge} is missing"));
            }
            restless.extend(
                series
                    .iter()
                    .filter(|(_, value)| *value != 0.0)
                    .map(|(labels, value)| format!("{gauge}{{{labels}}} is {value}")),
            );
        }
        let active = metrics.sum("turnwise_upstream_connections", &[("state", "active")]).unwrap_or(0.0);
        if active != 0.0 {
            restless.push(format!("{active} connections to upstreams are active"));
        }
        let status = self.json("/status");
        for (group, name) in
            [("limits", "in_flight"), ("limits", "waiting"), ("sessions", "active"), ("sessions", "waiting")]
        {
            if status[group][name] != 0 {
                restless.push(format!("/status has {group}.{name} {}", status[group][name]));
            }
        }
        restless
    }

    /// That nothing runs, waits or is held any more: what a request took, it has given back.
    #[track_caller]
    pub fn assert_all_gauges_zero(&self) {
        let mut restless = Vec::new();
        let calm = within(Duration::from_secs(10), || {
            restless = self.restless();
            restless.is_empty()
        });
        assert!(calm, "the gateway is not at rest: {restless:?}\n{}", self.log());
    }
}
