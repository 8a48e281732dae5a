//! The line that each request has in the log, where that is asked for.

use serde_json::Value;

use crate::harness::gateway::Started;
use crate::harness::{Gateway, Recorder, eventually, get, post};

const POLICY: &str = "routes:
  - name: runs
    match: { path_prefix: / }
    session: { key: [{ header: X-Session-Id }], queue: 1 }
";

/// The lines of requests that have ended.
fn lines(gateway: &Gateway) -> Vec<Value> {
    let lines = gateway.log().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>();
    lines.into_iter().filter(|line| line["message"] == "request").collect()
}

fn telling(agent: &Recorder, which: &str) -> Gateway {
    Gateway::started(agent, POLICY, &Started::with(&["--log-requests", which], &[]))
}

#[test]
fn every_request_has_one_line_with_how_it_went() {
    let agent = Recorder::start();
    let gateway = telling(&agent, "all");
    let ask = |what: &str, id: &str| {
        post("/secret-path", "secret-body").session("secret-key").making(what).header("x-request-id", id)
    };
    let mut first = gateway.begin(&ask("hold", "one"));
    agent.wait_running(1);
    let mut second = gateway.begin(&ask("body 7", "two"));
    gateway.wait_for_turn(1);
    gateway.ask(&ask("body 1", "three")).assert_problem(429, "session_queue_full");
    agent.release();
    first.response().assert_ok();
    second.response().assert_ok();
    let left = gateway.begin(&get("/").making("hold").header("x-request-id", "four"));
    agent.wait_running(1);
    left.leave();
    eventually("all lines are there", || lines(&gateway).len() == 4);
    agent.release();

    let lines = lines(&gateway);
    let of = |id: &str| lines.iter().find(|line| line["request_id"] == id).expect(id);
    let (one, two, three, four) = (of("one"), of("two"), of("three"), of("four"));
    assert_eq!((&one["status"], &one["ended_by"], &one["route"]), (&200.into(), &"upstream".into(), &"runs".into()));
    assert_eq!((&one["method"], &one["server"]), (&"POST".into(), &agent.url().into()));
    assert_eq!((&one["bytes_received"], &two["bytes_sent"]), (&11.into(), &7.into()));
    assert_eq!(one["turn_ms"], Value::Null);
    assert!(two["turn_ms"].as_f64().is_some_and(|waited| waited > 0.0), "{two}");
    assert!(two["total_ms"].as_f64() >= two["turn_ms"].as_f64(), "{two}");
    assert_eq!((&three["status"], &three["reason"]), (&429.into(), &"session_queue_full".into()));
    assert_eq!(three["ended_by"], "gateway");
    assert_eq!((&four["status"], &four["ended_by"]), (&499.into(), &"client".into()));
    // The same digest for the same session, as the documentation says; and nothing that may be secret.
    let digest = "85dbe15d75ef9308";
    assert_eq!((&one["session"], &two["session"], &four["session"]), (&digest.into(), &digest.into(), &Value::Null));
    assert!(!gateway.log().contains("secret"), "{}", gateway.log());
}

#[test]
fn what_the_gateway_says_itself_is_told_as_its_own() {
    let agent = Recorder::start();
    let policy = format!("background: {{}}\n{POLICY}    background: prefer\n");
    let gateway = Gateway::started(&agent, &policy, &Started::with(&["--log-requests", "all"], &[]));
    let accepted = gateway.ask(&post("/", "later").header("prefer", "respond-async"));
    assert_eq!(accepted.status, 202);
    let status = gateway.ask(&get(&accepted.header("location").expect("where the job is")));
    assert_eq!(status.status, 200);
    eventually("both are told", || lines(&gateway).len() >= 2);
    for line in lines(&gateway).iter().take(2) {
        assert_eq!((&line["ended_by"], &line["reason"]), (&"gateway".into(), &Value::Null), "{line}");
    }
}

#[test]
fn problems_alone_are_told_where_that_is_wanted() {
    let agent = Recorder::start();
    let gateway = telling(&agent, "problems");
    gateway.ask(&get("/").header("x-request-id", "fine")).assert_ok();
    assert_eq!(gateway.ask(&get("/").making("status 404").header("x-request-id", "missing")).status, 404);
    eventually("the problem is told", || !lines(&gateway).is_empty());
    let lines = lines(&gateway);
    assert_eq!(lines.iter().map(|line| &line["request_id"]).collect::<Vec<_>>(), ["missing"]);
}

#[test]
fn nothing_is_told_unless_somebody_asks() {
    let agent = Recorder::start();
    let gateway = Gateway::before(&agent);
    gateway.ask(&get("/").making("status 500"));
    gateway.ask(&get("/")).assert_ok();
    assert!(lines(&gateway).is_empty(), "{}", gateway.log());
}
