use super::{accept, becomes, count, in_sessions, job, policy, result};
use crate::harness::{Gateway, Recorder, eventually, get};

#[test]
fn what_runs_finishes_what_waits_stays_and_a_restart_goes_on_by_itself() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, &policy("workers: 1", ""));
    let running = accept(&gateway, &job("running", "hold"));
    upstream.wait_seen(1);
    let waiting = accept(&gateway, &job("waiting", ""));
    gateway.signal("TERM");
    eventually("readiness falls", || gateway.admin(&get("/-/ready")).status == 503);
    upstream.release();
    assert_eq!(gateway.exit_code(), 0);
    assert_eq!(upstream.targets(), ["/running"]);
    gateway.start_again();
    assert_eq!(super::status(&gateway, &running)["status"], "succeeded");
    result(&gateway, &running).assert_ok();
    becomes(&gateway, &waiting, "succeeded");
    assert_eq!(upstream.targets(), ["/running", "/waiting"]);
}

#[test]
fn what_waits_for_its_turn_goes_back_at_once() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, &in_sessions(""));
    let mut ordinary = gateway.begin(&get("/ordinary").session("s").making("hold"));
    upstream.wait_seen(1);
    let path = accept(&gateway, &job("job", "").session("s"));
    gateway.wait_for_turn(1);
    gateway.signal("TERM");
    gateway.wait_for_turn(0);
    upstream.open();
    ordinary.response().assert_ok();
    assert_eq!(gateway.exit_code(), 0);
    assert_eq!(upstream.targets(), ["/ordinary"]);
    gateway.start_again();
    let ended = becomes(&gateway, &path, "succeeded");
    assert_eq!(ended["attempts"], 1);
}

#[test]
fn clients_that_wait_have_the_answers_of_what_runs_and_are_told_of_what_does_not() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, &in_sessions(""));
    let waiting = |tag: &str| job(tag, "hold").session("s").header("Prefer", "wait=60");
    let mut first = gateway.begin(&waiting("first"));
    upstream.wait_seen(1);
    let mut second = gateway.begin(&waiting("second"));
    eventually("it is accepted", || count(&gateway, "queued") == 1);
    gateway.signal("TERM");
    let path = super::accepted(&second.response());
    upstream.release();
    assert_eq!(first.response().assert_ok().text(), "ok\n");
    assert_eq!(gateway.exit_code(), 0);
    assert_eq!(upstream.targets(), ["/first"]);
    upstream.open();
    gateway.start_again();
    becomes(&gateway, &path, "succeeded");
}

#[test]
fn what_runs_beyond_the_drain_timeout_is_run_again() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, &format!("server: {{ drain_timeout: 300ms }}\n{}", policy("", "")));
    let path = accept(&gateway, &job("a", "hold"));
    upstream.wait_seen(1);
    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), 3);
    gateway.start_again();
    upstream.wait_seen(2);
    upstream.open();
    becomes(&gateway, &path, "succeeded");
    assert_eq!(count(&gateway, "failed"), 0);
}

#[test]
fn no_job_is_accepted_while_draining() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, &policy("", ""));
    let mut idle = gateway.begin(&get("/"));
    idle.response().assert_ok();
    let path = accept(&gateway, &job("a", "hold"));
    upstream.wait_seen(2);
    gateway.signal("TERM");
    eventually("the listener closes", || std::net::TcpStream::connect(gateway.address).is_err());
    idle.ask(&job("late", ""));
    if let Some(answer) = idle.response_to("POST") {
        answer.assert_problem(503, "draining");
    }
    upstream.open();
    assert_eq!(gateway.exit_code(), 0);
    gateway.start_again();
    assert_eq!(super::status(&gateway, &path)["status"], "succeeded");
    assert_eq!(count(&gateway, "queued") + count(&gateway, "running"), 0);
}
