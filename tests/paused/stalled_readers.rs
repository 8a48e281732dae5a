//! A client that takes nothing of its answer gives turn and place back.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::harness::{House, assert_took, later, paused, settle, timed};

const ONE_PLACE: &str = "limits: {concurrency: 1, queue_timeout: 1h}\n\
    routes: [{name: all, upstream: agents, timeouts: {idle: 60s, total: 0s}}]\n";

#[test]
fn a_stalled_reader_of_http1_is_cut_after_the_idle_timeout() {
    paused(async {
        let house = House::with_one_agent(ONE_PLACE);
        let mut stalled = house.client_with(1, 1024);
        stalled.request("GET", "/?pieces=100000&size=1024", "", "").await;
        settle().await;
        let (took, status) = timed(house.get("/", "").status()).await;
        assert_took(took, 60.0);
        assert_eq!(status, 200);
        settle().await;
        drop(stalled);
        house.at_rest().await;
    });
}

#[test]
fn a_reader_that_takes_a_little_now_and_then_is_not_stalled() {
    paused(async {
        let house = House::with_one_agent(ONE_PLACE);
        let mut slow = house.client_with(1, 1024);
        slow.request("GET", "/?pieces=10&size=1024", "", "").await;
        let mut taken = 0;
        while taken < 10 * 1024 {
            later(50.0).await;
            let piece = slow.take(1024).await;
            assert!(piece > 0, "cut after {taken} octets");
            taken += piece;
        }
        drop(slow);
        house.at_rest().await;
    });
}

#[test]
fn a_stalled_reader_has_the_time_of_its_own_route_and_no_others() {
    paused(async {
        let house = House::with_one_agent(
            "limits: {concurrency: 1, queue_timeout: 2h}\nroutes:\n\
             - {name: events, match: {path: /events}, upstream: agents, timeouts: {idle: 1h}}\n\
             - {name: all, upstream: agents, timeouts: {idle: 60s, total: 0s}}\n",
        );
        let mut stalled = house.client_with(1, 1024);
        stalled.request("GET", "/?pieces=100000&size=1024", "", "").await;
        settle().await;
        let (took, status) = timed(house.get("/", "").status()).await;
        assert_eq!(status, 200);
        assert_took(took, 60.0);
        drop(stalled);
        house.at_rest().await;
    });
}

#[test]
fn a_stalled_stream_of_http2_is_reset_after_the_idle_timeout_and_its_neighbours_live() {
    paused(async {
        let house = House::with_one_agent(ONE_PLACE);
        let http2 = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1024)
            .handshake(TokioIo::new(house.stream(1, 16 * 1024)))
            .await;
        let (mut sender, connection) = http2.expect("a handshake");
        let driver = tokio::spawn(connection);
        let request = |target: &str| {
            http::Request::get(format!("http://test{target}")).body(Empty::<Bytes>::new()).expect("a request")
        };
        let stalled = sender.send_request(request("/?pieces=1000&size=1024")).await.expect("a head");
        settle().await;
        // Its window is closed; the next one on the same connection waits for the only place.
        let (took, answer) = timed(sender.send_request(request("/"))).await;
        assert_took(took, 60.0);
        let body = answer.expect("a head").into_body().collect().await;
        assert_eq!(body.expect("whole").to_bytes(), "xx");
        assert!(stalled.into_body().collect().await.is_err(), "it was reset");
        drop(sender);
        driver.abort();
        house.at_rest().await;
    });
}

#[test]
fn a_stalled_stream_of_http2_has_the_time_of_its_own_route() {
    paused(async {
        let house = House::with_one_agent(
            "limits: {concurrency: 1, queue_timeout: 2h}\nroutes:\n\
             - {name: events, match: {path: /events}, upstream: agents, timeouts: {idle: 1h}}\n\
             - {name: all, upstream: agents, timeouts: {idle: 60s, total: 0s}}\n",
        );
        let http2 = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1024)
            .handshake(TokioIo::new(house.stream(1, 16 * 1024)))
            .await;
        let (mut sender, connection) = http2.expect("a handshake");
        let driver = tokio::spawn(connection);
        let request = http::Request::get("http://test/?pieces=1000&size=1024").body(Empty::<Bytes>::new());
        let _stalled = sender.send_request(request.expect("a request")).await.expect("a head");
        settle().await;
        let (took, status) = timed(house.get("/", "").status()).await;
        assert_eq!(status, 200);
        assert_took(took, 60.0);
        drop(sender);
        driver.abort();
        house.at_rest().await;
    });
}
