//! Places: limits, their queue, priorities and fairness.

use crate::harness::{Answer, House, assert_took, later, paused, settle, timed};

/// Seconds of one metric of `Server-Timing`.
fn timing(answer: &Answer, name: &str) -> f64 {
    let timing = answer.field("server-timing").expect("every proxied answer has it");
    let metric = timing.split(", ").find_map(|metric| metric.strip_prefix(name)?.strip_prefix(";dur="));
    let milliseconds: f64 = metric.and_then(|value| value.parse().ok()).expect("a duration");
    milliseconds / 1000.0
}

#[test]
fn a_place_that_does_not_come_in_time_is_a_503_that_says_when_to_come_back() {
    paused(async {
        let house = House::with_one_agent("limits: {concurrency: 1, queue_timeout: 30s}\n");
        let long = house.get("/?pieces=1&every=50", "");
        settle().await;
        let (took, answer) = timed(house.get("/", "").answer()).await;
        assert_took(took, 30.0);
        assert_eq!((answer.status, answer.reason()), (503, "queue_timeout".into()));
        assert!(answer.retry_after() >= 1, "{}", answer.head);
        assert!(long.answer().await.complete);
        house.at_rest().await;
    });
}

#[test]
fn a_waiting_request_of_low_priority_rises_and_is_not_starved() {
    paused(async {
        let house = House::with_one_agent(
            "limits: {concurrency: 1, queue_timeout: 1h, fair_by: null}\nroutes:\n\
             - {name: low, match: {path: /low}, upstream: agents, priority: low}\n\
             - {name: high, upstream: agents, priority: high}\n",
        );
        let first = house.get("/?think=2", "");
        settle().await;
        let low = house.get("/low?think=2", "X-Id: low\r\n");
        settle().await;
        // There is always a high one waiting.
        let mut high = Vec::new();
        for _ in 0..30 {
            high.push(house.get("/?think=2", "X-Id: high\r\n"));
            later(1.0).await;
        }
        let (took, status) = timed(low.status()).await;
        assert_eq!(status, 200);
        // After 20 s it is as high as the others, and came before all that came later than it.
        let place = house.agent.order().iter().position(|id| id == "low").expect("it ran");
        assert_eq!(place, 11, "it ran after 22 s, and {took} s after the last arrival it was done");
        assert_eq!(first.status().await, 200);
        for one in high {
            assert_eq!(one.status().await, 200);
        }
        house.at_rest().await;
    });
}

#[test]
fn free_places_go_round_the_clients() {
    paused(async {
        let house = House::with_one_agent("limits: {concurrency: 1, queue_timeout: 1h, fair_by: client_ip}\n");
        let mut greedy = Vec::new();
        for n in 0..20 {
            greedy.push(house.ask_from(1, "GET", "/?think=1", &format!("X-Id: greedy{n}\r\n"), ""));
            settle().await;
        }
        let modest = house.ask_from(2, "GET", "/?think=1", "X-Id: modest\r\n", "");
        let (took, status) = timed(modest.status()).await;
        assert_eq!(status, 200);
        assert!(took < 3.1, "it waited {took} s behind a queue of another client");
        for one in greedy {
            assert_eq!(one.status().await, 200);
        }
        house.at_rest().await;
    });
}

#[test]
fn limits_of_route_upstream_and_all_hold_together_and_are_fully_used() {
    paused(async {
        let house = House::new(
            "limits: {concurrency: 5, queue_timeout: 1h}\nupstreams:\n\
             \x20 one: {servers: ['http://one:80'], concurrency: 3}\n  two: {servers: ['http://two:80']}\n\
             routes:\n- {name: narrow, match: {path: /narrow}, upstream: one, concurrency: 2}\n\
             - {name: wide, match: {path: /wide}, upstream: one}\n- {name: other, upstream: two}\n",
        );
        let mut asked = Vec::new();
        for _ in 0..10 {
            for path in ["/narrow", "/wide", "/other"] {
                asked.push(house.get(&format!("{path}?think=10"), ""));
            }
        }
        let (took, ()) = timed(async {
            for one in asked {
                assert_eq!(one.status().await, 200);
            }
        })
        .await;
        let agent = &house.agent;
        assert_eq!((agent.most("all"), agent.most("host:one"), agent.most("path:/narrow")), (5, 3, 2));
        assert_took(took, 70.0); // 20 at one of three at a time; 30 in all of five at a time; the longer with its rest
        house.at_rest().await;
    });
}

#[test]
fn an_exempt_route_takes_no_place_and_no_turn() {
    paused(async {
        let house = House::with_one_agent(
            "limits: {concurrency: 1}\nroutes:\n- {name: health, match: {path: /health}, upstream: agents, exempt: true}\n\
             - {name: all, upstream: agents}\n",
        );
        let long = house.get("/?think=20", "");
        settle().await;
        let (took, status) = timed(house.get("/health", "").status()).await;
        assert_took(took, 0.0);
        assert_eq!(status, 200);
        assert_eq!(long.status().await, 200);
        house.at_rest().await;
    });
}

#[test]
fn server_timing_tells_waiting_from_work() {
    paused(async {
        let house = House::with_one_agent("limits: {concurrency: 1}\n");
        let first = house.get("/?think=20", "");
        settle().await;
        let second = house.get("/?think=10", "");
        let (first, second) = (first.answer().await, second.answer().await);
        for (answer, queue, upstream) in [(first, 0.0, 20.0), (second, 20.0, 10.0)] {
            assert_took(timing(&answer, "queue"), queue);
            assert_took(timing(&answer, "upstream"), upstream);
        }
        house.at_rest().await;
    });
}
