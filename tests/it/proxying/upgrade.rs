//! WebSockets and the like: after a 101 the gateway is a pipe, and the request lasts as long as the pipe.

use crate::harness::{Exchange, Gateway, Recorder, get, request};

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n";

/// Agrees to every upgrade and repeats what it hears, until its client is gone.
fn parrot(exchange: &mut Exchange) {
    if exchange.head.get("upgrade").is_none() {
        return exchange.obey();
    }
    exchange.write(SWITCHING);
    loop {
        let heard = exchange.hear();
        if heard.is_empty() {
            return exchange.close();
        }
        exchange.write(heard);
    }
}

fn upgrading() -> crate::harness::Request {
    get("/socket").header("Connection", "Upgrade").header("Upgrade", "parrot")
}

#[test]
fn both_directions_are_a_pipe() {
    let upstream = Recorder::doing(parrot);
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.begin(&upgrading());
    let head = connection.head();
    assert_eq!(head.word(1), "101");
    assert_eq!(head.get("upgrade").as_deref(), Some("parrot"));
    for word in ["one", "two", "\u{0}three\u{0}"] {
        connection.send(word);
        assert_eq!(connection.until(word), word);
    }
    let seen = upstream.only();
    assert_eq!(seen.header("upgrade").as_deref(), Some("parrot"));
    assert!(seen.header("connection").unwrap_or_default().to_lowercase().contains("upgrade"));
}

#[test]
fn it_holds_its_place_until_it_is_closed() {
    let upstream = Recorder::doing(parrot);
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 1 }\n");
    let mut pipe = gateway.begin(&upgrading());
    assert_eq!(pipe.head().word(1), "101");
    let mut waiting = gateway.begin(&get("/next"));
    gateway.wait_for_place(1);
    assert_eq!(gateway.json("/status")["limits"]["in_flight"], 1);
    pipe.leave();
    waiting.response().assert_ok();
    assert_eq!(upstream.peak(), 1);
}

#[test]
fn a_pipe_in_which_nothing_happens_is_closed() {
    let upstream = Recorder::doing(parrot);
    let gateway = Gateway::with(&upstream, "defaults: { timeouts: { idle: 300ms } }\n");
    let mut pipe = gateway.begin(&upgrading());
    assert_eq!(pipe.head().word(1), "101");
    pipe.assert_closed();
}

#[test]
fn a_pipe_is_closed_when_its_total_time_is_over() {
    let upstream = Recorder::doing(parrot);
    let gateway = Gateway::with(&upstream, "defaults: { timeouts: { total: 500ms } }\n");
    let mut pipe = gateway.begin(&upgrading());
    assert_eq!(pipe.head().word(1), "101");
    pipe.assert_closed();
}

#[test]
fn the_upstreams_end_of_the_pipe_reaches_the_client() {
    let upstream = Recorder::doing(|exchange| {
        exchange.write(SWITCHING);
        exchange.write("bye");
        exchange.close();
    });
    let gateway = Gateway::before(&upstream);
    let mut pipe = gateway.begin(&upgrading());
    assert_eq!(pipe.head().word(1), "101");
    assert_eq!(pipe.rest(), b"bye");
}

#[test]
fn a_refused_upgrade_is_an_ordinary_answer() {
    let upstream = Recorder::saying("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    let gateway = Gateway::before(&upstream);
    let answer = gateway.ask(&upgrading());
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
}

#[test]
fn a_switch_that_nobody_asked_for_is_a_broken_upstream() {
    let upstream = Recorder::saying(SWITCHING);
    let gateway = Gateway::before(&upstream);
    gateway.ask(&get("/")).assert_problem(502, "upstream_broken");
    gateway.ask(&request("POST", "/").chunked(&["x"], &[])).assert_problem(502, "upstream_broken");
}
