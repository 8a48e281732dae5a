//! Free places go round the clients, not round their requests.

use crate::harness::wait::soon;
use crate::harness::{Gateway, Recorder, get, http2};

#[test]
fn places_go_round_client_addresses() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 1 }\n");
    let mut running = gateway.begin(&get("/0").making("hold"));
    upstream.wait_seen(1);
    let mut line = Vec::new();
    for (place, (client, target)) in
        (1..).zip([(2, "/a1"), (2, "/a2"), (2, "/a3"), (2, "/a4"), (3, "/b1"), (3, "/b2"), (4, "/c1")])
    {
        let mut connection = gateway.connect_from(client);
        connection.ask(&get(target));
        gateway.wait_for_place(place);
        line.push(connection);
    }
    upstream.open();
    running.response().assert_ok();
    for connection in &mut line {
        connection.response().assert_ok();
    }
    assert_eq!(upstream.targets(), ["/0", "/a1", "/b1", "/c1", "/a2", "/b2", "/a3", "/a4"]);
}

#[test]
fn places_go_round_a_header() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 1, fair_by: { header: X-Api-Key } }\n");
    let mut running = gateway.begin(&get("/0").making("hold"));
    upstream.wait_seen(1);
    let of = |key: &str, target: &str| get(target).header("X-Api-Key", key);
    let requests = [of("a", "/a1"), of("a", "/a2"), of("a", "/a3"), of("b", "/b1"), of("b", "/b2")];
    let mut line = super::in_line(&gateway, 0, &requests);
    upstream.open();
    running.response().assert_ok();
    for connection in &mut line {
        connection.response().assert_ok();
    }
    assert_eq!(upstream.targets(), ["/0", "/a1", "/b1", "/a2", "/b2", "/a3"]);
}

#[test]
fn without_fairness_it_is_one_line_for_all() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 1, fair_by: null }\n");
    let mut running = gateway.begin(&get("/0").making("hold"));
    upstream.wait_seen(1);
    let mut line = super::in_line(&gateway, 0, &[get("/a1"), get("/a2"), get("/a3")]);
    let mut other = gateway.connect_from(2);
    other.ask(&get("/b1"));
    gateway.wait_for_place(4);
    upstream.open();
    running.response().assert_ok();
    for connection in line.iter_mut().chain([&mut other]) {
        connection.response().assert_ok();
    }
    assert_eq!(upstream.targets(), ["/0", "/a1", "/a2", "/a3", "/b1"]);
}

#[test]
fn a_trusted_proxy_tells_clients_apart() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 1 }\nserver: { trusted_proxies: [127.0.0.1/32] }\n");
    let mut running = gateway.begin(&get("/0").making("hold"));
    upstream.wait_seen(1);
    let of = |client: &str, target: &str| get(target).header("X-Forwarded-For", client);
    let requests = [of("10.0.0.1", "/a1"), of("10.0.0.1", "/a2"), of("6.6.6.6, 10.0.0.2", "/b1")];
    let mut line = super::in_line(&gateway, 0, &requests);
    upstream.open();
    running.response().assert_ok();
    for connection in &mut line {
        connection.response().assert_ok();
    }
    assert_eq!(upstream.targets(), ["/0", "/a1", "/b1", "/a2"]);
}

#[test]
fn one_http_2_connection_with_200_streams_starves_nobody() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 2 }\n");
    let mut running = [get("/0"), get("/0")].map(|request| gateway.begin(&request.making("hold")));
    upstream.wait_running(2);
    http2::run(async {
        let mut sender = http2::connect(gateway.address).await;
        let greedy: Vec<_> = (0..200).map(|_| sender.send_request(http2::post("/greedy", &[], ""))).collect();
        let greedy: Vec<_> = greedy.into_iter().map(tokio::spawn).collect();
        soon("all 200 wait", || gateway.json("/status")["limits"]["waiting"] == 200).await;
        let mut modest = gateway.connect_from(2);
        modest.ask(&get("/modest"));
        gateway.wait_for_place(201);
        upstream.open();
        for answer in greedy {
            let answer = answer.await.expect("a task").expect("an answer");
            assert_eq!(http2::whole(answer).await.0.as_u16(), 200);
        }
        modest.response().assert_ok();
    });
    for connection in &mut running {
        connection.response().assert_ok();
    }
    let place = upstream.targets().iter().position(|target| target == "/modest").expect("served");
    assert!(place <= 6, "the other client came only after {place} requests");
    assert_eq!(upstream.peak(), 2);
}
