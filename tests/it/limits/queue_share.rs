use crate::harness::{Gateway, Recorder, get};

#[test]
fn one_client_may_hold_only_its_share_of_the_queue() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 1, queue: 4, queue_share: 50% }\n");
    let mut running = gateway.begin(&get("/0").making("hold"));
    upstream.wait_seen(1);
    let mut line = super::in_line(&gateway, 0, &[get("/1"), get("/2")]);
    gateway.ask(&get("/greedy")).assert_problem(503, "queue_full");
    let mut other = gateway.connect_from(2);
    other.ask(&get("/other"));
    gateway.wait_for_place(3);
    upstream.open();
    running.response().assert_ok();
    for connection in line.iter_mut().chain([&mut other]) {
        connection.response().assert_ok();
    }
}
