use crate::harness::{Gateway, Recorder, get};

#[test]
fn it_is_true_while_requests_wait_and_run() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "limits: { concurrency: 2 }
routes:
  - { name: runs, match: { path_prefix: /runs }, upstream: agents, session: { key: [{ header: X-Session-Id }] } }
  - { name: rest, match: { path_prefix: / }, upstream: agents }
",
    );
    let mut all = vec![gateway.begin(&get("/runs").session("a").making("hold"))];
    upstream.wait_seen(1);
    all.push(gateway.begin(&get("/runs").session("a").making("hold")));
    gateway.wait_for_turn(1);
    all.push(gateway.begin(&get("/x").making("hold")));
    upstream.wait_seen(2);
    all.push(gateway.begin(&get("/x").making("hold")));
    gateway.wait_for_place(1);
    let status = gateway.json("/status");
    assert_eq!(status["limits"]["concurrency"], 2, "{status}");
    assert_eq!(status["limits"]["in_flight"], 2, "{status}");
    assert_eq!(status["limits"]["waiting"], 1, "{status}");
    assert_eq!(status["sessions"]["waiting"], 1, "{status}");
    assert!(status["sessions"]["active"].as_u64() >= Some(1), "{status}");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(status["uptime_seconds"].as_f64() >= Some(0.0), "{status}");
    assert!(status["policy"]["file"].as_str().is_some_and(|file| file.ends_with("gateway.yaml")), "{status}");
    assert!(status["policy"]["generation"].as_u64() >= Some(1), "{status}");
    assert!(!status["policy"]["loaded_at"].is_null(), "{status}");
    assert!(status["policy"]["last_error"].is_null(), "{status}");
    let names: Vec<_> = status["routes"].as_array().expect("routes").iter().map(|route| &route["name"]).collect();
    assert_eq!(names, ["runs", "rest"]);
    let upstreams = status["upstreams"].as_array().expect("upstreams");
    assert_eq!(upstreams[0]["name"], "agents", "{status}");
    assert!(upstreams[0]["servers"].to_string().contains(&upstream.url()), "{status}");
    upstream.open();
    for connection in &mut all {
        connection.response().assert_ok();
    }
}
