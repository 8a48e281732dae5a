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
