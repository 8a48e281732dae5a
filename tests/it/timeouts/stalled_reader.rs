use super::policy;
use crate::harness::{Gateway, Recorder, get};

#[test]
fn a_client_that_stops_reading_gives_its_place_back() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("idle: 400ms"));
    let mut stalled = gateway.begin(&get("/").making("body 67108864"));
    assert_eq!(stalled.head().word(1), "200");
    gateway.ask(&get("/next")).assert_ok();
    let rest = stalled.rest().len();
    assert!(rest < 67_108_864, "a cut body looked whole");
}
