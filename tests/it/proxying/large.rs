//! Bodies stream: the gateway holds a piece of them, never the whole.

use std::io::Write;
use std::time::Duration;

use crate::harness::{Gateway, Recorder, get};

const LARGE: u64 = 64 * 1024 * 1024;
const PIECE: usize = 64 * 1024;
/// What the memory of the gateway may grow by. A debug build with all its buffers stays far below.
const FLAT: u64 = 24 * 1024 * 1024;

#[test]
fn a_large_upload_streams() {
    let upstream = Recorder::doing(|exchange| {
        let mut left = LARGE;
        while left > 0 {
            let heard = exchange.hear().len() as u64;
            if heard == 0 {
                break;
            }
            left = left.saturating_sub(heard);
        }
        let said = if left == 0 { "all" } else { "cut" };
        exchange.finish(format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n{said}"));
        exchange.close();
    });
    let gateway = Gateway::with(&upstream, "defaults: { body_limit: 100MiB }\n");
    let (_, before) = gateway.memory();
    let mut connection = gateway.say(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n"));
    let piece = [b'u'; PIECE];
    for _ in 0..LARGE / PIECE as u64 {
        connection.send(piece);
    }
    assert_eq!(connection.response().assert_ok().text(), "all");
    let (most, _) = gateway.memory();
    assert!(most - before < FLAT, "grew by {} MiB", (most - before) >> 20);
}

#[test]
fn a_large_download_streams() {
    let upstream = Recorder::doing(|exchange| {
        exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
        let piece = [b'd'; PIECE];
        for _ in 1..LARGE / PIECE as u64 {
            exchange.write(piece);
        }
        exchange.finish(piece);
    });
    let gateway = Gateway::before(&upstream);
    let (_, before) = gateway.memory();
    let answer = gateway.ask(&get("/"));
    assert_eq!(answer.assert_ok().body.bytes.len() as u64, LARGE);
    let (most, _) = gateway.memory();
    assert!(most - before < FLAT, "grew by {} MiB", (most - before) >> 20);
}

#[test]
fn a_reader_that_pauses_makes_the_upstream_pause() {
    let (progress, written) = std::sync::mpsc::channel();
    let progress = std::sync::Mutex::new(progress);
    let upstream = Recorder::doing(move |exchange| {
        exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
        let piece = [b'd'; PIECE];
        for _ in 1..LARGE / PIECE as u64 {
            exchange.write(piece);
            let _ = progress.lock().expect("one exchange").send(());
        }
        exchange.finish(piece);
    });
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.begin(&get("/"));
    let mut pieces = 0_u64;
    while written.recv_timeout(Duration::from_millis(700)).is_ok() {
        pieces += 1;
    }
    // What is left over fits into the buffers of three sockets.
    assert!(pieces < LARGE / PIECE as u64 / 2, "{pieces} pieces went somewhere though nobody read");
    assert_eq!(connection.response().assert_ok().body.bytes.len() as u64, LARGE);
}

#[test]
fn an_upstream_that_pauses_makes_the_client_pause() {
    let upstream = Recorder::doing(|exchange| {
        exchange.hold();
        exchange.finish("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        while !exchange.hear().is_empty() {}
        exchange.close();
    });
    let gateway = Gateway::with(&upstream, "defaults: { body_limit: 100MiB }\n");
    let (_, before) = gateway.memory();
    let connection = gateway.say(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n"));
    connection.stream().set_write_timeout(Some(Duration::from_millis(700))).expect("a timeout");
    let mut writer = connection.stream();
    let mut written = 0_u64;
    while let Ok(count @ 1..) = writer.write(&[b'u'; PIECE]) {
        written += count as u64;
        if written >= LARGE {
            break;
        }
    }
    assert!(written < LARGE / 2, "{written} bytes went somewhere though nobody read");
    let (most, _) = gateway.memory();
    assert!(most - before < FLAT, "grew by {} MiB", (most - before) >> 20);
    upstream.open();
    connection.leave();
}
