use super::{accept, accepted, becomes, policy};
use crate::harness::{Gateway, Recorder, get, post};

#[test]
fn the_preference_is_read_as_the_rfc_writes_it() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    for prefer in
        ["respond-async", "RESPOND-ASYNC", " a , respond-async ; p=1", "b=\"c,d\", respond-async", "respond-async=\"\""]
    {
        let path = accept(&gateway, &post("/", "x").header("Prefer", prefer));
        becomes(&gateway, &path, "succeeded");
    }
    let two_lines = post("/", "x").header("Prefer", "return=minimal").header("Prefer", "respond-async");
    accept(&gateway, &two_lines);
}

#[test]
fn always_needs_no_preference_and_honours_a_wait() {
    let upstream = Recorder::start();
    let route = "background: {}\nroutes: [{ name: runs, upstream: agents, background: always }]\n";
    let gateway = Gateway::with(&upstream, route);
    let path = accept(&gateway, &post("/a", "x"));
    becomes(&gateway, &path, "succeeded");
    assert_eq!(super::result(&gateway, &path).assert_ok().text(), "ok\n");
    gateway.ask(&post("/b", "x").header("Prefer", "wait=20")).assert_ok();
    accepted(&gateway.ask(&get("/c")));
    upstream.wait_seen(3);
}

#[test]
fn a_request_for_another_protocol_is_never_a_job() {
    let upstream = Recorder::start();
    let route = "background: {}\nroutes: [{ name: runs, upstream: agents, background: always }]\n";
    let gateway = Gateway::with(&upstream, route);
    let upgrade = get("/").header("Connection", "upgrade").header("Upgrade", "websocket");
    gateway.ask(&upgrade).assert_ok();
    assert_eq!(upstream.only().header("upgrade").as_deref(), Some("websocket"));
}

#[test]
fn a_preference_among_the_turns_is_checked_when_it_comes() {
    let upstream = Recorder::start();
    let route = ", session: { key: [{ header: X-Session-Id }], anonymous: reject, when_busy_choices: [reject] }";
    let gateway = Gateway::with(&upstream, &policy("", route));
    let request = || post("/", "x").header("Prefer", "respond-async");
    gateway.ask(&request()).assert_problem(400, "session_required");
    let bad = request().session("a").header("Turnwise-When-Busy", "never");
    gateway.ask(&bad).assert_problem(400, "bad_request");
    accept(&gateway, &request().session("a").header("Turnwise-When-Busy", "reject"));
    upstream.wait_seen(1);
}
