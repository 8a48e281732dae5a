//! The policy changes while the gateway runs: all or nothing, and nobody who waits or runs notices.

mod bad_policies;
mod connections_lowered;
mod restart_needed;
mod under_load;
mod waiting;
mod ways;

use crate::harness::Gateway;

fn limit(concurrency: u32) -> String {
    format!("limits: {{ concurrency: {concurrency} }}\n")
}

/// Waits until this global limit is in force.
#[track_caller]
fn in_force(gateway: &Gateway, concurrency: u32) {
    gateway.wait_metric("turnwise_concurrency_limit", &[("scope", "global")], f64::from(concurrency));
}
