use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Gateway, Recorder, get};

/// A server with health checks, which it passes as long as `well`, and which breaks off its first request if `fails`.
fn checked(well: &Arc<AtomicBool>, fails: bool) -> Recorder {
    let (well, fails) = (Arc::clone(well), AtomicBool::new(fails));
    Recorder::doing(move |exchange| match exchange.head.word(1) {
        "/health" if !well.load(Ordering::SeqCst) => {
            exchange.finish("HTTP/1.1 500 Ill\r\nContent-Length: 0\r\n\r\n");
        }
        "/health" => exchange.obey(),
        _ if fails.swap(false, Ordering::SeqCst) => exchange.close(),
        _ => exchange.obey(),
    })
}

#[test]
fn an_ejected_server_is_used_when_the_others_fail_their_checks() {
    let well = [true, true].map(|well| Arc::new(AtomicBool::new(well)));
    let (ejected, other) = (checked(&well[0], true), checked(&well[1], false));
    let yaml = format!(
        "upstreams: {{ agents: {{ servers: [\"{}\", \"{}\"], balance: round_robin, eject: {{ after_failures: 1, for: 10m }}, health: {{ path: /health, interval: 100ms, timeout: 5s, unhealthy_after: 1 }} }} }}\n",
        ejected.url(),
        other.url()
    );
    let gateway = Gateway::with(&other, &yaml);
    let healthy = |server: &Recorder| [("upstream", "agents".to_owned()), ("server", server.url())];
    let wait = |server: &Recorder, value| {
        let labels = healthy(server);
        let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
        gateway.wait_metric("turnwise_upstream_healthy", &labels, value);
    };
    wait(&ejected, 1.0);
    wait(&other, 1.0);
    let failed = (0..4).filter(|_| gateway.ask(&get("/")).status != 200).count();
    assert_eq!(failed, 1);
    wait(&ejected, 0.0);
    well[1].store(false, Ordering::SeqCst);
    wait(&other, 0.0);
    gateway.ask(&get("/last")).assert_ok();
    assert!(ejected.targets().contains(&"/last".to_owned()));
}
