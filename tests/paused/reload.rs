//! Those who wait while the policy changes around them.

use crate::harness::{House, ONE_AGENT, assert_took, later, paused, settle, timed};

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
