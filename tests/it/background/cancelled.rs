use super::{accept, becomes, cancel, count, in_sessions, job, policy, result, status};
use crate::harness::{Gateway, Recorder, eventually, get};

#[test]
fn one_that_waits_never_runs() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &in_sessions(""));
    let first = accept(&gateway, &job("first", "hold").session("s"));
    upstream.wait_seen(1);
    let second = accept(&gateway, &job("second", "").session("s"));
    let third = accept(&gateway, &job("third", "").session("s"));
    let answer = gateway.ask(&cancel(&second));
    assert_eq!(answer.assert_ok().json()["status"], "cancelled");
    assert!(answer.json()["finished_at"].is_string());
    upstream.open();
    becomes(&gateway, &third, "succeeded");
    becomes(&gateway, &first, "succeeded");
    assert_eq!(upstream.targets(), ["/first", "/third"]);
    result(&gateway, &second).assert_problem(404, "no_result");
    assert_eq!(count(&gateway, "cancelled"), 1);
}

#[test]
fn one_that_runs_is_stopped_at_its_upstream_where_the_route_says_so() {
    let upstream = Recorder::doing(|exchange| {
        exchange.read_body();
        if exchange.head.word(1) == "/a" {
            exchange.client_leaves();
        } else {
            exchange.finish("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let route = ", abandoned: cancel, session: { key: [{ header: X-Session-Id }] }";
    let gateway = Gateway::with(&upstream, &policy("", route));
    let path = accept(&gateway, &job("a", "").session("s"));
    let next = accept(&gateway, &job("b", "").session("s"));
    upstream.wait_seen(1);
    assert_eq!(gateway.ask(&cancel(&path)).assert_ok().json()["status"], "cancelled");
    becomes(&gateway, &next, "succeeded");
    assert!(upstream.seen()[0].client_gone);
    assert_eq!(status(&gateway, &path)["attempts"], 1);
    gateway.wait_metric("turnwise_job_attempts_total", &[("result", "cancelled")], 1.0);
}

/// A backend does not stop because somebody has lost interest; cancelling again and again gets nobody beyond the limits.
#[test]
fn one_that_its_upstream_works_on_keeps_its_turn_and_place_until_that_has_finished() {
    for abandoned in ["auto", "finish"] {
        let upstream = Recorder::start();
        let route = format!(", abandoned: {abandoned}, session: {{ key: [{{ header: X-Session-Id }}] }}");
        let gateway = Gateway::with(&upstream, &format!("limits: {{ concurrency: 1 }}\n{}", policy("", &route)));
        let first = accept(&gateway, &job("first", "hold").session("s"));
        upstream.wait_seen(1);
        assert_eq!(gateway.ask(&cancel(&first)).assert_ok().json()["status"], "cancelled");
        let second = accept(&gateway, &job("second", "").session("s"));
        let mut other = gateway.begin(&get("/other"));
        gateway.wait_for_turn(1);
        gateway.wait_for_place(1);
        assert_eq!((upstream.count(), upstream.running()), (1, 1));
        upstream.open();
        other.response().assert_ok();
        becomes(&gateway, &second, "succeeded");
        assert_eq!((upstream.peak(), status(&gateway, &first)["status"].as_str()), (1, Some("cancelled")));
        gateway.wait_metric("turnwise_abandoned_total", &[("result", "finished")], 1.0);
    }
}

#[test]
fn one_whose_answer_comes_in_is_stopped() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    let path = accept(&gateway, &job("a", "stream 10000 20"));
    upstream.wait_seen(1);
    gateway.wait_metric("turnwise_upstream_duration_seconds_count", &[("upstream", "agents")], 1.0);
    assert_eq!(gateway.ask(&cancel(&path)).assert_ok().json()["status"], "cancelled");
    eventually("it is hung up on", || upstream.running() == 0);
    assert!(upstream.only().client_gone);
}

#[test]
fn one_that_is_to_be_tried_again_is_not() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("retry_delay: 1h", ""));
    let path = accept(&gateway, &job("a", "status 503"));
    let retrying = becomes(&gateway, &path, "retrying");
    assert_eq!((&retrying["error"], &retrying["attempts"]), (&"status_503".into(), &1.into()));
    assert_eq!(gateway.ask(&cancel(&path)).assert_ok().json()["status"], "cancelled");
    assert_eq!(upstream.count(), 1);
}

#[test]
fn one_that_waits_for_its_turn_leaves_the_line() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &in_sessions(""));
    let mut ordinary = gateway.begin(&get("/ordinary").session("s").making("hold"));
    upstream.wait_seen(1);
    let path = accept(&gateway, &job("a", "").session("s"));
    gateway.wait_for_turn(1);
    assert_eq!(gateway.ask(&cancel(&path)).assert_ok().json()["status"], "cancelled");
    gateway.wait_for_turn(0);
    upstream.open();
    ordinary.response().assert_ok();
    assert_eq!(upstream.targets(), ["/ordinary"]);
}

#[test]
fn one_that_has_ended_stays_as_it_is() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    for (what, wanted) in [("", "succeeded"), ("status 500", "failed")] {
        let path = accept(&gateway, &job("a", what));
        becomes(&gateway, &path, wanted);
        assert_eq!(gateway.ask(&cancel(&path)).assert_ok().json()["status"], wanted);
        assert!(result(&gateway, &path).status != 404);
    }
    let path = accept(&gateway, &job("a", "hold"));
    upstream.wait_seen(3);
    for _ in 0..2 {
        assert_eq!(gateway.ask(&cancel(&path)).assert_ok().json()["status"], "cancelled");
    }
    upstream.open();
}

#[test]
fn a_cancelled_job_stays_so_after_a_kill() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, &policy("workers: 1", ""));
    accept(&gateway, &job("first", "hold"));
    upstream.wait_seen(1);
    let path = accept(&gateway, &job("second", ""));
    assert_eq!(gateway.ask(&cancel(&path)).assert_ok().json()["status"], "cancelled");
    gateway.kill();
    upstream.open();
    gateway.start_again();
    assert_eq!(status(&gateway, &path)["status"], "cancelled");
    gateway.wait_metric("turnwise_jobs", &[("status", "succeeded")], 1.0);
    assert!(!upstream.targets().contains(&"/second".to_owned()));
}
