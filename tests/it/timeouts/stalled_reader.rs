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

#[test]
fn a_client_that_reads_slowly_is_served_rest() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("idle: 1s"));
    let mut slow = gateway.begin(&get("/").making("body 8388608"));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(slow.response().assert_ok().body.bytes.len(), 8_388_608);
}
