use crate::harness::{Connection, Gateway, Recorder, Request, get, request};

const POLICY: &str = "routes:
  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ header: X-Session-Id }] } }
";

/// One that runs and `waiting` that wait.
#[track_caller]
fn busy(gateway: &Gateway, upstream: &Recorder, session: &str, waiting: u64, before: u64) -> Vec<Connection> {
    let ask = |place: u64| -> Request { get(&format!("/{session}/{place}")).session(session).making("hold") };
    let running = upstream.count();
    let mut all = vec![gateway.begin(&ask(0))];
    upstream.wait_seen(running + 1);
    for place in 1..=waiting {
        all.push(gateway.begin(&ask(place)));
        gateway.wait_for_turn(before + place);
    }
    all
}

#[test]
fn the_list_tells_who_waits_most_and_who_is_oldest() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, POLICY);
    let mut all = busy(&gateway, &upstream, "old", 1, 0);
    all.extend(busy(&gateway, &upstream, "long", 3, 1));
    all.extend(busy(&gateway, &upstream, "idle", 0, 4));
    let list = gateway.json("/sessions?sort=waiting&limit=2");
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    assert_eq!(list.len(), 2);
    assert_eq!((&list[0]["key"], &list[1]["key"]), (&"long".into(), &"old".into()));
    assert_eq!((&list[0]["running"], &list[0]["waiting"]), (&1.into(), &3.into()));
    assert_eq!(list[0]["route"], "runs");
    assert!(list[0]["oldest_wait_seconds"].as_f64() > Some(0.0), "{list:?}");
    assert!(list[0]["running_seconds"].as_f64() > Some(0.0), "{list:?}");
    let list = gateway.json("/sessions?sort=age");
    assert_eq!(list.as_array().map(Vec::len), Some(3));
    assert_eq!(list[0]["key"], "old", "{list}");
    upstream.open();
    for connection in &mut all {
        connection.response().assert_ok();
    }
    gateway.assert_all_gauges_zero();
    assert_eq!(gateway.json("/sessions"), serde_json::json!([]));
}

#[test]
fn one_session_tells_each_request_and_what_it_waits_for() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &format!("limits: {{ concurrency: 1 }}\n{POLICY}"));
    let mut all = busy(&gateway, &upstream, "a", 2, 0);
    all.push(gateway.begin(&get("/b").session("b")));
    gateway.wait_for_place(1);
    let session = gateway.json("/sessions/a").to_string();
    assert_eq!(session.matches("\"waiting_for\":\"turn\"").count(), 2, "{session}");
    assert_eq!(session.matches("\"id\":").count(), 3, "{session}");
    assert_eq!(session.matches("\"state\":\"running\"").count(), 1, "{session}");
    assert_eq!(session.matches("\"state\":\"waiting\"").count(), 2, "{session}");
    assert!(session.contains("\"position\":1") && session.contains("\"position\":2"), "{session}");
    let other = gateway.json("/sessions/b").to_string();
    assert!(other.contains("\"waiting_for\":\"place\""), "{other}");
    assert_eq!(gateway.admin(&get("/sessions/nobody")).status, 404);
    upstream.open();
    for connection in &mut all {
        connection.response().assert_ok();
    }
}

#[test]
fn deleting_ends_who_waits_and_with_running_also_who_runs() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, POLICY);
    let mut all = busy(&gateway, &upstream, "a", 2, 0);
    let answer = gateway.admin(&request("DELETE", "/sessions/a"));
    assert!((200..300).contains(&answer.status), "{}", answer.text());
    for waiting in &mut all[1..] {
        let ended = waiting.response();
        ended.assert_problem(409, "interrupted");
        assert_eq!(ended.header("x-should-retry").as_deref(), Some("false"));
    }
    assert_eq!(upstream.running(), 1);
    let answer = gateway.admin(&request("DELETE", "/sessions/a?running=true"));
    assert!((200..300).contains(&answer.status), "{}", answer.text());
    all[0].response().assert_problem(409, "interrupted");
    gateway.ask(&get("/after").session("a")).assert_ok();
    upstream.open();
    assert_eq!(upstream.targets(), ["/a/0", "/after"]);
}

#[test]
fn a_key_with_odd_signs_can_be_asked_for_escaped() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, POLICY);
    let mut running = gateway.begin(&get("/").session("a b/c?d").making("hold"));
    upstream.wait_seen(1);
    let session = gateway.json("/sessions/a%20b%2Fc%3Fd").to_string();
    assert!(session.contains("\"state\":\"running\""), "{session}");
    upstream.open();
    running.response().assert_ok();
}

#[test]
fn whoever_has_finished_sending_still_hears_that_it_was_ended() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &format!("{POLICY}defaults: {{ abandoned: cancel }}\n"));
    let mut all = busy(&gateway, &upstream, "a", 1, 0);
    for connection in &mut all {
        connection.finish_sending();
    }
    crate::harness::wait::give_it_a_chance();
    assert_eq!(gateway.admin(&request("DELETE", "/sessions/a?running=true")).status, 200);
    for connection in &mut all {
        connection.response().assert_problem(409, "interrupted");
    }
    upstream.open();
}
