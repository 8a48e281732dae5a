use super::{accept, becomes, count, job, policy};
use crate::harness::{Gateway, Recorder, eventually, get};

#[test]
fn no_more_jobs_run_at_once_than_there_are_workers() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("workers: 2", ""));
    for number in 0..6 {
        accept(&gateway, &job(&number.to_string(), "hold"));
    }
    for seen in 2..=6 {
        upstream.wait_seen(seen);
        upstream.wait_running(2);
        crate::harness::wait::give_it_a_chance();
        assert_eq!((upstream.count(), upstream.running()), (seen, 2));
        upstream.release();
    }
    upstream.open();
    eventually("all are done", || count(&gateway, "succeeded") == 6);
    assert_eq!(upstream.peak(), 2);
}

#[test]
fn jobs_count_within_the_limits_of_all_requests() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &format!("limits: {{ concurrency: 2 }}\n{}", policy("workers: 5", "")));
    for number in 0..4 {
        accept(&gateway, &job(&number.to_string(), "hold"));
    }
    upstream.wait_running(2);
    gateway.wait_for_place(2);
    let mut ordinary = gateway.begin(&get("/ordinary"));
    gateway.wait_for_place(3);
    assert_eq!(gateway.json("/status")["limits"]["in_flight"], 2);
    upstream.open();
    ordinary.response().assert_ok();
    eventually("all are done", || count(&gateway, "succeeded") == 4);
    assert_eq!(upstream.peak(), 2);
}

#[test]
fn what_the_gateway_itself_does_not_let_in_yet_is_put_off_and_costs_no_try() {
    let upstream = Recorder::start();
    let route = ", rate_limits: [{ per: route, rate: 1/s, burst: 1 }]";
    let gateway = Gateway::with(&upstream, &policy("attempts: 1", route));
    let paths: Vec<String> = (0..3).map(|number| accept(&gateway, &job(&number.to_string(), ""))).collect();
    for path in &paths {
        assert_eq!(becomes(&gateway, path, "succeeded")["attempts"], 1);
    }
    assert!(gateway.metric("turnwise_job_attempts_total", &[("result", "postponed")]) >= 1.0);
}

#[test]
fn a_rate_limit_of_the_route_that_rejects_keeps_the_order_of_jobs() {
    let upstream = Recorder::start();
    let route = ", rate_limits: [{ per: route, rate: 20/s, burst: 1 }]";
    let gateway = Gateway::with(&upstream, &policy("workers: 4", route));
    for number in 0..40 {
        accept(&gateway, &job(&number.to_string(), ""));
    }
    eventually("all are done", || count(&gateway, "succeeded") == 40);
    let order: Vec<usize> = upstream.targets().iter().map(|target| target[1..].parse().expect("a number")).collect();
    // As many as there are workers come to the limit at once, and nobody can say which of them is first.
    let apart = order.iter().enumerate().map(|(place, number)| place.abs_diff(*number)).max();
    assert!(apart <= Some(4), "{order:?}");
}

#[test]
fn a_busy_session_that_rejects_others_puts_jobs_off() {
    let upstream = Recorder::start();
    let route = ", session: { key: [{ header: X-Session-Id }], when_busy: reject }";
    let gateway = Gateway::with(&upstream, &policy("attempts: 1", route));
    let mut ordinary = gateway.begin(&get("/ordinary").session("s").making("hold"));
    upstream.wait_seen(1);
    let path = accept(&gateway, &job("job", "").session("s"));
    eventually("it was put off", || gateway.metric("turnwise_job_attempts_total", &[("result", "postponed")]) >= 1.0);
    assert_eq!(super::status(&gateway, &path)["status"], "queued");
    upstream.open();
    ordinary.response().assert_ok();
    becomes(&gateway, &path, "succeeded");
}

#[test]
fn a_job_for_one_that_listens_while_it_waits_has_its_own_answer() {
    let upstream = Recorder::start();
    let route = ", session: { key: [{ header: X-Session-Id }], while_waiting: comments }";
    let gateway = Gateway::with(&upstream, &policy("", route));
    let mut ordinary = gateway.begin(&get("/ordinary").session("s").making("hold"));
    upstream.wait_seen(1);
    let path = accept(&gateway, &job("job", "status 404").session("s").header("Accept", "text/event-stream"));
    gateway.wait_for_turn(1);
    // One that came later is told already that it waits.
    let mut told = gateway.begin(&get("/told").session("s").header("Accept", "text/event-stream"));
    told.until(": waiting");
    upstream.open();
    ordinary.response().assert_ok();
    assert_eq!(becomes(&gateway, &path, "failed")["error"], "status_404");
    assert_eq!(super::result(&gateway, &path).text(), "ok\n");
}
