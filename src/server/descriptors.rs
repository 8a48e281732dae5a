//! File descriptors: how many connections of clients the process has room for.
//!
//! A request takes up to three of them: its client's connection, a second descriptor of that while it waits with an unread
//! body, and a connection to a server. Clients beyond what there is room for wait in the system's backlog, as those beyond
//! `server.max_connections` do. Without that they would take what the connections to the servers need.

use crate::policy::Server;

/// Of a request.
const EACH: u64 = 3;
/// Listeners, the admin port, the policy file, the log, jobs.
const OWN: u64 = 24;
/// Of a worker: its event queue, what wakes it, and what it keeps of both.
const WORKER: u64 = 4;
/// Of a worker for each listener: the listener, and a connection that waits for its slot.
const LISTENING: u64 = 2;

/// Fewer connections than this are worth a warning.
const FEW: usize = 1000;

/// Raises the process's soft limit to its hard one. The soft one is low for the sake of programs that use `select`.
pub fn raise_limit() {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit of file descriptors could not be raised");
    }
}

/// How many connections may be open at once: `max_connections`, or as many as there are descriptors for.
#[must_use]
pub fn max_connections(server: &Server, listeners: usize) -> usize {
    let Ok((soft, _)) = rlimit::Resource::NOFILE.get() else { return server.max_connections };
    server.max_connections.min(room(soft, server.workers, listeners))
}

/// Says in the log that there is room for `connections` only, if these are fewer than the policy names.
pub fn tell_if_fewer(server: &Server, connections: usize) {
    let asked = server.max_connections;
    let why = "there are not enough file descriptors for server.max_connections: fewer clients are taken at once";
    if connections < asked.min(FEW) {
        tracing::warn!(max_connections = asked, connections, "{why}");
    } else if connections < asked {
        tracing::info!(max_connections = asked, connections, "{why}");
    }
}

/// At least one.
fn room(descriptors: u64, workers: usize, listeners: usize) -> usize {
    let own = OWN + workers as u64 * (WORKER + LISTENING * listeners as u64);
    usize::try_from(descriptors.saturating_sub(own) / EACH).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_room_for_its_request_and_there_is_always_room_for_one() {
        assert_eq!(room(1024, 2, 1), (1024 - 36) / 3);
        assert_eq!(room(37, 2, 1), 1);
        assert_eq!(room(0, 64, 8), 1);
        assert!(room(u64::MAX, 1, 1) > 1_000_000);
    }
}
