//! What a server says can be read in one way only, and nobody gets what was said to another.

use crate::harness::wait::give_it_a_chance;
use crate::harness::{Gateway, Recorder, get};

const FIRST: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst";
const SECOND: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond";

/// A server that gives every request these pieces, with a pause between them.
fn saying(pieces: Vec<String>) -> (Recorder, Gateway) {
    let upstream = Recorder::doing(move |exchange| {
        exchange.read_body();
        let (last, before) = pieces.split_last().expect("at least one");
        for piece in before {
            exchange.write(piece);
            exchange.sleep(1);
        }
        exchange.finish(last);
    });
    let gateway = Gateway::before(&upstream);
    (upstream, gateway)
}

#[test]
fn an_answer_that_trickles_is_the_same() {
    let whole = "HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n4 \r\nbody\r\n0\r\n\r\n";
    let (_upstream, gateway) = saying(whole.chars().map(String::from).collect());
    let answer = gateway.ask(&get("/"));
    assert_eq!(answer.assert_ok().text(), "body");
    assert!(answer.body.whole && answer.header("x-a").as_deref() == Some("1"));
}

#[test]
fn an_answer_that_nobody_asked_for_is_given_to_nobody() {
    let (_upstream, gateway) = saying(vec![[FIRST, SECOND].concat()]);
    let mut connection = gateway.connect();
    for _ in 0..5 {
        assert_eq!(connection.ask(&get("/")).response().assert_ok().text(), "first");
    }
}

#[test]
fn nor_is_one_that_comes_while_nothing_is_asked() {
    let (_upstream, gateway) = saying(vec![FIRST.to_owned(), SECOND.to_owned()]);
    let mut connection = gateway.connect();
    for _ in 0..2 {
        assert_eq!(connection.ask(&get("/")).response().assert_ok().text(), "first");
        // One that came after the next request had been sent could not be told from its answer.
        give_it_a_chance();
    }
}

#[test]
fn a_chunk_whose_line_ends_in_a_bare_line_feed_cuts_the_body() {
    let (_upstream, gateway) =
        saying(vec!["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n4\nmore\r\n0\r\n\r\n".into()]);
    let answer = gateway.ask(&get("/"));
    assert_eq!((answer.status, answer.text().as_str(), answer.body.whole), (200, "body", false));
}

#[test]
fn interim_responses_without_end_are_no_answer() {
    let (_upstream, gateway) = saying(vec!["HTTP/1.1 102 Processing\r\n\r\n".repeat(1001), FIRST.into()]);
    gateway.ask(&get("/")).assert_problem(502, "upstream_broken");
}

#[test]
fn a_head_without_end_is_no_answer() {
    let head = format!("HTTP/1.1 200 OK\r\nX-Long: {}", "x".repeat(300 * 1024));
    let (_upstream, gateway) = saying(vec![head]);
    gateway.ask(&get("/")).assert_problem(502, "upstream_broken");
}
