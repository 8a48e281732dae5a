//! A client that leaves, in each phase of its request.

use crate::harness::{House, assert_took, later, paused, settle, timed};

fn policy(abandoned: &str) -> String {
    format!(
        "limits: {{concurrency: 1, queue_timeout: 1h}}\nroutes: [{{name: all, upstream: agents, abandoned: {abandoned}, \
         abandoned_limit: 60s, session: {{key: [{{header: X-Session-Id}}], queue_timeout: 1h}}, timeouts: {{response: 1h}}}}]\n"
    )
}

#[test]
fn while_its_body_is_read_for_the_key_what_was_held_comes_back() {
    paused(async {
        let house = House::with_one_agent("routes: [{name: all, upstream: agents, session: {key: [{json: /id}]}}]\n");
        let mut client = house.client();
        client.write("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 90\r\n\r\n{\"id\": 1, ").await;
        settle().await;
        assert!(house.control.admission.held.total() > 0);
        drop(client);
        settle().await;
        assert_eq!(house.control.admission.held.total(), 0);
        house.at_rest().await;
    });
}

#[test]
fn while_it_waits_for_its_turn_or_a_place_it_is_forgotten_at_once() {
    paused(async {
        let house = House::with_one_agent(&policy("auto"));
        let long = house.turn("s", 1, "/?think=100");
        settle().await;
        let turn = house.turn("s", 2, "/");
        let place = house.turn("t", 3, "/");
        settle().await;
        let admission = &house.control.admission;
        assert_eq!((admission.sessions.waiting(), admission.gate.waiting()), (1, 1));
        turn.leave();
        place.leave();
        settle().await;
        assert_eq!((admission.sessions.waiting(), admission.gate.waiting()), (0, 0));
        assert_eq!(admission.sessions.active(), 1);
        assert_eq!(long.status().await, 200);
        assert_eq!(house.metric("turnwise_requests_total", "code=\"499\""), 2.0);
        house.at_rest().await;
    });
}

#[test]
fn while_it_waits_for_a_token_it_is_forgotten_at_once() {
    paused(async {
        let house = House::with_one_agent(
            "routes: [{name: all, upstream: agents, rate_limits: [{per: route, rate: 1/h, burst: 1, when_exceeded: wait, queue_timeout: 2h}]}]\n",
        );
        assert_eq!(house.get("/", "").status().await, 200);
        let waiting = house.get("/", "");
        settle().await;
        assert_eq!(house.control.admission.roll.len(), 1);
        waiting.leave();
        settle().await;
        assert_eq!(house.control.admission.roll.len(), 0);
        house.at_rest().await;
    });
}

#[test]
fn while_it_waits_for_a_server_it_gives_its_place_back() {
    paused(async {
        let house = House::new(
            "limits: {queue_timeout: 1h}\nupstreams: {agents: {balance: session, servers: [{url: 'http://a:80', concurrency: 1}, \
             {url: 'http://b:80', concurrency: 1}]}}\n\
             routes: [{name: all, upstream: agents, session: {key: [{header: X-Session-Id}], concurrency: 9}}]\n",
        );
        let long = house.turn("s", 1, "/?think=20");
        settle().await;
        let leaver = house.turn("s", 2, "/");
        settle().await;
        assert_eq!(house.control.admission.gate.in_use(), 2);
        leaver.leave();
        settle().await;
        assert_eq!(house.control.admission.gate.in_use(), 1);
        assert_eq!(long.status().await, 200);
        assert_eq!(house.agent.order(), ["1"]);
        house.at_rest().await;
    });
}

#[test]
fn before_the_head_with_finish_turn_and_place_stay_taken_until_the_agent_is_done() {
    paused(async {
        for abandoned in ["finish", "auto"] {
            let house = House::with_one_agent(&policy(abandoned));
            let leaver = house.turn("s", 1, "/?think=20&pieces=3&every=5");
            later(10.0).await;
            leaver.leave();
            settle().await;
            assert_eq!((house.agent.running(), house.control.admission.gate.in_use()), (1, 1));
            assert_eq!(house.control.admission.sessions.active(), 1);
            let (took, status) = timed(house.turn("s", 2, "/").status()).await;
            assert_took(took, 25.0);
            assert_eq!((status, house.agent.most("all")), (200, 1));
            assert!(!house.agent.seen()[0].hung_up, "{abandoned}");
            assert_eq!(house.metric("turnwise_abandoned_total", "finished"), 1.0);
            house.at_rest().await;
        }
    });
}

#[test]
fn before_the_head_with_finish_the_abandoned_limit_ends_it() {
    paused(async {
        let house = House::with_one_agent(&policy("finish"));
        let leaver = house.turn("s", 1, "/?think=500");
        later(10.0).await;
        leaver.leave();
        let (took, status) = timed(house.turn("s", 2, "/").status()).await;
        assert_took(took, 60.0);
        assert_eq!((status, house.agent.most("all")), (200, 1));
        assert!(house.agent.seen()[0].hung_up);
        house.at_rest().await;
    });
}

#[test]
fn before_the_head_with_cancel_everything_is_given_back_at_once() {
    paused(async {
        let house = House::with_one_agent(&policy("cancel"));
        let leaver = house.turn("s", 1, "/?think=500");
        later(10.0).await;
        leaver.leave();
        settle().await;
        assert_eq!((house.agent.running(), house.control.admission.gate.in_use()), (0, 0));
        assert!(house.agent.seen()[0].hung_up);
        assert_eq!(house.metric("turnwise_abandoned_total", "cancelled"), 1.0);
        house.at_rest().await;
    });
}

#[test]
fn while_the_answer_streams_auto_and_cancel_hang_up_on_the_agent() {
    paused(async {
        for abandoned in ["auto", "cancel"] {
            let house = House::with_one_agent(&policy(abandoned));
            let leaver = house.turn("s", 1, "/?pieces=100&every=1");
            later(10.0).await;
            leaver.leave();
            settle().await;
            assert_eq!((house.agent.running(), house.control.admission.gate.in_use()), (0, 0), "{abandoned}");
            house.at_rest().await;
        }
    });
}

#[test]
fn while_the_answer_streams_finish_reads_it_to_its_end() {
    paused(async {
        let house = House::with_one_agent(&policy("finish"));
        let leaver = house.turn("s", 1, "/?pieces=30&every=1");
        later(10.5).await;
        leaver.leave();
        let (took, status) = timed(house.turn("s", 2, "/").status()).await;
        assert_took(took, 19.5);
        assert_eq!((status, house.agent.most("all")), (200, 1));
        assert!(!house.agent.seen()[0].hung_up);
        house.at_rest().await;
    });
}

#[test]
fn in_the_middle_of_its_own_body_nothing_is_held_for_it() {
    paused(async {
        for abandoned in ["finish", "cancel", "auto"] {
            let house = House::with_one_agent(&policy(abandoned));
            let mut client = house.client();
            client.write("POST /?think=5 HTTP/1.1\r\nHost: test\r\nContent-Length: 90\r\n\r\nhalf").await;
            later(1.0).await;
            assert_eq!(house.agent.running(), 1);
            drop(client);
            settle().await;
            assert_eq!((house.agent.running(), house.control.admission.gate.in_use()), (0, 0), "{abandoned}");
            assert_eq!(house.metric("turnwise_upstream_errors_total", ""), 0.0, "no fault of the server");
            house.at_rest().await;
        }
    });
}
