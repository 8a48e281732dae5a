use crate::harness::{Gateway, Recorder};

#[test]
fn the_tail_of_a_body_arrives_though_a_head_that_is_too_large_comes_with_it() {
    let upstream = Recorder::start();
    let gateway =
        Gateway::with(&upstream, "server: { max_header_bytes: 4KiB }\ndefaults: { timeouts: { request: 3s } }\n");
    let mut connection = gateway.say("POST /1 HTTP/1.1\r\nHost: a\r\nX-Do: echo\r\nContent-Length: 5\r\n\r\nab");
    upstream.wait_seen(1);
    connection.send(format!("cdeGET /2 HTTP/1.1\r\nHost: a\r\nX-Large: {}\r\n\r\n", "x".repeat(6000)));
    assert_eq!(connection.response().assert_ok().text(), "abcde");
    let second = connection.response_to("GET").map(|answer| answer.status);
    assert!(matches!(second, Some(431) | None), "{second:?}");
    connection.assert_closed();
    assert_eq!(upstream.targets(), ["/1"]);
}
