use super::{accepted, becomes, job, policy};
use crate::harness::{Gateway, Recorder, get, post};

fn waiting(tag: &str, seconds: u32, what: &str) -> crate::harness::Request {
    post(&format!("/{tag}"), tag).header("Prefer", &format!("respond-async, wait={seconds}")).making(what)
}

#[test]
fn one_that_is_done_in_time_is_answered_as_ever() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    let answer = gateway.ask(&waiting("a", 30, "sleep 100; status 418; echo"));
    assert_eq!((answer.status, answer.text().as_str()), (418, "a"));
    assert_eq!(answer.header("location"), None);
    assert_eq!(answer.header("preference-applied"), None);
    assert_eq!(super::count(&gateway, "failed"), 1, "it is a job all the same");
    gateway.wait_metric("turnwise_requests_total", &[("code", "418")], 1.0);
}

#[test]
fn one_that_is_not_done_in_time_is_accepted() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    let answer = gateway.ask(&waiting("a", 1, "hold"));
    let path = accepted(&answer);
    assert_eq!(answer.json()["status"], "running");
    assert_eq!(answer.header("preference-applied").as_deref(), Some("respond-async"));
    upstream.open();
    becomes(&gateway, &path, "succeeded");
    super::result(&gateway, &path).assert_ok();
}

#[test]
fn a_wait_of_nothing_is_none() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    accepted(&gateway.ask(&waiting("a", 0, "hold")));
    upstream.wait_seen(1);
    upstream.open();
}

#[test]
fn one_whose_client_leaves_while_it_waits_is_done_all_the_same() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    let client = gateway.begin(&waiting("a", 60, "hold"));
    upstream.wait_seen(1);
    client.leave();
    gateway.wait_metric("turnwise_requests_total", &[("code", "499")], 1.0);
    assert!(!upstream.only().client_gone);
    upstream.open();
    gateway.wait_metric("turnwise_jobs", &[("status", "succeeded")], 1.0);
}

#[test]
fn one_that_ends_without_an_answer_is_told_by_its_status() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("max_result: 1KiB", ""));
    let answer = gateway.ask(&waiting("a", 30, "body 2000"));
    let path = accepted(&answer);
    assert_eq!(answer.json()["status"], "failed");
    assert_eq!(super::status(&gateway, &path)["error"], "result_too_large");
}

#[test]
fn one_that_is_cancelled_meanwhile_is_told() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("workers: 1", ""));
    let first = accepted(&gateway.ask(&job("first", "hold")));
    upstream.wait_seen(1);
    let mut waits = gateway.begin(&waiting("second", 60, ""));
    gateway.wait_metric("turnwise_jobs", &[("status", "queued")], 1.0);
    let listed = gateway.json("/jobs?status=queued");
    let id = listed[0]["id"].as_str().expect("an id");
    assert_eq!(gateway.ask(&super::cancel(&format!("/_turnwise/jobs/{id}"))).assert_ok().json()["status"], "cancelled");
    let answer = waits.response();
    assert_eq!((answer.status, &answer.json()["status"]), (202, &"cancelled".into()));
    upstream.open();
    becomes(&gateway, &first, "succeeded");
    assert_eq!(gateway.ask(&get(&first)).status, 200);
}
