//! Servers that fail, and for how long they are avoided.

use crate::harness::{Door, House, assert_took, later, paused, settle, timed};

const TWO: &str = "upstreams: {agents: {servers: ['http://a:80', 'http://b:80'], balance: round_robin, \
    eject: {after_failures: 2, for: 10s}, retry: {attempts: 1}}}\n";

async fn hosts(house: &House, count: usize) -> Vec<String> {
    let before = house.agent.seen().len();
    for _ in 0..count {
        let _ = house.get("/", "").status().await;
    }
    house.agent.seen()[before..].iter().map(|seen| seen.host.clone()).collect()
}

#[test]
fn an_ejection_ends_after_its_time() {
    paused(async {
        let house = House::new(TWO);
        house.agent.set_door("a", Door::Refused);
        hosts(&house, 4).await;
        house.agent.set_door("a", Door::Open);
        assert_eq!(hosts(&house, 4).await, ["b", "b", "b", "b"], "ejected");
        later(9.0).await;
        assert_eq!(hosts(&house, 2).await, ["b", "b"], "still ejected");
        later(1.5).await;
        let mut after = hosts(&house, 4).await;
        after.sort();
        assert_eq!(after, ["a", "a", "b", "b"]);
        assert_eq!(house.metric("turnwise_upstream_ejections_total", "http://a:80"), 1.0);
        house.at_rest().await;
    });
}

#[test]
fn the_last_server_is_never_ejected() {
    paused(async {
        let house = House::new(TWO);
        house.agent.set_door("a", Door::Refused);
        house.agent.set_door("b", Door::Refused);
        for _ in 0..10 {
            assert_eq!(house.get("/", "").status().await, 502);
        }
        house.agent.set_door("a", Door::Open);
        house.agent.set_door("b", Door::Open);
        assert_eq!(house.get("/", "").status().await, 200);
        house.at_rest().await;
    });
}

#[test]
fn a_server_that_slams_its_door_is_a_502_and_not_asked_for_ever() {
    paused(async {
        let house = House::new("upstreams: {agents: {servers: ['http://agent:80'], retry: {attempts: 2}}}\n");
        house.agent.set_door("agent", Door::Slammed);
        let (took, answer) = timed(house.get("/", "").answer()).await;
        assert_eq!(answer.status, 502, "{answer:?}");
        assert!(took < 1.0);
        assert!(house.agent.dials() <= 3, "{} dials", house.agent.dials());
        house.at_rest().await;
    });
}

#[test]
fn a_server_that_swallows_a_request_is_a_502_and_is_not_asked_again() {
    paused(async {
        let house = House::new("upstreams: {agents: {servers: ['http://agent:80'], retry: {attempts: 3}}}\n");
        house.agent.set_door("agent", Door::Swallows);
        let answer = house.get("/", "").answer().await;
        assert_eq!((answer.status, answer.reason()), (502, "upstream_broken".into()));
        assert_eq!(house.agent.dials(), 1);
        house.at_rest().await;
    });
}

#[test]
fn an_answer_that_breaks_off_is_cut_and_never_looks_whole() {
    paused(async {
        let house = House::with_one_agent("");
        let answer = house.get("/?pieces=3&every=1&then=break", "").answer().await;
        assert_eq!((answer.status, answer.complete), (200, false));
        house.agent.set_door("agent", Door::Raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234"));
        let answer = timed(house.get("/", "").answer()).await.1;
        assert_eq!((answer.status, answer.body.len(), answer.complete), (200, 4, false));
        house.at_rest().await;
    });
}

#[test]
fn a_101_that_nobody_asked_for_is_a_502() {
    paused(async {
        let house = House::with_one_agent("");
        house.agent.set_door(
            "agent",
            Door::Raw("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
        );
        let answer = house.get("/", "").answer().await;
        assert_eq!((answer.status, answer.reason()), (502, "upstream_broken".into()));
        house.at_rest().await;
    });
}

#[test]
fn a_server_that_fails_its_checks_gets_nothing_until_it_passes_them() {
    paused(async {
        let mut house = House::new(
            "upstreams: {agents: {servers: ['http://a:80', 'http://b:80'], balance: round_robin, \
             health: {path: /health, interval: 5s, timeout: 2s, healthy_after: 2, unhealthy_after: 3}}}\n",
        );
        house.check_health();
        later(1.0).await;
        house.agent.set_door("a", Door::Silent);
        // Checks at 5, 10 and 15 s, each given 2 s: the third has failed by 21 s.
        later(21.5).await;
        let seen = hosts(&house, 4).await;
        assert!(seen.iter().all(|host| host == "b"), "{seen:?}");
        house.agent.set_door("a", Door::Open);
        later(11.0).await;
        let seen = hosts(&house, 4).await;
        assert!(seen.iter().any(|host| host == "a"), "{seen:?}");
        house.at_rest().await;
    });
}

#[test]
fn with_no_healthy_server_the_answer_is_503_at_once() {
    paused(async {
        let mut house = House::new(
            "upstreams: {agents: {servers: ['http://a:80'], health: {path: /health, interval: 5s, timeout: 2s, unhealthy_after: 1}}}\n",
        );
        house.agent.set_door("a", Door::Refused);
        house.check_health();
        later(1.0).await;
        let (took, answer) = timed(house.get("/", "").answer()).await;
        assert_took(took, 0.0);
        assert_eq!((answer.status, answer.reason()), (503, "upstream_unavailable".into()));
        assert!(answer.retry_after() >= 1);
        house.at_rest().await;
    });
}

#[test]
fn one_who_waits_for_a_server_gets_one_whose_ejection_ends() {
    paused(async {
        let house = House::new(
            "limits: {queue_timeout: 1h}\nupstreams: {agents: {servers: [{url: 'http://a:80', concurrency: 1}, \
             {url: 'http://b:80', concurrency: 1}], eject: {after_failures: 1, for: 10s}, retry: {attempts: 1}}}\n",
        );
        house.agent.set_door("a", Door::Refused);
        while house.get("/", "").status().await == 200 {}
        house.agent.set_door("a", Door::Open);
        let long = house.get("/?pieces=10&every=30", "");
        settle().await;
        let (took, status) = timed(house.get("/", "").status()).await;
        assert_eq!(status, 200);
        assert_took(took, 10.0);
        assert!(long.answer().await.complete);
        house.at_rest().await;
    });
}

#[test]
fn a_kept_connection_that_the_server_closed_costs_nothing() {
    paused(async {
        let house = House::with_one_agent("");
        for _ in 0..3 {
            assert_eq!(house.get("/", "").status().await, 200);
        }
        assert_eq!(house.agent.dials(), 1, "the connection is kept");
        later(61.0).await;
        assert_eq!(house.get("/", "").status().await, 200);
        assert_eq!(house.agent.dials(), 2, "idle for too long");
        house.at_rest().await;
    });
}

#[test]
fn over_http2_to_the_server_everything_comes_back_as_well() {
    paused(async {
        let house = House::new(
            "limits: {concurrency: 2, queue_timeout: 1h}\nupstreams: {agents: {servers: ['http://agent:80'], http2: true}}\n\
             routes: [{name: all, upstream: agents, abandoned: cancel}]\n",
        );
        house.agent.speaks_http2("agent");
        let asked: Vec<_> = (0..6).map(|_| house.get("/?think=5&pieces=2&every=1", "")).collect();
        for one in asked {
            assert!(one.answer().await.complete);
        }
        assert_eq!((house.agent.most("all"), house.agent.dials()), (2, 1));
        let leaver = house.get("/?think=500", "");
        settle().await;
        leaver.leave();
        settle().await;
        assert_eq!(house.agent.running(), 0, "its stream was reset");
        house.at_rest().await;
    });
}
