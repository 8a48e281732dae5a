//! Connections between two requests: what is kept of them is little, and nobody notices.

use turnwise::control::drain::Drained;

use crate::harness::{Client, House, assert_took, later, paused, settle, timed};

const SERVER: &str = "server: {header_timeout: 10s, keep_alive_timeout: 75s, drain_timeout: 30s}\n";

/// A connection that has had a request `seconds` ago.
async fn rested(house: &House, seconds: f64) -> Client {
    let mut client = house.client();
    client.request("GET", "/", "", "").await;
    assert_eq!(client.answer().await.status, 200);
    later(seconds).await;
    client
}

#[test]
fn a_rested_connection_serves_its_next_requests_however_they_arrive() {
    paused(async {
        let house = House::with_one_agent(SERVER);
        let mut client = rested(&house, 5.0).await;
        for _ in 0..3 {
            client.request("POST", "/?think=3", "", &"x".repeat(10_000)).await;
            assert_eq!(client.answer().await.status, 200);
            later(60.0).await;
        }
        for octet in b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" {
            client.write([*octet]).await;
            later(0.1).await;
        }
        assert_eq!(client.answer().await.status, 200);
        later(5.0).await;
        // Two at once: the second is hyper's to keep until the first is answered.
        client.write("GET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(2)).await;
        assert_eq!((client.answer().await.status, client.answer().await.status), (200, 200));
        drop(client);
        house.at_rest().await;
    });
}

#[test]
fn the_keep_alive_timeout_counts_from_the_last_answer_and_not_from_the_rest() {
    paused(async {
        let house = House::with_one_agent(SERVER);
        for seconds in [0.5, 1.5, 40.0] {
            let mut client = rested(&house, seconds).await;
            let (took, said) = timed(client.until_closed()).await;
            assert_took(took, 75.0 - seconds);
            assert_eq!(said, "");
        }
        house.at_rest().await;
    });
}

#[test]
fn half_a_request_after_the_rest_has_the_time_of_a_head() {
    paused(async {
        let house = House::with_one_agent(SERVER);
        let mut client = rested(&house, 40.0).await;
        client.write("GET / HT").await;
        let (took, said) = timed(client.until_closed()).await;
        assert_took(took, 10.0);
        assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
        house.at_rest().await;
    });
}

#[test]
fn empty_lines_waken_a_connection_and_are_no_request() {
    paused(async {
        let house = House::with_one_agent(SERVER);
        let mut client = rested(&house, 40.0).await;
        for _ in 0..3 {
            client.write("\r\n").await;
            later(5.0).await;
        }
        client.request("GET", "/", "", "").await;
        assert_eq!(client.answer().await.status, 200);
        client.write("\r\n").await;
        let (took, said) = timed(client.until_closed()).await;
        assert_took(took, 75.0);
        assert_eq!(said, "");
        house.at_rest().await;
    });
}

#[test]
fn bad_octets_after_the_rest_are_refused_as_before_it() {
    paused(async {
        let house = House::with_one_agent(SERVER);
        let mut client = rested(&house, 40.0).await;
        client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 400);
        drop(client);
        let mut client = rested(&house, 40.0).await;
        client.write(format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(100_000))).await;
        assert!(client.until_closed().await.starts_with("HTTP/1.1 431 "));
        house.at_rest().await;
    });
}

#[test]
fn a_drain_closes_what_rests_and_serves_what_comes_before_that() {
    paused(async {
        let house = House::with_one_agent(SERVER);
        let mut resting = rested(&house, 5.0).await;
        let mut late = rested(&house, 5.0).await;
        let asked = house.get("/?think=5", "");
        settle().await;
        let control = house.control.clone();
        let draining = tokio::spawn(async move { control.drain(|| {}).await });
        settle().await;
        late.request("GET", "/", "", "").await;
        let answer = late.answer().await;
        assert_eq!((answer.status, answer.field("connection")), (503, Some("close")));
        let (took, said) = timed(resting.until_closed()).await;
        assert_took(took, 5.0);
        assert_eq!((said, late.until_closed().await), (String::new(), String::new()));
        assert_eq!(asked.status().await, 200);
        assert_eq!(draining.await.expect("no panic"), Drained::Clean);
        house.at_rest().await;
    });
}

#[test]
fn an_alarm_of_the_exchange_has_its_connection_polled_in_time() {
    paused(async {
        let house = House::with_one_agent(SERVER);
        let asked = house.get("/?think=9", "");
        settle().await;
        let mut exchanges = vec![];
        house.control.admission.roll.for_each(|exchange| exchanges.push(exchange.clone()));
        let [exchange] = &exchanges[..] else { panic!("one request") };
        // An optional answer is passed on by a poll, which hears of the alarm that was set before.
        exchange.wake_by(exchange.arrived + std::time::Duration::from_secs(5));
        exchange.leave_interim(b"HTTP/1.1 103 Early Hints\r\n\r\n");
        later(4.9).await;
        assert!(exchange.alarm().is_some());
        later(0.2).await;
        let rung = exchange.alarm().is_none_or(|anew| anew > exchange.arrived + std::time::Duration::from_secs(6));
        assert!(rung, "it has rung, and whoever waits for the answer has set it anew");
        assert_eq!(asked.status().await, 200);
        drop(exchanges);
        house.at_rest().await;
    });
}
