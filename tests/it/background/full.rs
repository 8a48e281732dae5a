use super::{accept, becomes, cancel, count, job, policy};
use crate::harness::{Gateway, Recorder, eventually, post};

#[test]
fn a_full_queue_refuses_at_once_and_keeps_nothing() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, &policy("workers: 1, queue: 3", ""));
    let paths: Vec<String> = (0..3).map(|number| accept(&gateway, &job(&number.to_string(), "hold"))).collect();
    for _ in 0..3 {
        gateway.ask(&job("refused", "")).assert_problem(503, "job_queue_full");
    }
    gateway.wait_metric("turnwise_rejected_total", &[("route", "runs"), ("reason", "job_queue_full")], 3.0);
    assert_eq!(gateway.ask(&cancel(&paths[2])).assert_ok().json()["status"], "cancelled");
    let fourth = accept(&gateway, &job("fourth", ""));
    gateway.ask(&job("refused", "")).assert_problem(503, "job_queue_full");
    gateway.kill();
    gateway.start_again();
    gateway.ask(&job("refused", "")).assert_problem(503, "job_queue_full");
    upstream.open();
    becomes(&gateway, &fourth, "succeeded");
    eventually("all are done", || count(&gateway, "succeeded") == 3);
    accept(&gateway, &job("fifth", ""));
    eventually("it is done", || count(&gateway, "succeeded") == 4);
    assert!(!upstream.targets().contains(&"/refused".to_owned()));
}

#[test]
fn a_full_store_refuses_at_once_and_takes_more_when_there_is_room() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("store_bytes: 1MiB, keep_results: 1s", ""));
    let large = || post("/large", vec![b'x'; 300 * 1024]).header("Prefer", "respond-async");
    for _ in 0..3 {
        accept(&gateway, &large().making("hold"));
    }
    gateway.ask(&large()).assert_problem(503, "job_queue_full");
    accept(&gateway, &job("small", ""));
    upstream.open();
    eventually("all are done", || count(&gateway, "succeeded") == 4);
    accept(&gateway, &large());
    eventually("it is done", || upstream.count() == 5 && upstream.running() == 0);
}

#[test]
fn failed_jobs_make_room_when_their_time_is_over() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("store_bytes: 1MiB, keep_results: 1s", ""));
    let large = || post("/large", vec![b'x'; 300 * 1024]).header("Prefer", "respond-async");
    let paths: Vec<String> = (0..3).map(|_| accept(&gateway, &large().making("status 500"))).collect();
    for path in &paths {
        becomes(&gateway, path, "failed");
    }
    eventually("there is room", || gateway.ask(&large()).status == 202);
    assert_eq!(gateway.ask(&crate::harness::get(&paths[0])).status, 404, "the oldest one went");
    assert_eq!(super::status(&gateway, &paths[2])["status"], "failed");
    eventually("it is done", || count(&gateway, "succeeded") == 1);
}

#[test]
fn a_body_beyond_the_limit_is_no_job() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ", body_limit: 1KiB"));
    gateway.ask(&post("/", vec![b'x'; 1025]).header("Prefer", "respond-async")).assert_problem(413, "body_too_large");
    let chunked = crate::harness::request("POST", "/").header("Prefer", "respond-async");
    let piece = "x".repeat(600);
    let chunked = chunked.chunked(&[&piece, &piece], &[]);
    gateway.ask(&chunked).assert_problem(413, "body_too_large");
    accept(&gateway, &post("/", vec![b'x'; 1024]).header("Prefer", "respond-async"));
    upstream.wait_seen(1);
    assert_eq!(upstream.only().body.bytes.len(), 1024);
}
