//! A load balancer in front says whose connections it passes on.

use std::io::Read;

use crate::harness::tls::{Authority, Client};
use crate::harness::{Connection, Gateway, Recorder, get};

const LISTEN: &str = "listen: { address: \"{listen}\", proxy_protocol: true }\nserver: { header_timeout: 300ms }\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\x0a\0\0\x01\x1f\x90\0\x50";

#[test]
fn the_client_is_the_one_that_the_header_names() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, LISTEN);
    for header in [&b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 80\r\n"[..], V2, b"PROXY UNKNOWN\r\n"] {
        let request = get("/").header("Connection", "close").bytes();
        let mut connection = gateway.say([header, &request].concat());
        connection.response_to("GET").expect("an answer").assert_ok();
    }
    let clients: Vec<_> = upstream.seen().iter().map(|seen| seen.header("x-forwarded-for").unwrap()).collect();
    assert_eq!(clients, ["192.0.2.7", "192.0.2.9", "127.0.0.1"]);
}

#[test]
fn a_header_comes_before_tls() {
    let upstream = Recorder::start();
    let authority = Authority::new();
    let listen = "listen: { address: \"{listen}\", proxy_protocol: true, tls: { cert: a.pem, key: a.key } }\n";
    let gateway = Gateway::laid_out(&upstream.url(), listen, |folder, text| {
        authority.issue(&["a.example"]).write(folder, "a");
        std::fs::write(folder.join("gateway.yaml"), text).expect("a file");
    });
    let relay = Client::trusting(&authority, "a.example", None).relay(gateway.address, V2);
    Connection::open(relay).ask(&get("/")).response().assert_ok();
    let seen = upstream.only();
    assert_eq!(seen.header("x-forwarded-for").as_deref(), Some("192.0.2.9"));
    assert_eq!(seen.header("x-forwarded-proto").as_deref(), Some("https"));
}

#[test]
fn who_has_no_sound_header_gets_no_word() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, LISTEN);
    let request = get("/").bytes();
    for said in [&request[..], b"PROXY TCP4 1.2.3.4\r\n", b"", b"PROXY TCP4 1"] {
        let mut stream = std::net::TcpStream::connect(gateway.address).expect("a connection");
        std::io::Write::write_all(&mut stream, said).expect("open");
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard);
        assert_eq!(heard, b"", "{said:?}");
    }
    gateway.wait_metric("turnwise_connections_turned_away_total", &[], 4.0);
    assert_eq!(upstream.seen().len(), 0);
}

#[test]
fn without_it_a_header_is_no_request() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.say([&b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 80\r\n"[..], &get("/").bytes()].concat());
    assert_eq!(connection.response_to("GET").expect("an answer").status, 400);
    assert_eq!(upstream.seen().len(), 0);
}
