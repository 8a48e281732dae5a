//! So many in a time: who gets a token, who waits for one, and who gets it back.

mod fields;
mod keys_are_forgotten;
mod per;
mod queue_of_one;
mod refund;
mod refund_of_too_large;
mod reload;
mod wait;

/// One route for everything with these limits.
fn limited(limits: &str) -> String {
    format!("routes:\n  - {{ name: runs, match: {{ path_prefix: / }}, upstream: agents, rate_limits: [{limits}] }}\n")
}
