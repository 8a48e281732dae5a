use serde_json::json;

use super::{accept, becomes, count, job, policy, status};
use crate::harness::{Gateway, Recorder, eventually, post};

#[test]
fn workers_queue_and_tries_change_while_it_runs() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("workers: 1, queue: 3, attempts: 1", ""));
    let paths: Vec<String> = (0..3).map(|number| accept(&gateway, &job(&number.to_string(), "hold"))).collect();
    upstream.wait_seen(1);
    gateway.ask(&job("refused", "")).assert_problem(503, "job_queue_full");
    gateway.reload(&upstream, &policy("workers: 3, queue: 5, attempts: 2, retry_delay: 10ms, max_result: 8B", ""));
    upstream.wait_running(3);
    let twice = accept(&gateway, &job("twice", "status 503; body 0"));
    let long = accept(&gateway, &job("long", "body 9"));
    upstream.open();
    assert_eq!(becomes(&gateway, &twice, "failed")["attempts"], 2);
    assert_eq!(becomes(&gateway, &long, "failed")["error"], "result_too_large");
    for path in &paths {
        becomes(&gateway, path, "succeeded");
    }
    gateway.reload(&upstream, &policy("keep_results: 1s", ""));
    eventually("results are forgotten", || count(&gateway, "succeeded") == 0);
}

#[test]
fn another_store_needs_a_restart_and_the_rest_applies() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, &policy("workers: 1", ""));
    gateway.reload(&upstream, &policy("workers: 2, store: elsewhere", ""));
    assert_eq!(gateway.json("/status")["policy"]["restart_needed"], json!(["background.store"]));
    let warns = || gateway.log().lines().any(|line| line.contains("WARN") && line.contains("background.store"));
    eventually("it is in the log", warns);
    assert_eq!(gateway.json("/config")["background"]["store"], "turnwise-jobs", "what is in force");
    let path = accept(&gateway, &job("a", ""));
    becomes(&gateway, &path, "succeeded");
    assert!(!gateway.folder().join("elsewhere").exists());
    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), 0);
    gateway.start_again();
    assert!(gateway.folder().join("elsewhere").exists());
    assert_eq!(count(&gateway, "succeeded"), 0);
}

#[test]
fn a_queue_comes_with_a_reload_and_goes_when_its_jobs_have_ended() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::before(&upstream);
    gateway.ask(&job("before", "")).assert_ok();
    gateway.reload(&upstream, &policy("workers: 1", ""));
    assert_eq!(gateway.json("/status")["policy"]["restart_needed"], json!([]));
    let first = accept(&gateway, &job("first", "hold"));
    let second = accept(&gateway, &job("second", ""));
    upstream.wait_seen(2);
    gateway.reload(&upstream, "");
    assert_eq!(gateway.json("/status")["policy"]["restart_needed"], json!([]));
    gateway.ask(&job("after", "")).assert_ok();
    upstream.open();
    becomes(&gateway, &first, "succeeded");
    becomes(&gateway, &second, "succeeded");
    gateway.reload(&upstream, &policy("workers: 2", ""));
    let third = accept(&gateway, &job("third", ""));
    becomes(&gateway, &third, "succeeded");
    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), 0);
    gateway.start_again();
    assert_eq!(count(&gateway, "succeeded"), 3, "they are where the policy says");
}

#[test]
fn a_queue_that_cannot_be_kept_is_no_policy() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    gateway.write_policy(&upstream, &policy("store: /proc/jobs", ""));
    let answer = gateway.admin(&post("/-/reload", ""));
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("/proc/jobs"), "{}", answer.text());
    gateway.ask(&job("ordinary", "")).assert_ok();
    gateway.reload(&upstream, &policy("", ""));
    let path = accept(&gateway, &job("later", ""));
    becomes(&gateway, &path, "succeeded");
}

#[test]
fn a_job_whose_route_a_reload_has_removed_runs_by_the_one_that_matches_or_fails() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("workers: 1", ""));
    accept(&gateway, &job("first", "hold"));
    upstream.wait_seen(1);
    let kept = accept(&gateway, &job("kept", ""));
    let gone = accept(&gateway, &job("gone", ""));
    gateway.reload(
        &upstream,
        "background: { workers: 1 }\nroutes: [{ name: other, upstream: agents, match: { path: /kept } }]\n",
    );
    upstream.open();
    becomes(&gateway, &kept, "succeeded");
    assert_eq!(becomes(&gateway, &gone, "failed")["error"], "no_route");
    assert_eq!(status(&gateway, &gone)["attempts"], 1);
}
