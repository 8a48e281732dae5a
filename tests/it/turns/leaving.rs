use super::by_header;
use crate::harness::{Gateway, Recorder, get};

#[test]
fn who_leaves_while_waiting_is_forgotten_and_passes_the_place_on() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &by_header(", queue: 3"));
    let mut running = gateway.begin(&get("/0").session("a").making("hold"));
    upstream.wait_seen(1);
    let mut waiting = Vec::new();
    for place in 1..=3 {
        waiting.push(gateway.begin(&get(&format!("/{place}")).session("a")));
        gateway.wait_for_turn(place);
    }
    waiting.remove(1).leave();
    gateway.wait_for_turn(2);
    waiting.push(gateway.begin(&get("/4").session("a")));
    gateway.wait_for_turn(3);
    waiting.remove(0).reset();
    gateway.wait_for_turn(2);
    upstream.open();
    running.response().assert_ok();
    for connection in &mut waiting {
        connection.response().assert_ok();
    }
    assert_eq!(upstream.targets(), ["/0", "/3", "/4"]);
}

#[test]
fn a_whole_queue_that_leaves_leaves_nothing_behind() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &by_header(""));
    let mut running = gateway.begin(&get("/0").session("a").making("hold"));
    upstream.wait_seen(1);
    let waiting: Vec<_> = (1..=20).map(|place| gateway.begin(&get(&format!("/{place}")).session("a"))).collect();
    gateway.wait_for_turn(20);
    drop(waiting);
    gateway.wait_for_turn(0);
    upstream.open();
    running.response().assert_ok();
    gateway.ask(&get("/after").session("a")).assert_ok();
    assert_eq!(upstream.targets(), ["/0", "/after"]);
}
