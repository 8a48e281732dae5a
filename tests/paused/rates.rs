//! Rate limits over time.

use crate::harness::{House, ONE_AGENT, assert_took, later, paused, settle, timed};

fn rate(words: &str) -> String {
    format!("{ONE_AGENT}routes: [{{name: all, upstream: agents, rate_limits: [{{{words}}}]}}]\n")
}

async fn codes(house: &House, count: usize) -> Vec<u16> {
    let mut codes = Vec::new();
    for _ in 0..count {
        codes.push(house.get("/", "").status().await);
    }
    codes
}

#[test]
fn tokens_come_back_one_by_one_and_never_more_than_the_burst() {
    paused(async {
        let house = House::new(&rate("per: client_ip, rate: 6/min, burst: 2"));
        assert_eq!(codes(&house, 3).await, [200, 200, 429]);
        later(9.9).await;
        assert_eq!(codes(&house, 1).await, [429]);
        later(0.2).await;
        assert_eq!(codes(&house, 2).await, [200, 429]);
        later(3600.0).await;
        assert_eq!(codes(&house, 3).await, [200, 200, 429]);
        house.at_rest().await;
    });
}

#[test]
fn retry_after_is_true() {
    paused(async {
        let house = House::new(&rate("per: route, rate: 1/min, burst: 1"));
        assert_eq!(codes(&house, 1).await, [200]);
        later(20.0).await;
        let answer = house.get("/", "").answer().await;
        assert_eq!((answer.status, answer.retry_after()), (429, 40));
        later(40.0).await;
        assert_eq!(codes(&house, 1).await, [200]);
        house.at_rest().await;
    });
}

#[test]
fn a_limit_that_waits_lets_through_in_order_of_arrival_at_its_rate() {
    paused(async {
        let house = House::new(&rate("per: route, rate: 1/s, burst: 1, when_exceeded: wait, queue_timeout: 1h"));
        let mut asked = Vec::new();
        for n in 0..8 {
            asked.push(house.get("/", &format!("X-Id: {n}\r\n")));
            settle().await;
        }
        assert_eq!(house.metric("turnwise_waiting_requests", "queue=\"rate\""), 7.0);
        let (took, ()) = timed(async {
            for one in asked {
                assert_eq!(one.status().await, 200);
            }
        })
        .await;
        assert_took(took, 7.0);
        assert_eq!(house.agent.order(), ["0", "1", "2", "3", "4", "5", "6", "7"]);
        house.at_rest().await;
    });
}

#[test]
fn a_token_that_does_not_come_in_time_is_a_429_and_is_not_spent() {
    paused(async {
        let house = House::new(&rate("per: route, rate: 1/min, burst: 1, when_exceeded: wait, queue_timeout: 30s"));
        assert_eq!(codes(&house, 1).await, [200]);
        let (took, answer) = timed(house.get("/", "").answer()).await;
        assert_took(took, 30.0);
        assert_eq!((answer.status, answer.reason()), (429, "rate_limited".into()));
        assert!((1..=30).contains(&answer.retry_after()), "the token is there in 30 s: {}", answer.head);
        later(30.0).await;
        assert_eq!(timed(house.get("/", "").status()).await.1, 200);
        house.at_rest().await;
    });
}

#[test]
fn one_who_leaves_while_waiting_for_a_token_gives_its_place_to_the_next() {
    paused(async {
        let house = House::new(&rate("per: route, rate: 1/min, burst: 1, when_exceeded: wait, queue_timeout: 1h"));
        assert_eq!(codes(&house, 1).await, [200]);
        let leaver = house.get("/", "");
        settle().await;
        let stayer = house.get("/", "");
        later(30.0).await;
        leaver.leave();
        let (took, status) = timed(stayer.status()).await;
        assert_took(took, 30.0);
        assert_eq!(status, 200);
        house.at_rest().await;
    });
}

#[test]
fn a_balance_survives_a_reload_that_does_not_change_its_definition() {
    paused(async {
        let house = House::new(&rate("per: client_ip, rate: 1/min, burst: 3"));
        assert_eq!(codes(&house, 4).await, [200, 200, 200, 429]);
        house.reload(&format!("limits: {{concurrency: 7}}\n{}", rate("per: client_ip, rate: 1/min, burst: 3")));
        assert_eq!(codes(&house, 1).await, [429]);
        house.reload(&rate("per: client_ip, rate: 1/min, burst: 3, when_exceeded: wait"));
        house.reload(&rate("per: client_ip, rate: 1/min, burst: 3"));
        assert_eq!(codes(&house, 1).await, [429]);
        house.reload(&rate("per: client_ip, rate: 1/min, burst: 4"));
        assert_eq!(codes(&house, 1).await, [200], "another limit begins full");
        house.at_rest().await;
    });
}

#[test]
fn a_request_that_a_later_gate_refuses_gets_its_tokens_back() {
    paused(async {
        let house = House::new(&format!(
            "limits: {{concurrency: 1, queue: 1, queue_timeout: 5s}}\n{}",
            rate("per: route, rate: 1/h, burst: 3")
        ));
        let long = house.get("/?think=20", "");
        settle().await;
        let timed_out = house.get("/", "");
        settle().await;
        assert_eq!(house.get("/", "").answer().await.reason(), "queue_full");
        assert_eq!(timed_out.answer().await.reason(), "queue_timeout");
        assert_eq!(long.status().await, 200);
        assert_eq!(codes(&house, 3).await, [200, 200, 429]);
        house.at_rest().await;
    });
}
