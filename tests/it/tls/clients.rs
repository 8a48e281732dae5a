//! What holds for plain connections holds under TLS.

use std::io::Read;

use super::House;
use crate::harness::tls::Client;
use crate::harness::{Connection, Recorder, Request, get, http2, post};

#[test]
fn requests_are_served_and_the_upstream_is_told_that_they_came_under_tls() {
    let upstream = Recorder::start();
    let house = House::with(&upstream, "");
    let mut connection = Connection::open(house.relay());
    for body in ["one", "two"] {
        assert_eq!(connection.ask(&post("/", body).making("echo")).response().assert_ok().text(), body);
    }
    let seen = upstream.seen();
    assert_eq!(seen[0].head.all("x-forwarded-proto"), ["https"]);
    assert!(seen[1].header("forwarded").is_some_and(|field| field.ends_with(";proto=https")));
    assert_eq!(house.gateway.json("/config")["listen"][0]["tls"]["key"], "own.key");
}

#[test]
fn large_bodies_pass_both_ways() {
    let upstream = Recorder::start();
    let house = House::with(&upstream, "");
    let body: String = (0..400_000).map(|number| format!("{number:07} ")).collect();
    let mut connection = Connection::open(house.relay());
    assert_eq!(connection.ask(&post("/", &body).making("echo")).response().assert_ok().text(), body);
}

#[test]
fn http2_is_agreed_on() {
    let upstream = Recorder::start();
    let house = House::with(&upstream, "");
    let relay = house.client().offering("h2").relay(house.gateway.address, b"");
    http2::run(async {
        let mut sender = http2::connect(relay).await;
        let answer = sender.send_request(http2::post("/", &[("x-do", "echo")], "hello")).await.expect("an answer");
        assert_eq!(&http2::whole(answer).await.1[..], b"hello");
    });
}

#[test]
fn whoever_agreed_on_a_version_is_held_to_it() {
    let upstream = Recorder::start();
    let house = House::with(&upstream, "");
    let relay = house.client().offering("h2").relay(house.gateway.address, b"");
    let mut connection = Connection::open(relay);
    connection.ask(&get("/"));
    assert!(!connection.rest().starts_with(b"HTTP"), "HTTP/1.1 where HTTP/2 was agreed on");
    http2::run(async {
        let stream = tokio::net::TcpStream::connect(house.relay()).await.expect("a connection");
        let (mut reads, mut writes) = stream.into_split();
        tokio::io::AsyncWriteExt::write_all(&mut writes, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("open");
        let mut heard = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut reads, &mut heard).await;
        assert!(heard.is_empty() || heard.starts_with(b"HTTP/1.1 400"), "{:?}", String::from_utf8_lossy(&heard));
    });
    assert_eq!(upstream.seen().len(), 0);
}

#[test]
fn who_leaves_is_forgotten_whether_it_waits_or_runs() {
    let upstream = Recorder::start();
    let house = House::with(&upstream, "limits: { concurrency: 1 }\ndefaults: { abandoned: cancel }\n");
    let relay = house.relay();
    let begin = |request: &Request| {
        let mut connection = Connection::open(relay);
        connection.ask(request);
        connection
    };
    let running = begin(&get("/runs").making("hold"));
    upstream.wait_seen(1);
    let waiting = begin(&get("/waits"));
    // Its body is read by nobody while it waits, and stands before its good-bye.
    let uploading = begin(&post("/uploads", "x".repeat(60_000)));
    let mut last = begin(&get("/last"));
    house.gateway.wait_for_place(3);
    drop((waiting, uploading));
    house.gateway.wait_for_place(1);
    drop(running);
    last.response().assert_ok();
    house.gateway.wait_metric("turnwise_requests_total", &[("code", "499")], 3.0);
    upstream.open();
    assert_eq!(upstream.targets(), ["/runs", "/last"]);
}

#[test]
fn who_leaves_amid_an_answer_is_noticed() {
    let upstream = Recorder::start();
    let house = House::with(&upstream, "limits: { concurrency: 1 }\n");
    let mut connection = Connection::open(house.relay());
    connection.ask(&get("/").making("stream 1000 20"));
    connection.head();
    connection.until("piece 2");
    drop(connection);
    house.gateway.wait_metric("turnwise_requests_total", &[("code", "499")], 1.0);
    Connection::open(house.relay()).ask(&get("/next")).response().assert_ok();
}

#[test]
fn an_interim_answer_passes() {
    let upstream = Recorder::doing(|exchange| {
        exchange.write("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        exchange.finish("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal");
    });
    let house = House::with(&upstream, "");
    let answer = Connection::open(house.relay()).ask(&get("/")).response();
    assert_eq!(answer.assert_ok().text(), "final");
    assert_eq!(answer.interim.len(), 1);
}

#[test]
fn an_upgraded_connection_is_a_pipe() {
    let upstream = Recorder::doing(|exchange| {
        exchange.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: parrot\r\n\r\n");
        loop {
            let heard = exchange.hear();
            if heard.is_empty() {
                return exchange.close();
            }
            exchange.write(heard);
        }
    });
    let house = House::with(&upstream, "");
    let mut connection = Connection::open(house.relay());
    connection.ask(&get("/").header("Connection", "Upgrade").header("Upgrade", "parrot"));
    assert_eq!(connection.head().word(1), "101");
    let long = "word ".repeat(50_000);
    for word in ["one", &long] {
        connection.send(word);
        assert_eq!(connection.until(word).len(), word.len());
    }
}

#[test]
fn a_client_must_show_a_certificate_where_an_authority_is_named() {
    let upstream = Recorder::start();
    let house = House::listening(&upstream, ", client_ca: ca.pem", "");
    // In TLS 1.3 a client hears of it after its own part of the greeting.
    let mut refused = Connection::open(house.relay());
    refused.ask(&get("/"));
    refused.assert_closed();
    house.gateway.wait_metric("turnwise_connections_turned_away_total", &[], 1.0);
    let own = house.authority.issue(&["somebody"]);
    let known = Client::trusting(&house.authority, "agents.example", Some(&own));
    let relay = known.relay(house.gateway.address, b"");
    Connection::open(relay).ask(&get("/")).response().assert_ok();
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn who_does_not_speak_tls_or_says_nothing_is_turned_away() {
    let upstream = Recorder::start();
    let house = House::with(&upstream, "server: { header_timeout: 300ms }\n");
    for said in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"", b"\x16\x03\x01\x02"] {
        let mut stream = std::net::TcpStream::connect(house.gateway.address).expect("a connection");
        std::io::Write::write_all(&mut stream, said).expect("open");
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard);
        assert!(!heard.starts_with(b"HTTP"), "{heard:?}");
    }
    house.gateway.wait_metric("turnwise_connections_turned_away_total", &[], 3.0);
    assert_eq!(upstream.seen().len(), 0);
}
