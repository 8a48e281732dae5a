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
fn who_finds_the_line_full_may_come_back_when_its_first_has_gone() {
    paused(async {
        let house =
            House::new(&rate("per: route, rate: 6/min, burst: 5, when_exceeded: wait, queue: 2, queue_timeout: 1h"));
        assert_eq!(codes(&house, 5).await, [200; 5]);
        let waiting = [house.get("/", ""), house.get("/", "")];
        settle().await;
        let answer = house.get("/", "").answer().await;
        assert_eq!((answer.status, answer.retry_after()), (429, 10));
        for one in waiting {
            assert_eq!(one.status().await, 200);
        }
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

/// Room for four keys, and limits by API key: `routes` are paths and their names.
fn four_keys(routes: &[(&str, &str)]) -> String {
    let route = |(path, name): &(&str, &str)| {
        format!(
            "- {{name: {name}, match: {{path_prefix: {path}}}, upstream: agents, \
             rate_limits: [{{per: {{header: X-Api-Key}}, rate: 1/s, burst: 10}}]}}\n"
        )
    };
    format!("{ONE_AGENT}limits: {{keys: 4}}\nroutes:\n{}", routes.iter().map(route).collect::<String>())
}

/// Asks with an API key of its own.
async fn by_key(house: &House, path: &str, key: usize) -> u16 {
    house.get(path, &format!("X-Api-Key: key-{key}\r\n")).status().await
}

#[test]
fn keys_whose_buckets_are_full_again_make_room_for_others_and_no_others_do() {
    paused(async {
        let house = House::new(&four_keys(&[("/", "runs")]));
        for round in 0..10 {
            for key in 0..4 {
                assert_eq!(by_key(&house, "/", round * 10 + key).await, 200);
            }
            let answer = house.get("/", "X-Api-Key: one-more\r\n").answer().await;
            assert_eq!((answer.status, answer.reason()), (503, "key_table_full".into()));
            later(1.1).await;
        }
        house.at_rest().await;
    });
}

#[test]
fn full_buckets_of_one_limit_make_room_for_those_of_another() {
    paused(async {
        let house = House::new(&four_keys(&[("/one", "one"), ("/other", "other")]));
        for key in 0..4 {
            assert_eq!(by_key(&house, "/one", key).await, 200);
        }
        assert_eq!(by_key(&house, "/other", 0).await, 503);
        later(1.1).await;
        assert_eq!(by_key(&house, "/other", 0).await, 200);
        house.at_rest().await;
    });
}

#[test]
fn buckets_that_are_full_again_make_room_for_sessions() {
    paused(async {
        let house = House::new(&format!(
            "{ONE_AGENT}limits: {{keys: 4}}\nroutes: [{{name: runs, upstream: agents, \
             session: {{key: [{{header: X-Session-Id}}]}}, rate_limits: [{{per: session, rate: 1/s, burst: 10}}]}}]\n"
        ));
        for n in 0..20 {
            assert_eq!(house.turn(&format!("session-{n}"), n, "/").status().await, 200);
            later(1.1).await;
        }
        house.at_rest().await;
    });
}
