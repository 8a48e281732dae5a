use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Gateway, Recorder, eventually, post};

const ROUNDS: usize = 20;

/// With one try only: a kept connection that turns out to be closed must not count as one.
const ONE_TRY: &str = "server: { workers: 1 }
upstreams: { agents: { servers: [\"{upstream}\"], retry: { attempts: 1, on: [connect] } } }
";

/// Whether all its threads have come to a stop. Linux tells it in the field after a thread's name, with `T`.
fn is_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
    threads.map(|thread| thread.expect("an entry").path().join("stat")).all(|stat| {
        // One that has ended meanwhile does nothing either.
        let stat = std::fs::read_to_string(stat).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with('T'))
    })
}

#[test]
fn a_kept_connection_that_its_server_closes_in_the_moment_of_its_use_costs_nothing() {
    let closed = Arc::new(AtomicUsize::new(0));
    let closing = Arc::clone(&closed);
    let upstream = Recorder::doing(move |exchange| {
        exchange.read_body();
        exchange.finish("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        exchange.hold();
        exchange.close();
        closing.fetch_add(1, Ordering::SeqCst);
    });
    let gateway = Gateway::with(&upstream, ONE_TRY);
    let mut connection = gateway.connect();
    connection.ask(&post("/0", "hi")).response().assert_ok();
    for round in 1..=ROUNDS {
        // The moment: a gateway that sleeps, wakes to both at once, the request and after it the close.
        gateway.signal("STOP");
        eventually("it sleeps", || is_stopped(gateway.pid()));
        connection.ask(&post(&format!("/{round}"), "hi"));
        upstream.release();
        eventually("the server has closed", || closed.load(Ordering::SeqCst) == round);
        gateway.signal("CONT");
        connection.response().assert_ok();
    }
    assert_eq!(upstream.count(), ROUNDS + 1, "each exactly once");
    assert_eq!(gateway.metric("turnwise_upstream_errors_total", &[]), 0.0);
    upstream.open();
}
