use crate::harness::{Gateway, Recorder};

/// Answers at once in pieces, and goes on until its client has gone.
fn early() -> Recorder {
    Recorder::doing(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        exchange.client_leaves();
        exchange.close();
    })
}

#[test]
fn a_chunk_that_a_client_breaks_amid_its_answer_counts_against_no_server() {
    let servers = [early(), early()];
    let yaml = format!(
        "upstreams: {{ agents: {{ servers: [\"{}\", \"{}\"], eject: {{ after_failures: 1, for: 60s }} }} }}\n",
        servers[0].url(),
        servers[1].url()
    );
    let gateway = Gateway::with(&servers[0], &yaml);
    for _ in 0..4 {
        let mut connection = gateway.say("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
        assert_eq!(connection.head().word(1), "200");
        connection.until("hello\r\n");
        connection.send("zzz\r\n");
        assert!(!connection.rest().ends_with(b"0\r\n\r\n"), "a cut answer looked whole");
    }
    gateway.assert_all_gauges_zero();
    let metrics = gateway.metrics();
    let sum = |name| metrics.sum(name, &[]).unwrap_or(0.0);
    assert_eq!(sum("turnwise_upstream_errors_total"), 0.0, "{}", metrics.text);
    assert_eq!(sum("turnwise_upstream_ejections_total"), 0.0);
    assert_eq!(sum("turnwise_upstream_healthy"), 2.0);
}
