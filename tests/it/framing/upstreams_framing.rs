//! An upstream's answer whose end is a matter of opinion is no answer.

use crate::harness::{Gateway, Recorder, get};

#[track_caller]
fn broken(answer: &str) {
    let upstream = Recorder::saying(answer);
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.connect();
    connection.ask(&get("/")).response().assert_problem(502, "upstream_broken");
}

#[test]
fn both_framings_are_a_502() {
    broken("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    broken("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
}

#[test]
fn two_lengths_are_a_502() {
    broken("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!");
}

#[test]
fn a_length_that_is_no_number_is_a_502() {
    broken("HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello");
}

#[test]
fn a_second_answer_behind_the_first_reaches_nobody() {
    let upstream = Recorder::doing(|exchange| {
        exchange.read_body();
        exchange.finish(
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmineHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        );
    });
    let gateway = Gateway::with(&upstream, "server: { workers: 1 }\n");
    let mut connection = gateway.connect();
    for _ in 0..20 {
        let answer = connection.ask(&get("/")).response();
        assert_ne!(answer.text(), "poison");
    }
}
