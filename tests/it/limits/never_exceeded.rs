use crate::harness::{Gateway, Recorder, get};

/// 40 clients against a limit of 4 that is kept and used to the full.
#[track_caller]
fn kept(upstream: &Recorder, gateway: &Gateway) {
    let mut all: Vec<_> = (0..40).map(|_| gateway.begin(&get("/").making("hold"))).collect();
    upstream.wait_running(4);
    gateway.wait_for_place(36);
    assert_eq!(upstream.running(), 4);
    upstream.open();
    for connection in &mut all {
        connection.response().assert_ok();
    }
    assert_eq!((upstream.peak(), upstream.count()), (4, 40));
}

#[test]
fn of_the_gateway() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 4 }\n");
    assert_eq!(gateway.metric("turnwise_concurrency_limit", &[("scope", "global")]), 4.0);
    kept(&upstream, &gateway);
}

#[test]
fn of_a_route() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "routes:\n  - { name: runs, match: { path_prefix: / }, upstream: agents, concurrency: 4 }\n",
    );
    assert_eq!(gateway.metric("turnwise_concurrency_limit", &[("scope", "route:runs")]), 4.0);
    kept(&upstream, &gateway);
}

#[test]
fn of_an_upstream() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "upstreams: { agents: { servers: [\"{upstream}\"], concurrency: 4 } }\n");
    assert_eq!(gateway.metric("turnwise_concurrency_limit", &[("scope", "upstream:agents")]), 4.0);
    kept(&upstream, &gateway);
}

#[test]
fn of_a_server() {
    let upstream = Recorder::start();
    let gateway =
        Gateway::with(&upstream, "upstreams: { agents: { servers: [{ url: \"{upstream}\", concurrency: 4 }] } }\n");
    kept(&upstream, &gateway);
}

#[test]
fn of_two_servers_each_its_own() {
    let (small, large) = (Recorder::start(), Recorder::start());
    let yaml = format!(
        "upstreams: {{ agents: {{ servers: [{{ url: \"{}\", concurrency: 1 }}, {{ url: \"{}\", concurrency: 3 }}] }} }}\n",
        small.url(),
        large.url()
    );
    let gateway = Gateway::with(&small, &yaml);
    let mut all: Vec<_> = (0..20).map(|_| gateway.begin(&get("/").making("sleep 20"))).collect();
    for connection in &mut all {
        connection.response().assert_ok();
    }
    assert_eq!((small.peak(), large.peak()), (1, 3));
}

#[test]
fn of_routes_that_share_an_upstream_together() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "upstreams: { agents: { servers: [\"{upstream}\"], concurrency: 3 } }
routes:
  - { name: a, match: { path_prefix: /a }, upstream: agents, concurrency: 2 }
  - { name: b, match: { path_prefix: /b }, upstream: agents, concurrency: 2 }
",
    );
    let mut all: Vec<_> =
        (0..40).map(|place| gateway.begin(&get(["/a", "/b"][place % 2]).making("sleep 10"))).collect();
    for connection in &mut all {
        connection.response().assert_ok();
    }
    assert_eq!(upstream.peak(), 3);
    assert_eq!(upstream.peak_of(|seen| seen.target() == "/a"), 2);
    assert_eq!(upstream.peak_of(|seen| seen.target() == "/b"), 2);
}
