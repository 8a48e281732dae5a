use crate::harness::{Gateway, Recorder};

const CHUNKS: usize = 300_000;

#[test]
fn a_body_of_tiny_chunks_takes_about_its_length_in_memory() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "routes:
  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ json: /id }] } }
",
    );
    let (before, _) = gateway.memory();
    let mut connection = gateway.say(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\na\r\n{\"id\":\"a\"}\r\n",
    );
    let thousand = "1\r\n \r\n".repeat(1000);
    for _ in 0..CHUNKS / 1000 {
        connection.send(&thousand);
    }
    connection.send("0\r\n\r\n");
    connection.response().assert_ok();
    let (most, _) = gateway.memory();
    // Kept as they came, the chunks would take some 20 MiB for what points to them alone.
    assert!(most - before < 10 << 20, "{} KiB for 300 KB", (most - before) / 1024);
    let seen = upstream.only();
    assert!(seen.body.whole);
    assert_eq!(seen.body.bytes.len(), CHUNKS + 10);
}
