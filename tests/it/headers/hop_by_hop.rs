//! Fields that are for one connection stay on it (RFC 9110 section 7.6.1).

use crate::harness::{Gateway, Recorder, get};

#[test]
fn the_clients_stay_with_the_client() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let asked = get("/")
        .header("Connection", "keep-alive, X-Private")
        .header("X-Private", "one")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Connection", "keep-alive")
        .header("TE", "gzip")
        .header("Upgrade", "h2c")
        .header("X-Public", "two");
    gateway.ask(&asked).assert_ok();
    let seen = upstream.only();
    for name in ["x-private", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(seen.header(name), None, "{}", seen.head.raw);
    }
    assert!(!seen.head.raw.to_lowercase().contains("gzip"), "{}", seen.head.raw);
    assert!(!seen.header("connection").unwrap_or_default().to_lowercase().contains("x-private"));
    assert_eq!(seen.header("x-public").as_deref(), Some("two"));
}

#[test]
fn the_upstreams_stay_with_the_upstream() {
    let upstream = Recorder::saying(
        "HTTP/1.1 200 OK\r\nConnection: close, X-Private\r\nX-Private: one\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: close\r\nX-Public: two\r\nContent-Length: 2\r\n\r\nok",
    );
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.connect();
    let answer = connection.ask(&get("/")).response();
    for name in ["x-private", "keep-alive", "proxy-connection"] {
        assert_eq!(answer.assert_ok().header(name), None, "{}", answer.head.raw);
    }
    assert_eq!(answer.header("x-public").as_deref(), Some("two"));
    connection.ask(&get("/")).response().assert_ok();
}

#[test]
fn credentials_of_the_client_pass() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let asked = get("/").header("Authorization", "Bearer secret").header("Cookie", "a=b").header("X-Api-Key", "k");
    gateway.ask(&asked).assert_ok();
    let seen = upstream.only();
    assert_eq!(seen.header("authorization").as_deref(), Some("Bearer secret"));
    assert_eq!(seen.header("cookie").as_deref(), Some("a=b"));
    assert_eq!(seen.header("x-api-key").as_deref(), Some("k"));
}

#[test]
fn connection_can_not_name_away_what_the_gateway_sets() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let asked = get("/").header("Connection", "close, X-Forwarded-For, X-Request-Id, Host, Via, Content-Length");
    gateway.ask(&asked).assert_ok();
    let seen = upstream.only();
    for name in ["x-forwarded-for", "x-request-id", "host", "via"] {
        assert!(seen.header(name).is_some(), "{name}: {}", seen.head.raw);
    }
}

#[test]
fn what_only_the_gateway_says_is_not_said_by_an_upstream() {
    let upstream = Recorder::saying(
        "HTTP/1.1 200 OK\r\nTurnwise-Turn: t\r\nTurnwise-Joined: true\r\nTurnwise-Session: s\r\nContent-Length: 0\r\n\r\n",
    );
    let gateway = Gateway::before(&upstream);
    let answer = gateway.ask(&get("/"));
    for name in ["turnwise-turn", "turnwise-joined", "turnwise-session"] {
        assert_eq!(answer.assert_ok().header(name), None, "{name}");
    }
}
