use crate::harness::{Gateway, Recorder, get};

fn broken() -> Recorder {
    Recorder::doing(|exchange| {
        exchange.read_body();
        exchange.close();
    })
}

#[test]
fn a_server_that_keeps_failing_is_left_out_for_a_while() {
    let (bad, good) = (broken(), Recorder::start());
    let yaml = format!(
        "upstreams: {{ agents: {{ servers: [\"{}\", \"{}\"], balance: round_robin, eject: {{ after_failures: 2, for: 60s }} }} }}\n",
        bad.url(),
        good.url()
    );
    let gateway = Gateway::with(&good, &yaml);
    let failed = (0..20).filter(|_| gateway.ask(&get("/")).status != 200).count();
    assert_eq!((failed, bad.count()), (2, 2));
    assert_eq!(gateway.metric("turnwise_upstream_ejections_total", &[("upstream", "agents")]), 1.0);
    assert_eq!(gateway.metric("turnwise_upstream_healthy", &[("server", &bad.url())]), 0.0);
    assert_eq!(gateway.metric("turnwise_upstream_healthy", &[("server", &good.url())]), 1.0);
    assert_eq!(gateway.json("/health")["status"], "healthy", "one server is left");
}

#[test]
fn it_comes_back_after_its_time() {
    let (bad, good) = (broken(), Recorder::start());
    let yaml = format!(
        "upstreams: {{ agents: {{ servers: [\"{}\", \"{}\"], balance: round_robin, eject: {{ after_failures: 1, for: 300ms }} }} }}\n",
        bad.url(),
        good.url()
    );
    let gateway = Gateway::with(&good, &yaml);
    crate::harness::eventually("it is tried again", || {
        gateway.ask(&get("/"));
        bad.count() >= 2
    });
}

#[test]
fn the_last_server_is_never_ejected() {
    let bad = broken();
    let gateway = Gateway::with(
        &bad,
        "upstreams: { agents: { servers: [\"{upstream}\"], eject: { after_failures: 1, for: 60s } } }\n",
    );
    for _ in 0..5 {
        gateway.ask(&get("/")).assert_problem(502, "upstream_broken");
    }
    assert_eq!(bad.count(), 5);
}

#[test]
fn an_upstreams_own_errors_do_not_eject_it_as_lost_connections_do() {
    let (failing, good) = (Recorder::start(), Recorder::start());
    let yaml = format!(
        "upstreams: {{ agents: {{ servers: [\"{}\", \"{}\"], balance: round_robin, eject: {{ after_failures: 2, for: 60s }} }} }}\n",
        failing.url(),
        good.url()
    );
    let gateway = Gateway::with(&good, &yaml);
    for _ in 0..12 {
        assert_eq!(gateway.ask(&get("/").making("status 422")).status, 422);
    }
    assert_eq!((failing.count(), good.count()), (6, 6));
}
