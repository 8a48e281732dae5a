use super::policy;
use crate::harness::{Gateway, Recorder, get};

#[test]
fn before_the_head_it_is_a_504() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("total: 300ms"));
    gateway.ask(&get("/").making("hold")).assert_problem(504, "upstream_timeout");
    upstream.open();
}

#[test]
fn after_the_head_the_answer_is_cut_visibly() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("total: 500ms"));
    let answer = gateway.ask(&get("/").making("stream 100000 20"));
    assert_eq!((answer.status, answer.body.whole), (200, false));
    gateway.ask(&get("/next")).assert_ok();
}

#[test]
fn zero_means_none() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("total: 0s"));
    gateway.ask(&get("/").making("stream 10 30")).assert_ok();
}
