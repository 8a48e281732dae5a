//! Where it is not certain any more where a request begins, none is served.

use crate::harness::{Gateway, Recorder};

const CHUNKED: &str = "POST /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const BOTH_FRAMINGS: &str =
    "POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";

/// Sends `body` as a request's, then a request that must be refused, and looks whether it was.
#[track_caller]
fn never_forwarded_after(body: &str) {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    // One after the other, as a client that waits for its answers sends them.
    let mut connection = gateway.say(format!("{CHUNKED}{body}"));
    let first = connection.response_to("POST").map(|answer| answer.status);
    connection.send(BOTH_FRAMINGS);
    let second = connection.response_to("POST").map(|answer| answer.status);
    assert!(matches!(second, Some(400) | None), "{first:?}, then {second:?}");
    connection.assert_closed();
    // Both in one piece.
    let mut connection = gateway.say(format!("{CHUNKED}{body}{BOTH_FRAMINGS}"));
    while let Some(answer) = connection.response_to("POST") {
        assert!(matches!(answer.status, 200 | 400), "{}", answer.head.raw);
    }
    assert!(!upstream.targets().contains(&"/second".to_owned()), "{:?}", upstream.targets());
}

#[test]
fn both_framings_are_refused_after_a_chunk_size_with_twenty_thousand_zeros() {
    never_forwarded_after(&format!("{}1\r\na\r\n0\r\n\r\n", "0".repeat(20_000)));
}

#[test]
fn both_framings_are_refused_after_a_bare_line_feed_in_a_trailer() {
    never_forwarded_after("1\r\na\r\n0\r\nX: y\n\r\nFoo: bar\r\n\r\n");
}

#[test]
fn both_framings_are_refused_after_a_bare_line_feed_behind_a_chunk_size() {
    never_forwarded_after("1\na\r\n0\r\n\r\n");
}

#[test]
fn both_framings_are_refused_after_a_long_extension_of_a_chunk() {
    never_forwarded_after(&format!("1;x={}\r\na\r\n0\r\n\r\n", "y".repeat(16_000)));
}
