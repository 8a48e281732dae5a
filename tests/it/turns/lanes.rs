use crate::harness::{Gateway, Recorder, get};

fn two_routes(lane: &str) -> String {
    ["runs", "edits"]
        .map(|name| {
            format!(
                "  - {{ name: {name}, match: {{ path_prefix: /{name} }}, upstream: agents, session: {{ key: [{{ header: X-Session-Id }}]{lane} }} }}\n"
            )
        })
        .concat()
}

#[test]
fn routes_that_name_the_same_lane_take_turns_together() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &format!("routes:\n{}", two_routes(", lane: conversation")));
    let mut run = gateway.begin(&get("/runs/1").session("a").making("hold"));
    upstream.wait_seen(1);
    let mut edit = gateway.begin(&get("/edits/2").session("a"));
    gateway.wait_for_turn(1);
    let mut again = gateway.begin(&get("/runs/3").session("a"));
    gateway.wait_for_turn(2);
    upstream.open();
    for connection in [&mut run, &mut edit, &mut again] {
        connection.response().assert_ok();
    }
    assert_eq!(upstream.targets(), ["/runs/1", "/edits/2", "/runs/3"]);
    assert_eq!(upstream.peak(), 1);
}

#[test]
fn routes_that_name_none_do_not() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &format!("routes:\n{}", two_routes("")));
    let mut run = gateway.begin(&get("/runs/1").session("a").making("hold"));
    upstream.wait_seen(1);
    gateway.ask(&get("/edits/2").session("a")).assert_ok();
    upstream.open();
    run.response().assert_ok();
}
