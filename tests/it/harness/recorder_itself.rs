//! The judge judged: client and recorder against each other, without a gateway.

use super::client::{Connection, get, post};
use super::recorder::Recorder;

#[test]
fn it_counts_what_runs_at_once() {
    let recorder = Recorder::start();
    let held: Vec<_> = (0..3)
        .map(|place| {
            let mut connection = Connection::open(recorder.address());
            connection.ask(&get(&format!("/{place}")).making("hold"));
            recorder.wait_seen(place + 1);
            connection
        })
        .collect();
    recorder.release();
    recorder.wait_running(2);
    recorder.open();
    for mut connection in held {
        connection.response().assert_ok();
    }
    assert_eq!(recorder.peak(), 3);
    assert_eq!(recorder.peak_of(|seen| seen.target() == "/1"), 1);
    assert_eq!(recorder.targets(), ["/0", "/1", "/2"]);
}

#[test]
fn it_does_not_notice_that_a_client_has_gone() {
    let recorder = Recorder::start();
    let mut connection = Connection::open(recorder.address());
    connection.ask(&get("/").making("hold"));
    recorder.wait_running(1);
    connection.leave();
    super::wait::give_it_a_chance();
    assert_eq!(recorder.running(), 1);
}

#[test]
fn bodies_come_through_in_both_framings() {
    let recorder = Recorder::start();
    let mut connection = Connection::open(recorder.address());
    let sized = connection.ask(&post("/", "hello").making("echo")).response();
    assert_eq!(sized.assert_ok().text(), "hello");
    let chunked = super::client::request("POST", "/").chunked(&["hel", "lo"], &[("X-Sum", "5")]).making("echo");
    assert_eq!(connection.ask(&chunked).response().assert_ok().text(), "hello");
    assert_eq!(recorder.seen()[1].body.trailers, [("X-Sum".to_owned(), "5".to_owned())]);
    let streamed = connection.ask(&get("/").making("stream 3 1")).response();
    assert_eq!(streamed.assert_ok().text(), "piece 0\npiece 1\npiece 2\n");
    assert_eq!(recorder.connections(), 1);
}

#[test]
fn a_cut_is_seen_as_a_cut() {
    let recorder = Recorder::doing(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        exchange.reset();
    });
    let answer = Connection::open(recorder.address()).ask(&get("/")).response();
    assert!(!answer.body.whole);
}

#[test]
fn an_interim_answer_is_kept_apart() {
    let recorder = Recorder::start();
    let mut connection = Connection::open(recorder.address());
    let answer = connection.ask(&post("/", "x").header("Expect", "100-continue")).response();
    assert_eq!(answer.assert_ok().interim.len(), 1);
}

#[test]
fn http_2_is_spoken_by_client_and_server() {
    let server = super::http2::Server::start();
    super::http2::run(async {
        let mut sender = super::http2::connect(server.address).await;
        let answer = sender.send_request(super::http2::post("/", &[], "hello")).await.expect("an answer");
        assert_eq!(&super::http2::whole(answer).await.1[..], b"hello");
    });
}

#[test]
fn it_knows_who_has_begun() {
    let recorder = Recorder::start();
    std::thread::scope(|scope| {
        scope.spawn(|| recorder.wait_tag("late"));
        super::wait::give_it_a_chance();
        Connection::open(recorder.address()).ask(&get("/").header("X-Tag", "late")).response().assert_ok();
    });
    recorder.wait_tag("late");
}
