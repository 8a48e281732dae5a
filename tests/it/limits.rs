//! No more at once than allowed, as the upstream counts it, and no less while there is work.

mod connections;
mod descriptors;
mod exempt;
mod fair;
mod fully_used;
mod never_exceeded;
mod priorities;
mod queue_bytes;
mod queue_full;
mod queue_share;
mod queue_timeout;
mod remembered_keys;
mod tiny_chunks;
mod waiting_turns;

use crate::harness::{Connection, Gateway, Request};

/// Sends all of them, each on its own connection, and each after the one before was seen waiting for a place.
#[track_caller]
fn in_line(gateway: &Gateway, already: u64, requests: &[Request]) -> Vec<Connection> {
    let mut line = Vec::new();
    for (place, request) in (1..).zip(requests) {
        line.push(gateway.begin(request));
        gateway.wait_for_place(already + place);
    }
    line
}
