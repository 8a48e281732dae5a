//! What a request does whose session is busy.

use crate::harness::{Answer, House, assert_took, later, paused, settle, timed};

fn policy(words: &str) -> String {
    format!(
        "limits: {{queue_timeout: 1h}}\n\
         routes: [{{name: runs, upstream: agents, session: {{key: [{{header: X-Session-Id}}], queue: 3, queue_timeout: 1h, {words}}}}}]\n"
    )
}

fn assert_refused(answer: &Answer, reason: &str) {
    assert_eq!((answer.status, answer.reason()), (409, reason.into()), "{answer:?}");
    assert_eq!(answer.field("x-should-retry"), Some("false"));
}

#[test]
fn who_rejects_is_refused_while_the_session_is_busy_and_let_in_when_it_is_not() {
    paused(async {
        let house = House::with_one_agent(&policy("when_busy: reject"));
        let first = house.turn("s", 1, "/?think=10");
        settle().await;
        assert_refused(&house.turn("s", 2, "/").answer().await, "session_busy");
        assert_eq!(house.turn("t", 3, "/").status().await, 200);
        assert_eq!(first.status().await, 200);
        assert_eq!(house.turn("s", 4, "/").status().await, 200);
        assert_eq!(house.agent.order(), ["1", "3", "4"]);
        house.at_rest().await;
    });
}

#[test]
fn who_replaces_ends_those_who_wait_and_not_the_one_that_runs() {
    paused(async {
        let house = House::with_one_agent(&policy("when_busy: replace"));
        let running = house.turn("s", 1, "/?think=10");
        settle().await;
        let mut replaced = Vec::new();
        for number in 2..6 {
            replaced.push(house.turn("s", number, "/"));
            settle().await;
        }
        let last = replaced.pop().expect("four");
        for one in replaced {
            assert_refused(&one.answer().await, "interrupted");
        }
        assert_eq!((running.status().await, last.status().await), (200, 200));
        assert_eq!(house.agent.order(), ["1", "5"]);
        assert_eq!(house.metric("turnwise_interrupted_total", "by=\"replace\""), 3.0);
        assert_eq!(house.metric("turnwise_rejected_total", "interrupted"), 3.0);
        house.at_rest().await;
    });
}

#[test]
fn who_replaces_also_ends_one_that_has_its_turn_and_waits_for_a_place() {
    paused(async {
        let house =
            House::with_one_agent(&policy("when_busy: replace").replace("limits: {", "limits: {concurrency: 1, "));
        let other = house.turn("other", 1, "/?think=10");
        settle().await;
        let waits = house.turn("s", 2, "/");
        settle().await;
        let newer = house.turn("s", 3, "/");
        assert_refused(&waits.answer().await, "interrupted");
        assert_eq!((other.status().await, newer.status().await), (200, 200));
        assert_eq!(house.agent.order(), ["1", "3"]);
        house.at_rest().await;
    });
}

#[test]
fn who_interrupts_ends_the_one_that_runs_and_begins_when_its_exchange_is_over() {
    paused(async {
        for (abandoned, target) in
            [("finish", "/?think=100"), ("cancel", "/?think=100"), ("finish", "/?pieces=9&every=10")]
        {
            let text =
                policy("when_busy: interrupt").replace("name: runs", &format!("name: runs, abandoned: {abandoned}"));
            let house = House::with_one_agent(&text);
            house.agent.allow("session:s", 1);
            let running = house.turn("s", 1, target);
            later(15.0).await;
            let (took, status) = timed(house.turn("s", 2, "/?think=1").status()).await;
            assert_eq!(status, 200);
            assert_took(took, 1.0);
            let answer = running.answer().await;
            if target.contains("think") {
                assert_refused(&answer, "interrupted");
            } else {
                assert!(answer.status == 200 && !answer.complete, "{answer:?}");
            }
            assert_eq!(house.agent.order(), ["1", "2"]);
            assert!(house.agent.seen()[0].hung_up);
            assert_eq!(house.agent.verdicts(), [""; 0]);
            assert_eq!(house.metric("turnwise_interrupted_total", "by=\"interrupt\""), 1.0);
            house.at_rest().await;
        }
    });
}

#[test]
fn who_interrupts_ends_abandoned_work_too() {
    paused(async {
        let text = policy("when_busy: interrupt").replace("name: runs", "name: runs, abandoned: finish");
        let house = House::with_one_agent(&text);
        let running = house.turn("s", 1, "/?think=50");
        later(1.0).await;
        running.leave();
        settle().await;
        let (took, status) = timed(house.turn("s", 2, "/?think=1").status()).await;
        assert_eq!(status, 200);
        assert_took(took, 1.0);
        assert!(house.agent.seen()[0].hung_up);
        house.at_rest().await;
    });
}

#[test]
fn who_interrupts_ends_work_that_was_given_a_504_too() {
    paused(async {
        let text = policy("when_busy: interrupt")
            .replace("name: runs", "name: runs, abandoned: finish, timeouts: {response: 3s}");
        let house = House::with_one_agent(&text);
        let mut client = house.client();
        client.request("GET", "/?think=50", "X-Session-Id: s\r\n", "").await;
        assert_eq!(client.answer().await.status, 504);
        later(1.0).await;
        let (took, status) = timed(house.turn("s", 2, "/?think=1").status()).await;
        assert_eq!(status, 200);
        assert_took(took, 1.0);
        drop(client);
        house.at_rest().await;
    });
}

#[test]
fn who_is_replaced_while_its_body_is_still_to_come_goes_at_once() {
    paused(async {
        let text = policy("when_busy: replace")
            .replace("servers: ['http://agent:80']", "servers: ['http://agent:80'], retry: {on: [status_503]}");
        let house = House::new(&format!(
            "upstreams: {{agents: {{servers: ['http://agent:80'], retry: {{on: [status_503]}}}}}}\n{text}"
        ));
        let mut slow = house.client();
        slow.write("POST / HTTP/1.1\r\nHost: a\r\nX-Session-Id: s\r\nContent-Length: 5\r\n\r\na").await;
        settle().await;
        let (took, status) = timed(house.turn("s", 2, "/").status()).await;
        assert_eq!(status, 200);
        assert_took(took, 0.0);
        assert_eq!(slow.answer().await.status, 409);
        house.at_rest().await;
    });
}

#[test]
fn those_who_come_while_one_is_being_interrupted_keep_their_order() {
    paused(async {
        let house = House::with_one_agent(&policy("when_busy_choices: [interrupt, wait]"));
        let choose = |number: u8, word: &str| {
            let fields = format!("X-Session-Id: s\r\nX-Id: {number}\r\nTurnwise-When-Busy: {word}\r\n");
            house.get("/?think=5", &fields)
        };
        let first = choose(1, "wait");
        later(1.0).await;
        // All three in one moment, before anything of the first has ended.
        let (second, third, fourth) = (choose(2, "interrupt"), choose(3, "wait"), choose(4, "wait"));
        assert_refused(&first.answer().await, "interrupted");
        for one in [second, third, fourth] {
            assert_eq!(one.status().await, 200);
        }
        assert_eq!(house.agent.order(), ["1", "2", "3", "4"]);
        assert_eq!(house.agent.most("session:s"), 1);
        house.at_rest().await;
    });
}

#[test]
fn a_wider_session_loses_no_more_than_the_one_that_has_run_longest() {
    paused(async {
        let house = House::with_one_agent(&policy("concurrency: 2, when_busy: interrupt"));
        let (oldest, other) = (house.turn("s", 1, "/?think=10"), {
            settle().await;
            house.turn("s", 2, "/?think=10")
        });
        settle().await;
        assert_eq!(house.turn("s", 3, "/").status().await, 200);
        assert_refused(&oldest.answer().await, "interrupted");
        assert_eq!(other.status().await, 200);
        assert_eq!(house.agent.most("session:s"), 2);
        house.at_rest().await;
    });
}

#[test]
fn a_request_chooses_among_the_choices_and_its_choice_goes_no_further() {
    paused(async {
        let house = House::with_one_agent(&policy("when_busy: wait, when_busy_choices: [reject]"));
        let running = house.turn("s", 1, "/?think=10");
        settle().await;
        let choose = |line: &str| house.get("/", &format!("X-Session-Id: s\r\n{line}"));
        assert_refused(&choose("Turnwise-When-Busy: reject\r\n").answer().await, "session_busy");
        for bad in [
            "Turnwise-When-Busy: interrupt\r\n",
            "Turnwise-When-Busy: \r\n",
            "Turnwise-When-Busy: reject\r\nTurnwise-When-Busy: reject\r\n",
        ] {
            let answer = choose(bad).answer().await;
            assert_eq!((answer.status, answer.reason()), (400, "bad_request".into()), "{bad}");
        }
        assert_eq!(running.status().await, 200);
        house.at_rest().await;
    });
}

#[test]
fn one_that_is_replaced_has_spent_no_token_and_one_that_is_interrupted_has() {
    paused(async {
        let text = policy("when_busy: interrupt")
            .replace("upstream: agents,", "upstream: agents, rate_limits: [{per: route, rate: 1/h, burst: 3}],");
        let house = House::with_one_agent(&text);
        let first = house.turn("s", 1, "/?think=10");
        settle().await;
        // The second has its turn only when the first has gone: until then the third replaces it.
        let (second, third) = (house.turn("s", 2, "/"), house.turn("s", 3, "/"));
        assert_refused(&first.answer().await, "interrupted");
        let mut codes = [second.status().await, third.status().await];
        codes.sort_unstable();
        assert_eq!(codes, [200, 409]);
        assert_eq!(house.turn("t", 4, "/").status().await, 200, "two have run, so one of three tokens is left");
        assert_eq!(house.turn("t", 5, "/").status().await, 429);
        house.at_rest().await;
    });
}
