use super::{accept, becomes, count, in_sessions, job, policy};
use crate::harness::{Gateway, Recorder, eventually, get};

#[test]
fn jobs_of_one_session_run_in_the_order_of_acceptance() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &in_sessions("workers: 8"));
    let paths: Vec<String> =
        (0..30).map(|number| accept(&gateway, &job(&number.to_string(), "sleep 5").session("s"))).collect();
    becomes(&gateway, &paths[29], "succeeded");
    let wanted: Vec<String> = (0..30).map(|number| format!("/{number}")).collect();
    assert_eq!(upstream.targets(), wanted);
    assert_eq!(upstream.peak(), 1);
}

#[test]
fn jobs_of_other_sessions_and_of_none_do_not_wait_for_them() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &in_sessions("workers: 3"));
    accept(&gateway, &job("a1", "hold").session("a"));
    accept(&gateway, &job("a2", "hold").session("a"));
    accept(&gateway, &job("b1", "hold").session("b"));
    accept(&gateway, &job("none", "hold"));
    accept(&gateway, &job("late", "hold"));
    upstream.wait_running(3);
    let mut targets = upstream.targets();
    targets.sort();
    assert_eq!(targets, ["/a1", "/b1", "/none"]);
    upstream.open();
    upstream.wait_seen(5);
}

#[test]
fn they_take_turns_with_the_sessions_other_requests() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &in_sessions(""));
    let mut before = gateway.begin(&get("/before").session("s").making("hold"));
    upstream.wait_seen(1);
    let path = accept(&gateway, &job("job", "hold").session("s"));
    gateway.wait_for_turn(1);
    let mut after = gateway.begin(&get("/after").session("s"));
    gateway.wait_for_turn(2);
    upstream.release();
    before.response().assert_ok();
    upstream.wait_seen(2);
    upstream.release();
    after.response().assert_ok();
    becomes(&gateway, &path, "succeeded");
    assert_eq!(upstream.targets(), ["/before", "/job", "/after"]);
    assert_eq!(upstream.peak(), 1);
}

#[test]
fn a_session_of_some_width_has_so_many_jobs_at_once() {
    let upstream = Recorder::start();
    let route = ", session: { key: [{ header: X-Session-Id }], concurrency: 2 }";
    let gateway = Gateway::with(&upstream, &policy("workers: 5", route));
    for number in 0..4 {
        accept(&gateway, &job(&number.to_string(), "hold").session("s"));
    }
    upstream.wait_running(2);
    // Begun after those before it had their chance.
    accept(&gateway, &job("other", "").session("other"));
    upstream.wait_seen(3);
    eventually("the other one is done", || count(&gateway, "succeeded") == 1);
    assert_eq!((upstream.count(), upstream.running()), (3, 2));
    upstream.open();
    upstream.wait_seen(5);
    assert_eq!(upstream.peak(), 3);
}

#[test]
fn a_failing_job_keeps_its_place_and_holds_back_its_session_alone() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &in_sessions("attempts: 3, retry_delay: 300ms"));
    let bad = accept(&gateway, &job("bad", "status 503").session("s"));
    let next = accept(&gateway, &job("next", "").session("s"));
    let other = accept(&gateway, &job("other", "").session("t"));
    becomes(&gateway, &other, "succeeded");
    becomes(&gateway, &next, "succeeded");
    let ended = becomes(&gateway, &bad, "failed");
    assert_eq!((&ended["attempts"], &ended["error"]), (&3.into(), &"status_503".into()));
    let of_session: Vec<String> = upstream.targets().into_iter().filter(|target| target != "/other").collect();
    assert_eq!(of_session, ["/bad", "/bad", "/bad", "/next"]);
}

#[test]
fn sessions_of_a_body_keep_their_order_and_made_up_keys_are_told_and_kept() {
    let upstream = Recorder::start();
    let route = ", session: { key: [{ json: /session_id }], assign: { json: /session_id } }";
    let gateway = Gateway::with(&upstream, &policy("attempts: 2, retry_delay: 20ms", route));
    let post = |body: &str| crate::harness::post("/", body).json().header("Prefer", "respond-async");
    accept(&gateway, &post("{\"session_id\":\"s\"}").making("hold"));
    accept(&gateway, &post("{\"session_id\":\"s\"}").making("hold"));
    upstream.wait_running(1);
    // Begun after the one before it had its chance.
    accept(&gateway, &post("{\"session_id\":\"other\"}"));
    upstream.wait_seen(2);
    assert_eq!(upstream.running(), 1);
    upstream.open();
    upstream.wait_seen(3);
    let answer = gateway.ask(&post("{\"text\":\"hi\"}").making("status 503"));
    let key = answer.header("turnwise-session").expect("Turnwise-Session");
    becomes(&gateway, &super::accepted(&answer), "failed");
    let sent: Vec<_> = upstream.seen()[3..].iter().map(|seen| seen.text()).collect();
    assert_eq!(sent.len(), 2);
    for body in sent {
        let sent: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((&sent["session_id"], &sent["text"]), (&key.as_str().into(), &"hi".into()));
    }
}
