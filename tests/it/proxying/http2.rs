use std::sync::atomic::Ordering;

use crate::harness::wait::soon;
use crate::harness::{Gateway, Recorder, get, http2, post};

#[test]
fn prior_knowledge_works_on_the_same_port() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    http2::run(async {
        let mut sender = http2::connect(gateway.address).await;
        let answer =
            sender.send_request(http2::post("/two?x=1", &[("x-do", "echo")], "hello")).await.expect("an answer");
        let (status, body) = http2::whole(answer).await;
        assert_eq!((status.as_u16(), &body[..]), (200, &b"hello"[..]));
    });
    let seen = upstream.only();
    assert_eq!(seen.head.first, "POST /two?x=1 HTTP/1.1");
    assert_eq!(seen.head.all("host"), ["agents.example"]);
    gateway.ask(&get("/one")).assert_ok();
}

#[test]
fn a_refusal_is_a_problem_there_too() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "routes: [{ name: a, match: { path: /a }, upstream: agents }]\n");
    http2::run(async {
        let mut sender = http2::connect(gateway.address).await;
        let answer = sender.send_request(http2::post("/b", &[], "")).await.expect("an answer");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let (status, body) = http2::whole(answer).await;
        assert_eq!(status.as_u16(), 404);
        let problem: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(problem["reason"], "no_route");
    });
}

#[test]
fn a_cut_body_is_a_reset_stream_and_the_connection_goes_on() {
    let upstream = Recorder::doing(|exchange| {
        if exchange.head.word(1) != "/cut" {
            return exchange.obey();
        }
        exchange.read_body();
        exchange.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        exchange.close();
    });
    let gateway = Gateway::before(&upstream);
    http2::run(async {
        use http_body_util::BodyExt;
        let mut sender = http2::connect(gateway.address).await;
        let answer = sender.send_request(http2::post("/cut", &[], "")).await.expect("a head");
        assert!(answer.into_body().collect().await.is_err(), "a cut body looked whole");
        let answer = sender.send_request(http2::post("/fine", &[], "")).await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 200);
    });
}

#[test]
fn a_stream_that_is_reset_while_it_waits_is_forgotten() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 1 }\n");
    let mut running = gateway.begin(&get("/running").making("hold"));
    upstream.wait_running(1);
    http2::run(async {
        let mut sender = http2::connect(gateway.address).await;
        let waiting = tokio::spawn(sender.send_request(http2::post("/gone", &[], "")));
        soon("it waits", || gateway.json("/status")["limits"]["waiting"] == 1).await;
        waiting.abort();
        let _ = waiting.await;
        soon("it is forgotten", || gateway.json("/status")["limits"]["waiting"] == 0).await;
    });
    upstream.open();
    running.response().assert_ok();
    assert_eq!(upstream.targets(), ["/running"]);
}

#[test]
fn the_servers_can_be_spoken_to_in_http_2() {
    let upstream = http2::Server::start();
    let gateway = Gateway::start(
        &format!("http://{}", upstream.address),
        "server: { workers: 1 }\nupstreams: { agents: { servers: [\"{upstream}\"], http2: true } }\n",
    );
    let mut waiting: Vec<_> = (0..20).map(|place| gateway.begin(&post("/", format!("{place}")))).collect();
    for (place, connection) in waiting.iter_mut().enumerate() {
        let answer = connection.response();
        assert_eq!(answer.assert_ok().text(), place.to_string());
        assert_eq!(answer.header("x-spoken").as_deref(), Some("HTTP/2.0"));
    }
    assert_eq!(upstream.served.load(Ordering::SeqCst), 20);
    assert!(upstream.connections.load(Ordering::SeqCst) <= 20);
}

#[test]
fn a_client_that_closes_its_window_does_not_hold_its_place_for_ever() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 1 }\ndefaults: { timeouts: { idle: 400ms } }\n");
    http2::run(async {
        let mut sender = http2::connect(gateway.address).await;
        // More than every window: nobody reads it, so it can never end by itself.
        let stalled = sender.send_request(http2::post("/", &[("x-do", "body 67108864")], "")).await.expect("a head");
        let address = gateway.address;
        let next = tokio::task::spawn_blocking(move || {
            crate::harness::Connection::open(address).ask(&get("/next")).response().status
        });
        assert_eq!(next.await.expect("a client"), 200, "the place came back");
        drop(stalled);
    });
}
