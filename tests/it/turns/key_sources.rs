//! Every place in which a request can name its session.

use super::sessions;
use crate::harness::{Gateway, Recorder, Request, get, post};

const MULTIPART: &str = "multipart/form-data; boundary=XX";

fn part(name: &str, value: &str) -> String {
    format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

/// Two requests of one session take turns in order of arrival, one of another session does not wait for them.
#[track_caller]
fn take_turns(source: &str, of: impl Fn(&str) -> Request) {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &sessions(&format!("key: [{source}]")));
    let request = |session: &str, tag: &str| of(session).making("hold").header("X-Tag", tag);
    let mut first = gateway.begin(&request("ann", "first"));
    upstream.wait_seen(1);
    let mut second = gateway.begin(&request("ann", "second"));
    gateway.wait_for_turn(1);
    let mut third = gateway.begin(&request("ann", "third"));
    gateway.wait_for_turn(2);
    let mut other = gateway.begin(&request("bob", "other"));
    upstream.wait_seen(2);
    upstream.open();
    for connection in [&mut first, &mut second, &mut third, &mut other] {
        connection.response().assert_ok();
    }
    let tags: Vec<_> = upstream.seen().iter().filter_map(|seen| seen.header("x-tag")).collect();
    assert_eq!(tags, ["first", "other", "second", "third"]);
    assert_eq!(upstream.peak_of(|seen| seen.header("x-tag").as_deref() != Some("other")), 1);
    let bodies: Vec<_> = upstream.seen().iter().map(|seen| seen.body.whole).collect();
    assert_eq!(bodies, [true; 4], "what was read for the key reaches the upstream whole");
}

#[test]
fn header() {
    take_turns("{ header: X-Session-Id }", |id| get("/").session(id));
}

#[test]
fn json() {
    take_turns("{ json: /meta/session_id }", |id| {
        post("/", format!("{{\"text\":\"a \\\"quoted\\\" word\",\"meta\":{{\"n\":[1,2],\"session_id\":\"{id}\"}}}}"))
            .json()
    });
}

#[test]
fn json_of_clients_that_say_something_else_of_it() {
    for kind in ["application/x-www-form-urlencoded", "text/plain;charset=UTF-8"] {
        take_turns("{ json: /session_id }", |id| {
            post("/", format!("{{\"session_id\":\"{id}\"}}")).header("Content-Type", kind)
        });
    }
}

#[test]
fn form_urlencoded() {
    take_turns("{ form: session_id }", |id| {
        post("/", format!("text=a+b%26c&session_id={id}&x="))
            .header("Content-Type", "application/x-www-form-urlencoded")
    });
}

#[test]
fn form_multipart() {
    take_turns("{ form: session_id }", |id| {
        let body = format!("{}{}{}--XX--\r\n", part("text", "session_id"), part("session_id", id), part("z", "1"));
        post("/", body).header("Content-Type", MULTIPART)
    });
}

#[test]
fn query() {
    take_turns("{ query: session_id }", |id| get(&format!("/?x=1&session%5Fid={id}")));
}

#[test]
fn cookie() {
    take_turns("{ cookie: sid }", |id| get("/").header("Cookie", &format!("theme=dark; sid={id}; xsid=no")));
}

#[test]
fn path() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "routes:\n  - { name: runs, match: { path: \"/agent/{agent}/run\" }, upstream: agents, session: { key: [{ path: agent }] } }\n",
    );
    let mut first = gateway.begin(&get("/agent/ann/run").making("hold"));
    upstream.wait_seen(1);
    let mut second = gateway.begin(&get("/agent/%61nn/run"));
    gateway.wait_for_turn(1);
    gateway.ask(&get("/agent/bob/run")).assert_ok();
    upstream.open();
    first.response().assert_ok();
    second.response().assert_ok();
    assert_eq!(upstream.targets(), ["/agent/ann/run", "/agent/bob/run", "/agent/%61nn/run"]);
}

#[test]
fn the_first_source_that_is_present_wins() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &sessions("key: [{ header: X-Session-Id }, { query: s }]"));
    let mut running = gateway.begin(&get("/1?s=bob").session("ann").making("hold"));
    upstream.wait_seen(1);
    gateway.ask(&get("/2?s=ann").session("bob")).assert_ok();
    gateway.ask(&get("/3?s=bob")).assert_ok();
    let mut waiting = gateway.begin(&get("/4?s=ann"));
    gateway.wait_for_turn(1);
    upstream.open();
    running.response().assert_ok();
    waiting.response().assert_ok();
    assert_eq!(upstream.targets().last().map(String::as_str), Some("/4?s=ann"), "one key, whatever its source");
}

#[test]
fn long_keys_that_differ_only_at_their_end_are_different() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &super::by_header(""));
    let (one, two) = ("k".repeat(2000) + "1", "k".repeat(2000) + "2");
    let mut first = gateway.begin(&get("/").session(&one).making("hold"));
    upstream.wait_seen(1);
    gateway.ask(&get("/").session(&two)).assert_ok();
    let mut second = gateway.begin(&get("/").session(&one));
    gateway.wait_for_turn(1);
    upstream.open();
    first.response().assert_ok();
    second.response().assert_ok();
}
