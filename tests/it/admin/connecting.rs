//! A request on its way to a server waits in no queue any more: it has its turn and its place.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

use crate::harness::{Gateway, Recorder, eventually, get};

const ROUTE: &str = "routes:
  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ header: X-Session-Id }] } }
";

fn socket() -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket")
}

#[test]
fn a_request_whose_server_does_not_pick_up_waits_in_no_queue() {
    // Its backlog is full, and Linux then drops what asks to connect.
    let deaf = socket();
    deaf.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    deaf.listen(0).expect("listening");
    let address = deaf.local_addr().expect("bound").as_socket().expect("an address");
    let _backlog = [(); 4].map(|()| {
        let filling = socket();
        filling.set_nonblocking(true).expect("nonblocking");
        let _ = filling.connect(&address.into());
        filling
    });
    let gateway = Gateway::start(
        &format!("http://{address}"),
        &format!("upstreams: {{ agents: {{ servers: [\"{{upstream}}\"], connect_timeout: 5m }} }}\n{ROUTE}"),
    );
    let connecting = gateway.begin(&get("/").session("a"));
    eventually("it is on its way", || gateway.json("/status")["limits"]["in_flight"] == 1);
    let request = &gateway.json("/sessions/a")["requests"][0];
    assert_eq!(
        (&request["state"], &request["waiting_for"]),
        (&"running".into(), &serde_json::Value::Null),
        "{request}"
    );
    let health = gateway.json("/health");
    assert_eq!((&health["processing"], &health["queue_depth"]), (&1.into(), &0.into()), "{health}");
    connecting.leave();
}

#[test]
fn a_request_that_a_server_has_runs() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, ROUTE);
    let mut running = gateway.begin(&get("/").session("a").making("hold"));
    upstream.wait_seen(1);
    let request = &gateway.json("/sessions/a")["requests"][0];
    assert_eq!(
        (&request["state"], &request["waiting_for"]),
        (&"running".into(), &serde_json::Value::Null),
        "{request}"
    );
    let health = gateway.json("/health");
    assert_eq!((&health["processing"], &health["queue_depth"]), (&1.into(), &0.into()), "{health}");
    upstream.open();
    running.response().assert_ok();
}
