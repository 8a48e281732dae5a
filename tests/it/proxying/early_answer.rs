//! An upstream may answer before it has read the request. What is left of that request is never taken for the next one.

use crate::harness::{Gateway, Recorder};

#[test]
fn the_rest_of_a_refused_body_is_no_request() {
    let upstream = Recorder::doing(|exchange| {
        exchange.finish("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        exchange.close();
    });
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 64\r\n\r\n0123456789");
    let answer = connection.response();
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
    connection.send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n0123456789").send("0123456789012345");
    connection.finish_sending();
    let rest = connection.rest();
    assert!(!rest.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&rest));
    assert!(!upstream.targets().contains(&"/smuggled".to_owned()));
}

#[test]
fn a_connection_whose_upload_was_answered_early_can_be_used_again() {
    let upstream = Recorder::doing(|exchange| {
        exchange.finish("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly");
    });
    let routes = "routes: [{ name: open, match: { path_prefix: /open }, upstream: agents }]\n";
    let gateway = Gateway::with(&upstream, routes);
    let mut connection = gateway.connect();
    for (path, status) in [("/open/1", 200), ("/refused", 404), ("/open/2", 200)] {
        connection.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234"));
        assert_eq!(connection.response().status, status, "{path}");
        connection.send("56789");
    }
    connection.send("GET /open/3 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.response().assert_ok().text(), "early");
}

#[test]
fn a_client_that_waits_to_be_asked_for_its_body_is_told_that_it_is_not() {
    let upstream = Recorder::start();
    let routes = "routes: [{ name: open, match: { path_prefix: /open }, upstream: agents }]\n";
    let gateway = Gateway::with(&upstream, routes);
    let head = "POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n";
    let mut connection = gateway.say(head);
    let answer = connection.response();
    assert_eq!(answer.status, 404);
    assert!(answer.interim.is_empty(), "it was not asked for its body");
    assert_eq!(answer.header("connection").as_deref(), Some("close"));
}
