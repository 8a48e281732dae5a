use crate::harness::{Connection, Gateway, Recorder, eventually, get, post};

const POLICY: &str = "limits: { concurrency: 2 }
defaults:
  session: { key: [{ header: X-Session-Id }], when_busy_choices: [reject, replace, interrupt, wait] }
routes:
  - { name: joins, match: { path: /joins }, upstream: agents, session: { duplicates: join, replay_for: 10s } }
  - { name: nests, match: { path_prefix: /nests }, upstream: agents, session: { reentrant: true } }
  - { name: speaks, match: { path: /speaks }, upstream: agents, session: { while_waiting: comments, lane: runs } }
  - { name: runs, upstream: agents, session: { lane: runs } }
";

#[test]
fn one_that_is_interrupted_is_told_not_to_come_back_and_its_connection_is_closed() {
    let upstream = Recorder::doing(|exchange| {
        exchange.read_body();
        if exchange.head.word(1) == "/old" {
            // It works until it is hung up on.
            exchange.client_leaves();
            exchange.done();
        } else {
            exchange.obey();
        }
    });
    let gateway = Gateway::with(&upstream, POLICY);
    let mut old = gateway.begin(&get("/old").session("s"));
    upstream.wait_seen(1);
    let newer = gateway.ask(&get("/new").session("s").header("Turnwise-When-Busy", "interrupt"));
    newer.assert_ok();
    let ended = old.response();
    ended.assert_problem(409, "interrupted");
    assert_eq!(ended.header("x-should-retry").as_deref(), Some("false"));
    assert_eq!(upstream.targets(), ["/old", "/new"]);
    assert_eq!(gateway.metric("turnwise_interrupted_total", &[("by", "interrupt")]), 1.0);
    gateway.assert_all_gauges_zero();
}

#[test]
fn rejecting_and_replacing_leave_the_one_that_runs_alone() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, POLICY);
    let mut running = gateway.begin(&get("/1").session("s").making("hold"));
    upstream.wait_seen(1);
    let mut waits = gateway.begin(&get("/2").session("s"));
    gateway.wait_for_turn(1);
    let rejected = gateway.ask(&get("/3").session("s").header("Turnwise-When-Busy", "reject"));
    rejected.assert_problem(409, "session_busy");
    let mut replaces = gateway.begin(&get("/4").session("s").header("Turnwise-When-Busy", "replace"));
    waits.response().assert_problem(409, "interrupted");
    gateway.ask(&get("/5").session("s").header("Turnwise-When-Busy", "leave")).assert_problem(400, "bad_request");
    upstream.open();
    running.response().assert_ok();
    replaces.response().assert_ok();
    assert_eq!(upstream.targets(), ["/1", "/4"]);
    assert!(upstream.seen().iter().all(|seen| seen.header("turnwise-when-busy").is_none()));
    gateway.assert_all_gauges_zero();
}

#[test]
fn equal_requests_run_once_and_the_session_shows_who_joined() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, POLICY);
    let ask = |key: &str| post("/joins", "{}").session("s").header("Idempotency-Key", key).making("hold");
    let mut first = gateway.begin(&ask("\"k\""));
    upstream.wait_seen(1);
    let mut second = gateway.begin(&ask("k").header("X-Request-Id", "second"));
    eventually("it has joined", || gateway.metric("turnwise_joined_total", &[("route", "joins")]) == 1.0);
    let session = gateway.json("/sessions/s");
    let requests = session["requests"].as_array().expect("a list");
    let joined = requests.iter().find(|one| one["id"] == "second").unwrap_or_else(|| panic!("{session}"));
    assert_eq!((&joined["state"], &joined["joined_to"]), (&"joined".into(), &requests[0]["id"]));
    assert_eq!(requests.len(), 2, "{session}");
    upstream.open();
    let (first, second) = (first.response(), second.response());
    first.assert_ok();
    second.assert_ok();
    assert_eq!((first.header("turnwise-joined"), second.header("turnwise-joined")), (None, Some("true".into())));
    let replayed = gateway.ask(&ask("k"));
    replayed.assert_ok();
    assert_eq!(replayed.header("turnwise-joined").as_deref(), Some("true"));
    gateway
        .ask(&post("/joins", "[]").session("s").header("Idempotency-Key", "k"))
        .assert_problem(422, "idempotency_mismatch");
    assert_eq!(upstream.count(), 1);
    gateway.assert_all_gauges_zero();
}

#[test]
fn a_nested_request_runs_inside_its_turn_and_the_session_shows_in_whose() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &POLICY.replace("concurrency: 2", "concurrency: 1"));
    let mut outer = gateway.begin(&get("/nests/outer").session("s").header("X-Request-Id", "outer").making("hold"));
    upstream.wait_seen(1);
    let token = upstream.only().header("turnwise-turn").expect("a token");
    let nested = |target: &str| get(target).session("s").header("Turnwise-Turn", &token);
    gateway.ask(&nested("/nests/inner")).assert_ok();
    let mut held = gateway.begin(&nested("/nests/held").making("hold"));
    upstream.wait_seen(3);
    let session = gateway.json("/sessions/s");
    let inner = session["requests"].as_array().and_then(|all| all.iter().find(|one| one["nested_in"] == "outer"));
    assert!(inner.is_some_and(|one| one["state"] == "running"), "{session}");
    assert_ne!(upstream.seen()[1].header("turnwise-turn"), Some(token));
    upstream.open();
    outer.response().assert_ok();
    held.response().assert_ok();
    assert_eq!(gateway.metric("turnwise_nested_total", &[("route", "nests")]), 2.0);
    gateway.assert_all_gauges_zero();
}

#[test]
fn one_that_waits_aloud_hears_of_it_and_then_gets_its_events() {
    let upstream = Recorder::doing(|exchange| {
        exchange.read_body();
        if exchange.head.word(1) == "/speaks" {
            exchange
                .write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n");
            exchange.finish("data: 2\n\n");
            exchange.close();
        } else {
            exchange.obey();
        }
    });
    let gateway = Gateway::with(&upstream, POLICY);
    let mut running = gateway.begin(&get("/1").session("s").making("hold"));
    upstream.wait_seen(1);
    let mut waits = gateway.begin(&get("/speaks").session("s").header("Accept", "text/event-stream"));
    let head = waits.until(": waiting, position 1\n\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("content-type: text/event-stream\r\n"), "{head}");
    upstream.open();
    let rest = waits.until("0\r\n\r\n");
    assert!(rest.contains("data: 1\n\n") && rest.contains("data: 2\n\n"), "{rest}");
    running.response().assert_ok();
    gateway.assert_all_gauges_zero();
}

#[test]
fn those_who_share_an_answer_or_hear_how_they_wait_are_missed_when_they_leave_also_behind_octets_that_nobody_reads() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &POLICY.replace("limits: { concurrency: 2 }", "limits: { concurrency: 1 }"));
    let mut running = gateway.begin(&get("/1").session("s").making("hold"));
    upstream.wait_seen(1);
    let mut waiting = Vec::new();
    for _ in 0..2 {
        waiting.push(gateway.begin(&post("/joins", "{}").session("s")));
    }
    waiting.push(gateway.begin(&post("/speaks", "{}").session("t").header("Accept", "text/event-stream")));
    gateway.wait_for_place(2);
    waiting[2].until(": waiting");
    for connection in &mut waiting {
        connection.send("GET / HTTP/1.1\r\n");
    }
    waiting.into_iter().for_each(Connection::leave);
    gateway.wait_for_place(0);
    upstream.open();
    running.response().assert_ok();
    assert_eq!(upstream.targets(), ["/1"]);
    gateway.assert_all_gauges_zero();
}

#[test]
fn an_equal_request_that_hears_how_it_waits_asks_the_server_for_plain_events() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        &POLICY.replace("while_waiting: comments", "while_waiting: comments, duplicates: join"),
    );
    let mut running = gateway.begin(&get("/1").session("s").making("hold"));
    upstream.wait_seen(1);
    let ask = get("/speaks").session("s").header("Accept", "text/event-stream").header("Accept-Encoding", "gzip");
    let mut waits = gateway.begin(&ask);
    waits.until(": waiting, position 1");
    upstream.open();
    running.response().assert_ok();
    waits.until("event: error");
    assert_eq!(upstream.seen()[1].header("accept-encoding"), None);
}
