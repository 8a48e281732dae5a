use crate::harness::{Gateway, Recorder, get};

#[test]
fn connections_over_the_limit_wait_until_others_close() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "server: { max_connections: 2 }\n");
    let mut first = gateway.begin(&get("/1"));
    first.response().assert_ok();
    let mut second = gateway.begin(&get("/2"));
    second.response().assert_ok();
    let mut third = gateway.begin(&get("/3"));
    crate::harness::wait::give_it_a_chance();
    assert_eq!(upstream.count(), 2);
    first.leave();
    third.response().assert_ok();
    second.ask(&get("/4")).response().assert_ok();
}
