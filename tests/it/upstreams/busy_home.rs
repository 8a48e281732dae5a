use crate::harness::{Gateway, Recorder, eventually, get};

#[test]
fn sessions_of_an_idle_server_do_not_wait_for_those_of_a_busy_one() {
    let servers = [Recorder::start(), Recorder::start()];
    let yaml = format!(
        "upstreams: {{ agents: {{ balance: session, servers: [{{ url: \"{}\", concurrency: 1 }}, {{ url: \"{}\", concurrency: 1 }}] }} }}
routes:
  - {{ name: runs, match: {{ path_prefix: / }}, upstream: agents, session: {{ key: [{{ header: X-Session-Id }}] }} }}
",
        servers[0].url(),
        servers[1].url()
    );
    let gateway = Gateway::with(&servers[0], &yaml);
    for session in 0..40 {
        gateway.ask(&get("/").session(&format!("s{session}"))).assert_ok();
    }
    let homes = servers.each_ref().map(|server| server.seen().iter().map(|seen| seen.session()).collect::<Vec<_>>());
    assert!(homes[0].len() >= 4 && !homes[1].is_empty(), "{homes:?}");

    // One runs at the first server, and three more would.
    let mut busy: Vec<_> =
        homes[0][..4].iter().map(|session| gateway.begin(&get("/busy").session(session).making("hold"))).collect();
    servers[0].wait_running(1);
    eventually("three wait", || gateway.json("/health")["queue_depth"] == 3);
    for session in &homes[1] {
        gateway.ask(&get("/idle").session(session)).assert_ok();
    }
    assert_eq!(servers[0].running(), 1);
    servers[0].open();
    for connection in &mut busy {
        connection.response().assert_ok();
    }
    assert_eq!(servers.each_ref().map(Recorder::peak), [1, 1]);
    assert!(servers[1].targets().iter().all(|target| target != "/busy"), "a session left its server");
}
