use std::collections::HashMap;

use crate::harness::{Gateway, Recorder, get};

fn policy(servers: &[&Recorder], balance: &str) -> String {
    let urls: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.url())).collect();
    format!(
        "upstreams: {{ agents: {{ servers: [{}], balance: {balance} }} }}
routes:
  - {{ name: runs, match: {{ path_prefix: / }}, upstream: agents, session: {{ key: [{{ header: X-Session-Id }}] }} }}
",
        urls.join(", ")
    )
}

#[test]
fn round_robin_goes_round() {
    let servers = [Recorder::start(), Recorder::start(), Recorder::start()];
    let gateway = Gateway::with(&servers[0], &policy(&[&servers[0], &servers[1], &servers[2]], "round_robin"));
    for _ in 0..30 {
        gateway.ask(&get("/")).assert_ok();
    }
    assert_eq!(servers.each_ref().map(Recorder::count), [10, 10, 10]);
}

#[test]
fn round_robin_obeys_weights() {
    let (heavy, light) = (Recorder::start(), Recorder::start());
    let yaml = format!(
        "upstreams: {{ agents: {{ servers: [{{ url: \"{}\", weight: 3 }}, {{ url: \"{}\" }}], balance: round_robin }} }}\n",
        heavy.url(),
        light.url()
    );
    let gateway = Gateway::with(&heavy, &yaml);
    for _ in 0..40 {
        gateway.ask(&get("/")).assert_ok();
    }
    assert_eq!((heavy.count(), light.count()), (30, 10));
}

#[test]
fn least_inflight_avoids_who_is_busy() {
    let servers = [Recorder::start(), Recorder::start()];
    let gateway = Gateway::with(&servers[0], &policy(&[&servers[0], &servers[1]], "least_inflight"));
    let mut held: Vec<_> = (0..8)
        .map(|place| {
            let connection = gateway.begin(&get("/").making("hold"));
            crate::harness::eventually("it has begun", || servers.iter().map(Recorder::count).sum::<usize>() > place);
            connection
        })
        .collect();
    assert_eq!(servers.each_ref().map(Recorder::running), [4, 4]);
    for server in &servers {
        server.open();
    }
    for connection in &mut held {
        connection.response().assert_ok();
    }
}

#[test]
fn a_session_stays_at_its_server_and_sessions_spread() {
    let servers = [Recorder::start(), Recorder::start(), Recorder::start()];
    let gateway = Gateway::with(&servers[0], &policy(&[&servers[0], &servers[1], &servers[2]], "session"));
    let mut connection = gateway.connect();
    for _ in 0..3 {
        for session in 0..60 {
            connection.ask(&get("/").session(&format!("s{session}"))).response().assert_ok();
        }
    }
    let mut homes: HashMap<String, Vec<usize>> = HashMap::new();
    for (place, server) in servers.iter().enumerate() {
        assert!(server.count() >= 3 * 5, "server {place} got only {} of 180", server.count());
        for seen in server.seen() {
            homes.entry(seen.session()).or_default().push(place);
        }
    }
    assert!(homes.values().all(|places| places.len() == 3 && places.iter().all(|place| place == &places[0])));

    // One server goes: only its sessions move.
    servers[2].stop_listening();
    let before: Vec<usize> = servers.iter().map(Recorder::count).collect();
    for (session, places) in homes.iter().filter(|(_, places)| places[0] != 2) {
        connection.ask(&get("/").session(session)).response().assert_ok();
        let seen = servers[places[0]].seen();
        assert!(seen.last().is_some_and(|seen| &seen.session() == session), "{session} moved");
    }
    assert_eq!(servers[2].count(), before[2]);
}
