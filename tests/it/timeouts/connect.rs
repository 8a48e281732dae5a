use socket2::{Domain, Socket, Type};

use crate::harness::{Gateway, get};

/// A listener that takes no more connections: its backlog is full, and Linux then drops what asks to connect.
fn deaf() -> (Socket, Vec<Socket>, std::net::SocketAddr) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    listener.listen(0).expect("listening");
    let address = listener.local_addr().expect("bound").as_socket().expect("an address");
    let fill = (0..4).map(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_nonblocking(true).expect("nonblocking");
        let _ = socket.connect(&address.into());
        socket
    });
    (listener, fill.collect(), address)
}

#[test]
fn a_server_that_does_not_pick_up_is_a_504() {
    let (_listener, _backlog, address) = deaf();
    let gateway = Gateway::start(
        &format!("http://{address}"),
        "upstreams: { agents: { servers: [\"{upstream}\"], connect_timeout: 200ms } }\n",
    );
    gateway.ask(&get("/")).assert_problem(504, "upstream_timeout");
    assert!(gateway.metric("turnwise_upstream_errors_total", &[("upstream", "agents")]) >= 1.0);
}
