//! Those who wait while the policy changes around them.

use crate::harness::{Asked, House, ONE_AGENT, assert_took, later, paused, settle, timed};

fn limits(words: &str) -> String {
    format!("limits: {{{words}}}\n{ONE_AGENT}defaults: {{timeouts: {{response: 1h}}}}\n")
}

fn session(words: &str) -> String {
    format!(
        "{ONE_AGENT}routes: [{{name: runs, upstream: agents, session: {{key: [{{header: X-Session-Id}}], {words}}}}}]\n"
    )
}

#[test]
fn a_raised_limit_admits_at_once_and_a_lowered_one_drains() {
    paused(async {
        let house = House::new(&limits("concurrency: 1, queue_timeout: 1h"));
        let mut asked: Vec<_> = (0..9).map(|_| house.get("/?think=100", "")).collect();
        settle().await;
        assert_eq!(house.agent.running(), 1);
        house.reload(&limits("concurrency: 4, queue_timeout: 1h"));
        settle().await;
        assert_eq!(house.agent.running(), 4);
        house.reload(&limits("concurrency: 2, queue_timeout: 1h"));
        later(50.0).await;
        assert_eq!(house.agent.running(), 4, "whoever runs goes on");
        later(51.0).await;
        assert_eq!(house.agent.running(), 2);
        let (_, ()) = timed(async {
            for one in asked.drain(..) {
                assert_eq!(one.status().await, 200);
            }
        })
        .await;
        house.at_rest().await;
    });
}

#[test]
fn a_widened_lane_lets_in_those_who_wait_in_their_order() {
    paused(async {
        let house = House::new(&session("concurrency: 1, queue_timeout: 1h"));
        let mut asked = Vec::new();
        for n in 0..6 {
            asked.push(house.turn("s", n, "/?think=10"));
            settle().await;
        }
        house.reload(&session("concurrency: 3, queue_timeout: 1h"));
        settle().await;
        assert_eq!(house.agent.order(), ["0", "1", "2"]);
        house.reload(&session("concurrency: 1, queue_timeout: 1h"));
        for one in asked {
            assert_eq!(one.status().await, 200);
        }
        assert_eq!(house.agent.order(), ["0", "1", "2", "3", "4", "5"]);
        house.at_rest().await;
    });
}

#[test]
fn deadlines_stay_what_they_were_on_arrival() {
    paused(async {
        let house = House::new(&limits("concurrency: 1, queue_timeout: 30s"));
        let long = house.get("/?pieces=1&every=50", "");
        settle().await;
        let before = house.get("/", "");
        later(10.0).await;
        house.reload(&limits("concurrency: 1, queue_timeout: 1s"));
        let after = house.get("/", "");
        let (took, answer) = timed(after.answer()).await;
        assert_took(took, 1.0);
        assert_eq!(answer.reason(), "queue_timeout");
        let (took, answer) = timed(before.answer()).await;
        assert_took(took, 19.0);
        assert_eq!(answer.reason(), "queue_timeout");
        assert!(long.answer().await.complete);
        house.at_rest().await;
    });
}

#[test]
fn who_runs_keeps_the_policy_it_was_admitted_under() {
    paused(async {
        let with = |response: &str| format!("{ONE_AGENT}defaults: {{timeouts: {{response: {response}}}}}\n");
        let house = House::new(&with("60s"));
        let running = house.get("/?think=30", "");
        settle().await;
        house.reload(&with("10s"));
        let answer = house.get("/?think=30", "").answer().await;
        assert_eq!((answer.status, answer.reason()), (504, "upstream_timeout".into()));
        assert_eq!(running.status().await, 200);
        later(20.0).await; // the agent works on after the 504
        house.at_rest().await;
    });
}

#[test]
fn a_turns_deadline_stays_what_it_was_on_arrival() {
    paused(async {
        let house = House::new(&session("queue_timeout: 30s"));
        let long = house.turn("s", 1, "/?pieces=2&every=50");
        settle().await;
        let waiting = house.turn("s", 2, "/");
        later(10.0).await;
        house.reload(&session("queue_timeout: 1h"));
        let (took, answer) = timed(waiting.answer()).await;
        assert_took(took, 20.0);
        assert_eq!(answer.reason(), "session_queue_timeout");
        assert!(long.answer().await.complete);
        house.at_rest().await;
    });
}

fn rate(limits: &str) -> String {
    format!("{ONE_AGENT}routes: [{{name: runs, upstream: agents, rate_limits: [{limits}]}}]\n")
}

/// So many requests, of which the first passes and the others wait for their tokens.
async fn wait_for_tokens(house: &House, count: usize) -> Vec<Asked> {
    let mut asked = Vec::new();
    for n in 0..count {
        asked.push(house.get("/", &format!("X-Id: {n}\r\n")));
        settle().await;
    }
    assert_eq!(house.metric("turnwise_waiting_requests", "queue=\"rate\""), (count - 1) as f64);
    asked
}

#[test]
fn a_raised_rate_lets_through_who_waits_for_a_token_before_those_who_come() {
    paused(async {
        let slow = "{per: route, rate: 1/h, burst: 1, when_exceeded: wait, queue_timeout: 2h}";
        let house = House::new(&rate(slow));
        let mut asked = wait_for_tokens(&house, 4).await;
        house.reload(&rate(&slow.replace("1/h", "1/min")));
        asked.push(house.get("/", "X-Id: 4\r\n"));
        settle().await;
        assert_eq!(house.agent.order(), ["0", "1"], "the new bucket is full");
        let last = asked.pop().expect("five");
        let (took, answer) = timed(last.answer()).await;
        assert_took(took, 180.0);
        assert_eq!(answer.field("ratelimit-policy"), Some("\"route\";q=1;w=60"));
        for one in asked {
            assert_eq!(one.status().await, 200);
        }
        assert_eq!(house.agent.order(), ["0", "1", "2", "3", "4"]);
        house.at_rest().await;
    });
}

#[test]
fn a_lowered_rate_holds_for_those_who_wait_and_their_deadline_stays() {
    paused(async {
        let fast = "{per: route, rate: 6/min, burst: 1, when_exceeded: wait, queue_timeout: 60s}";
        let house = House::new(&rate(fast));
        let mut asked = wait_for_tokens(&house, 3).await;
        house.reload(&rate(&fast.replace("6/min", "1/h").replace("60s", "5h")));
        let answer = asked.pop().expect("three").answer();
        let (took, answer) = timed(answer).await;
        assert_took(took, 60.0);
        assert_eq!((answer.status, answer.reason()), (429, "rate_limited".into()));
        assert_eq!(answer.field("ratelimit-policy"), Some("\"route\";q=1;w=3600"));
        assert_eq!(house.agent.order(), ["0", "1"], "the new bucket had one token");
        drop(asked);
        house.at_rest().await;
    });
}

#[test]
fn who_waits_for_a_token_of_a_limit_that_is_taken_away_needs_none() {
    let other = "{per: client_ip, rate: 1/h, burst: 9}";
    let named = "{name: other, per: route, rate: 1/h, burst: 9}";
    for without in ["", other, named] {
        paused(async {
            let house = House::new(&rate("{per: route, rate: 1/h, burst: 1, when_exceeded: wait, queue_timeout: 2h}"));
            let asked = wait_for_tokens(&house, 4).await;
            house.reload(&rate(without));
            let (took, ()) = timed(async {
                for one in asked {
                    assert_eq!(one.status().await, 200);
                }
            })
            .await;
            assert_took(took, 0.0);
            assert_eq!(house.agent.order(), ["0", "1", "2", "3"]);
            house.at_rest().await;
        });
    }
}

#[test]
fn a_limit_that_now_rejects_lets_those_go_on_waiting_who_wait() {
    paused(async {
        let waits = "{per: route, rate: 1/min, burst: 1, when_exceeded: wait, queue_timeout: 2h}";
        let house = House::new(&rate(waits));
        let mut asked = wait_for_tokens(&house, 2).await;
        house.reload(&rate("{per: route, rate: 1/min, burst: 1}"));
        assert_eq!(house.get("/", "").answer().await.reason(), "rate_limited");
        let (took, status) = timed(asked.pop().expect("two").status()).await;
        assert_eq!(status, 200);
        assert_took(took, 60.0);
        house.at_rest().await;
    });
}

#[test]
fn a_token_of_a_later_definition_goes_back_to_its_bucket() {
    paused(async {
        let with = |burst: u32| {
            format!(
                "limits: {{concurrency: 1, queue_timeout: 5s}}\n{}",
                rate(&format!("{{per: route, rate: 1/h, burst: {burst}, when_exceeded: wait, queue_timeout: 2h}}"))
            )
        };
        let house = House::new(&with(1));
        let running = house.get("/?think=20", "");
        settle().await;
        let waiting = house.get("/", "");
        settle().await;
        house.reload(&with(2));
        assert_eq!(waiting.answer().await.reason(), "queue_timeout");
        assert_eq!(running.status().await, 200);
        let (took, answer) = timed(house.get("/", "").answer()).await;
        assert_took(took, 0.0);
        assert_eq!((answer.status, answer.field("ratelimit")), (200, Some("\"route\";r=1;t=3600")));
        house.at_rest().await;
    });
}

#[test]
fn a_route_that_is_removed_still_serves_those_who_wait_in_it() {
    paused(async {
        let house = House::new(&session("queue_timeout: 1h"));
        let asked: Vec<_> = (0..4).map(|n| house.turn("s", n, "/?think=10")).collect();
        settle().await;
        house.reload("upstreams: {others: {servers: ['http://other:80']}}\nroutes: [{name: new, upstream: others}]\n");
        assert_eq!(house.get("/", "").status().await, 200);
        for one in asked {
            assert_eq!(one.status().await, 200);
        }
        let hosts: Vec<String> = house.agent.seen().into_iter().map(|seen| seen.host).collect();
        assert_eq!(hosts.iter().filter(|host| *host == "agent").count(), 4);
        assert_eq!((house.agent.most("session:s"), house.agent.now("host:other")), (1, 0));
        house.at_rest().await;
    });
}

#[test]
fn who_waits_goes_to_the_servers_that_the_upstream_has_by_then() {
    paused(async {
        let with =
            |upstreams: &str| format!("limits: {{concurrency: 1, queue_timeout: 1h}}\nupstreams: {{{upstreams}}}\n");
        let house = House::new(&with("agents: {servers: ['http://old:80']}"));
        let mut asked = Vec::new();
        for n in 0..3 {
            asked.push(house.get("/?think=10", &format!("X-Id: {n}\r\n")));
            settle().await;
        }
        house.reload(&with("agents: {servers: ['http://new:80']}"));
        later(10.0).await;
        // Under another name it is another upstream, which they did not ask for.
        house.reload(&with("others: {servers: ['http://others:80']}"));
        for one in asked {
            assert_eq!(one.status().await, 200);
        }
        let hosts: Vec<_> = house.agent.seen().into_iter().map(|seen| seen.host).collect();
        assert_eq!(hosts, ["old", "new", "old"]);
        house.at_rest().await;
    });
}

#[test]
fn a_route_that_goes_and_comes_back_still_knows_who_runs_in_it() {
    paused(async {
        let narrow = format!("{ONE_AGENT}routes: [{{name: narrow, upstream: agents, concurrency: 1}}]\n");
        let house = House::new(&narrow);
        let long = house.get("/?think=20", "");
        settle().await;
        house.reload(&format!("{ONE_AGENT}routes: [{{name: other, upstream: agents}}]\n"));
        house.reload(&narrow);
        let (took, status) = timed(house.get("/", "").status()).await;
        assert_took(took, 20.0);
        assert_eq!((status, house.agent.most("all")), (200, 1));
        assert_eq!(long.status().await, 200);
        house.at_rest().await;
    });
}

#[test]
fn a_servers_raised_limit_lets_in_who_waits_for_it() {
    paused(async {
        let policy = |limit: u32| {
            format!(
                "limits: {{queue_timeout: 1h}}\nupstreams: {{agents: {{balance: session, servers: \
                 [{{url: 'http://a:80', concurrency: {limit}}}, {{url: 'http://b:80', concurrency: {limit}}}]}}}}\n\
                 routes: [{{name: all, upstream: agents, session: {{key: [{{header: X-Session-Id}}], concurrency: 9}}}}]\n"
            )
        };
        let house = House::new(&policy(1));
        let first = house.turn("s", 1, "/?think=20");
        settle().await;
        let second = house.turn("s", 2, "/?think=20");
        settle().await;
        assert_eq!(house.agent.running(), 1, "its server is busy");
        house.reload(&policy(2));
        settle().await;
        assert_eq!(house.agent.running(), 2);
        assert_eq!((first.status().await, second.status().await), (200, 200));
        house.at_rest().await;
    });
}
