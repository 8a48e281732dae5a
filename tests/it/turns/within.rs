use super::by_header;
use crate::harness::{Gateway, Recorder, get};

#[test]
fn equal_ids_of_two_tenants_do_not_meet() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &by_header(", within: [{ header: X-Api-Key }]"));
    let mut one = gateway.begin(&get("/1").session("a").header("X-Api-Key", "one").making("hold"));
    upstream.wait_seen(1);
    gateway.ask(&get("/2").session("a").header("X-Api-Key", "two")).assert_ok();
    gateway.ask(&get("/3").session("a")).assert_ok();
    let mut same = gateway.begin(&get("/4").session("a").header("X-Api-Key", "one"));
    gateway.wait_for_turn(1);
    upstream.open();
    one.response().assert_ok();
    same.response().assert_ok();
    assert_eq!(upstream.targets(), ["/1", "/2", "/3", "/4"]);
}

#[test]
fn parts_do_not_run_into_each_other() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &by_header(", within: [{ header: X-Api-Key }]"));
    let mut one = gateway.begin(&get("/1").session("bc").header("X-Api-Key", "a").making("hold"));
    upstream.wait_seen(1);
    gateway.ask(&get("/2").session("c").header("X-Api-Key", "ab")).assert_ok();
    gateway.ask(&get("/3").session("a/bc").header("X-Api-Key", "")).assert_ok();
    upstream.open();
    one.response().assert_ok();
}
