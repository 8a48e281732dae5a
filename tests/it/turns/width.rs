use super::by_header;
use crate::harness::{Gateway, Recorder, get};

#[test]
fn a_session_may_be_allowed_more_than_one_at_once_and_never_has_more() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &by_header(", concurrency: 3"));
    let mut all: Vec<_> = (0..12).map(|_| gateway.begin(&get("/").session("a").making("hold"))).collect();
    gateway.wait_for_turn(9);
    upstream.wait_running(3);
    assert_eq!(upstream.running(), 3);
    for _ in 0..12 {
        upstream.release();
    }
    for connection in &mut all {
        connection.response().assert_ok();
    }
    assert_eq!(upstream.peak(), 3);
}
