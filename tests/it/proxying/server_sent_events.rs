use crate::harness::{Gateway, Recorder, get};

#[test]
fn every_event_passes_when_it_is_said() {
    let upstream = Recorder::doing(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for event in 0..3 {
            exchange.write(format!("d\r\ndata: now {event}\n\n\r\n"));
            exchange.hold(); // the next one only comes when the client has read this one
        }
        exchange.finish("0\r\n\r\n");
    });
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.begin(&get("/events").header("Accept", "text/event-stream"));
    assert_eq!(connection.head().get("content-type").as_deref(), Some("text/event-stream"));
    for event in 0..3 {
        connection.until(&format!("data: now {event}\n\n"));
        upstream.release();
    }
    connection.until("0\r\n\r\n");
}

#[test]
fn the_head_passes_before_the_body_begins() {
    let upstream = Recorder::doing(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        exchange.hold();
        exchange.finish("0\r\n\r\n");
    });
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.begin(&get("/"));
    assert_eq!(connection.head().word(1), "200");
    upstream.open();
    connection.until("0\r\n\r\n");
}
