use crate::harness::{Gateway, Recorder};

const ASKING: &str = "POST / HTTP/1.1\r\nHost: a\r\nX-Do: echo\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

#[test]
fn a_client_that_waits_to_be_asked_is_asked() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.say(ASKING);
    assert_eq!(connection.head().word(1), "100");
    let answer = connection.send("hello").response();
    assert_eq!(answer.assert_ok().text(), "hello");
    assert!(answer.interim.is_empty(), "asked only once");
    connection.send(ASKING);
    assert_eq!(connection.head().word(1), "100");
    connection.send("again").response().assert_ok();
}

#[test]
fn a_client_that_does_not_wait_is_served_as_well() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    assert_eq!(gateway.say(format!("{ASKING}hello")).response().assert_ok().text(), "hello");
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_sent() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "defaults: { body_limit: 1KiB }\n");
    let asking = ASKING.replace("Length: 5", "Length: 5000");
    gateway.say(asking).response().assert_problem(413, "body_too_large");
    assert_eq!(upstream.count(), 0);
}
