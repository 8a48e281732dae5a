//! Equal requests share one answer.

use crate::harness::{Answer, Asked, House, assert_took, later, paused, settle, timed};

fn policy(words: &str) -> String {
    format!(
        "defaults: {{timeouts: {{response: 1h}}}}\n\
         routes: [{{name: runs, upstream: agents, {words} session: {{key: [{{header: X-Session-Id}}], within: [{{header: X-Tenant}}], \
         queue: 3, queue_timeout: 1h, duplicates: join, replay_for: 10s}}}}]\n"
    )
}

fn post(house: &House, id: u32, target: &str, fields: &str, body: &str) -> Asked {
    house.ask_from(1, "POST", target, &format!("X-Session-Id: s\r\nX-Id: {id}\r\n{fields}"), body)
}

fn is_joined(answer: &Answer) -> bool {
    answer.field("turnwise-joined") == Some("true")
}

#[test]
fn equal_requests_are_one_to_the_server_whether_it_waits_or_runs() {
    paused(async {
        let house = House::with_one_agent(&policy(""));
        let other = house.turn("s", 0, "/?think=5");
        settle().await;
        let mut asked = Vec::new();
        for id in 1..6 {
            asked.push(post(&house, id, "/?think=5&status=201", &format!("X-Request-Id: r{id}\r\n"), "{}"));
            later(1.5).await;
        }
        let mut answers = Vec::new();
        for one in asked {
            answers.push(one.answer().await);
        }
        for (answer, id) in answers.iter().zip(1..) {
            assert_eq!((answer.status, answer.complete, &answer.body), (201, true, &answers[0].body));
            assert_eq!(is_joined(answer), id > 1);
            assert_eq!(answer.field("x-request-id"), Some(format!("r{id}").as_str()));
        }
        assert_eq!(other.status().await, 200);
        assert_eq!(house.agent.order(), ["0", "1"]);
        assert_eq!(house.metric("turnwise_joined_total", "runs"), 4.0);
        assert_eq!(house.metric("turnwise_requests_total", "code=\"201\""), 5.0);
        later(20.0).await;
        house.at_rest().await;
    });
}

#[test]
fn a_request_that_differs_in_anything_is_another_one() {
    paused(async {
        let house = House::with_one_agent(&policy(""));
        let differ = [
            ("/?think=1", "", "{}"),
            ("/?think=1", "", "{ }"),
            ("/?think=1&x", "", "{}"),
            ("/x?think=1", "", "{}"),
            ("/?think=1", "Authorization: a\r\n", "{}"),
            ("/?think=1", "Authorization: b\r\n", "{}"),
            ("/?think=1", "Cookie: a\r\n", "{}"),
            ("/?think=1", "X-Api-Key: a\r\n", "{}"),
            ("/?think=1", "X-Tenant: a\r\n", "{}"),
            ("/?think=1", "Content-Type: text/plain\r\n", "{}"),
            ("/?think=1", "Accept: text/event-stream\r\n", "{}"),
            ("/?think=1", "Idempotency-Key: a\r\n", "{}"),
            ("/?think=1", "Idempotency-Key: b\r\n", "{}"),
            ("/?think=1", "Authorization: a\r\nIdempotency-Key: a\r\n", "{}"),
        ];
        for (id, (target, fields, body)) in differ.into_iter().enumerate() {
            let answer = post(&house, id as u32, target, fields, body).answer().await;
            assert!(answer.status == 200 && !is_joined(&answer), "{target} {fields} {body}");
        }
        let put = house.ask_from(1, "PUT", "/?think=1", "X-Session-Id: s\r\n", "{}").answer().await;
        assert!(put.status == 200 && !is_joined(&put));
        assert_eq!(house.agent.seen().len(), differ.len() + 1);
        let again = post(&house, 99, "/?think=1", "", "{}").answer().await;
        assert!(!is_joined(&again), "it was kept for ten seconds");
        later(20.0).await;
        house.at_rest().await;
    });
}

#[test]
fn one_key_is_one_request_and_with_another_body_it_is_a_422() {
    paused(async {
        let house = House::with_one_agent(&policy(""));
        let first = post(&house, 1, "/?think=5", "Idempotency-Key: \"k\"\r\n", "{}");
        settle().await;
        let same = post(&house, 2, "/?think=5", "Idempotency-Key: k\r\nAccept: a/b\r\n", "{}");
        settle().await;
        let differs = post(&house, 3, "/?think=5", "Idempotency-Key: k\r\n", "{ }").answer().await;
        assert_eq!((differs.status, differs.reason()), (422, "idempotency_mismatch".into()));
        assert_eq!(differs.field("x-should-retry"), Some("false"));
        assert_eq!(first.status().await, 200);
        assert!(is_joined(&same.answer().await));
        later(9.0).await;
        assert_eq!(post(&house, 4, "/?think=5", "Idempotency-Key: k\r\n", "{ }").status().await, 422);
        later(2.0).await;
        assert_eq!(post(&house, 5, "/?think=5", "Idempotency-Key: k\r\n", "{ }").status().await, 200);
        assert_eq!(house.agent.order(), ["1", "5"]);
        later(20.0).await;
        house.at_rest().await;
    });
}

#[test]
fn a_request_is_the_same_whichever_way_it_names_its_host() {
    paused(async {
        let house = House::with_one_agent(&policy(""));
        let fields = "X-Session-Id: s\r\nIdempotency-Key: k\r\n";
        let asked = [
            house.ask_from(1, "POST", "/?think=5", fields, "body"),
            house.ask_from(1, "POST", "http://test/?think=5", fields, "body"),
        ];
        settle().await;
        let [first, second] = asked;
        assert!(!is_joined(&first.answer().await) && is_joined(&second.answer().await));
        assert_eq!(house.agent.seen().len(), 1);
        house.at_rest().await;
    });
}

#[test]
fn a_finished_answer_serves_for_its_time_whatever_its_status_and_refusals_do_not() {
    paused(async {
        let house = House::with_one_agent(&policy("timeouts: {response: 3s}, abandoned: cancel,"));
        for status in [200, 404, 500] {
            let target = format!("/?pieces=3&size=5&status={status}");
            let first = post(&house, status, &target, "", "{}").answer().await;
            let (took, second) = timed(post(&house, status, &target, "", "{}").answer()).await;
            assert_took(took, 0.0);
            assert_eq!((second.status, &second.body, second.complete), (first.status, &first.body, true));
            assert!(is_joined(&second) && !is_joined(&first));
        }
        assert_eq!(house.agent.seen().len(), 3);
        assert_eq!(house.metric("turnwise_replayed_total", "runs"), 3.0);
        for id in 1..3 {
            assert_eq!(post(&house, id, "/?think=9", "", "{}").status().await, 504);
        }
        assert_eq!(house.agent.seen().len(), 5, "what the gateway says is not kept");
        for id in 1..3 {
            assert!(!post(&house, id, "/?pieces=2&every=1&then=break", "", "{}").answer().await.complete);
        }
        assert_eq!(house.agent.seen().len(), 7, "half an answer is not kept");
        later(20.0).await;
        house.at_rest().await;
    });
}

#[test]
fn who_joins_a_stream_gets_it_from_its_beginning() {
    paused(async {
        let house = House::with_one_agent(&policy(""));
        let target = "/?pieces=10&every=1&size=3";
        let first = post(&house, 1, target, "", "{}");
        later(5.5).await;
        let (took, second) = timed(post(&house, 2, target, "", "{}").answer()).await;
        assert_took(took, 4.5);
        assert_eq!((second.body.len(), second.complete), (30, true));
        assert_eq!(first.answer().await.body, second.body);
        later(20.0).await;
        house.at_rest().await;
    });
}

#[test]
fn a_stream_that_breaks_off_is_cut_for_all_who_share_it() {
    paused(async {
        let house = House::with_one_agent(&policy(""));
        let asked: Vec<_> = (0..3).map(|id| post(&house, id, "/?pieces=3&every=1&then=break", "", "{}")).collect();
        for one in asked {
            let answer = one.answer().await;
            assert_eq!((answer.status, answer.complete), (200, false));
        }
        assert_eq!(house.agent.seen().len(), 1);
        house.at_rest().await;
    });
}

#[test]
fn whoever_leaves_leaves_the_others_their_answer() {
    paused(async {
        for target in ["/?think=10", "/?pieces=10&every=1"] {
            let house = House::with_one_agent(&policy("abandoned: cancel,"));
            let first = post(&house, 1, target, "", "{}");
            settle().await;
            let second = post(&house, 2, target, "", "{}");
            let third = post(&house, 3, target, "", "{}");
            later(2.0).await;
            first.leave();
            later(2.0).await;
            third.leave();
            let answer = second.answer().await;
            assert!(answer.status == 200 && answer.complete && is_joined(&answer));
            assert!(!house.agent.seen()[0].hung_up);
            assert_eq!(house.metric("turnwise_requests_total", "code=\"499\""), 2.0);
            later(20.0).await;
            house.at_rest().await;
        }
    });
}

#[test]
fn when_all_have_left_the_work_is_abandoned_as_the_route_says() {
    paused(async {
        for (abandoned, hung_up, result) in
            [("cancel", true, "cancelled"), ("finish", false, "finished"), ("auto", false, "finished")]
        {
            let house = House::with_one_agent(&policy(&format!("abandoned: {abandoned},")));
            let asked = [post(&house, 1, "/?think=10", "", "{}"), post(&house, 2, "/?think=10", "", "{}")];
            later(1.0).await;
            asked.into_iter().for_each(Asked::leave);
            settle().await;
            assert_eq!(house.agent.running(), usize::from(!hung_up), "{abandoned}");
            later(20.0).await;
            assert_eq!(house.agent.seen()[0].hung_up, hung_up, "{abandoned}");
            assert_eq!(house.metric("turnwise_abandoned_total", result), 1.0, "{abandoned}");
            assert_eq!(house.metric("turnwise_abandoned_total", ""), 1.0, "{abandoned}");
            house.at_rest().await;
        }
    });
}

#[test]
fn who_comes_back_finds_its_work_going_on() {
    paused(async {
        let house = House::with_one_agent(&policy("abandoned: auto, abandoned_limit: 20s,"));
        let first = post(&house, 1, "/?think=30", "Idempotency-Key: k\r\n", "{}");
        later(1.0).await;
        first.leave();
        later(15.0).await;
        let (took, answer) = timed(post(&house, 2, "/?think=30", "Idempotency-Key: k\r\n", "{}").answer()).await;
        assert!(answer.status == 200 && is_joined(&answer));
        assert_took(took, 14.0);
        assert_eq!(house.agent.order(), ["1"]);
        // Who comes back after its end still gets its answer.
        let unheard = post(&house, 7, "/?think=5&pieces=3&every=1", "", "unheard");
        later(1.0).await;
        unheard.leave();
        later(8.0).await;
        assert_eq!(house.agent.running(), 0);
        let late = post(&house, 8, "/?think=5&pieces=3&every=1", "", "unheard").answer().await;
        assert!(is_joined(&late) && late.complete && late.body.len() == 6);
        // And without anybody who comes back its time is over.
        let last = post(&house, 3, "/?think=100", "", "{}");
        later(1.0).await;
        last.leave();
        later(19.0).await;
        assert_eq!(house.agent.running(), 1);
        later(2.0).await;
        assert_eq!(house.agent.running(), 0);
        assert_eq!(house.metric("turnwise_abandoned_total", "cut"), 1.0);
        assert_eq!(house.metric("turnwise_interrupted_total", ""), 0.0);
        later(20.0).await;
        house.at_rest().await;
    });
}

#[test]
fn when_all_who_wait_have_left_the_line_is_left() {
    paused(async {
        let house = House::with_one_agent(&policy(""));
        let running = house.turn("s", 0, "/?think=10");
        settle().await;
        let asked = [post(&house, 1, "/", "", "{}"), post(&house, 2, "/", "", "{}")];
        settle().await;
        assert_eq!(house.control.admission.sessions.waiting(), 1);
        asked.into_iter().for_each(Asked::leave);
        settle().await;
        assert_eq!(house.control.admission.sessions.waiting(), 0);
        assert_eq!(running.status().await, 200);
        later(20.0).await;
        house.at_rest().await;
    });
}

#[test]
fn who_is_refused_is_refused_with_all_who_share_its_lot() {
    paused(async {
        let text = policy("").replace("duplicates", "when_busy_choices: [interrupt], duplicates");
        let house = House::with_one_agent(&text);
        let asked: Vec<_> = (0..3).map(|id| post(&house, id, "/?think=100", "", "{}")).collect();
        later(1.0).await;
        assert_eq!(post(&house, 9, "/", "Turnwise-When-Busy: interrupt\r\n", "newer").status().await, 200);
        for one in asked {
            let answer = one.answer().await;
            assert_eq!((answer.status, answer.reason()), (409, "interrupted".into()));
        }
        assert_eq!(house.metric("turnwise_rejected_total", "interrupted"), 3.0);
        later(20.0).await;
        house.at_rest().await;
    });
}

#[test]
fn a_reader_that_falls_behind_is_cut_and_slows_nobody() {
    paused(async {
        let house = House::with_one_agent(&policy("").replace(", replay_for: 10s", ""));
        let target = "/?pieces=200&size=16384&every=0.01";
        let mut slow = house.client_with(2, 1024);
        slow.request("POST", target, "X-Session-Id: s\r\n", "{}").await;
        settle().await;
        let (took, fast) = timed(post(&house, 2, target, "", "{}").answer()).await;
        assert_took(took, 2.0);
        assert!(fast.complete && fast.body.len() == 200 * 16384);
        let answer = slow.answer().await;
        assert!(answer.status == 200 && !answer.complete, "{} of {}", answer.body.len(), fast.body.len());
        house.at_rest().await;
    });
}

#[test]
fn a_reader_that_takes_nothing_keeps_nobody_from_ending_the_work_and_neither_does_it_outlast_its_time() {
    paused(async {
        let words = "timeouts: {response: 1h, idle: 1h, total: 50s},";
        let text = policy(words)
            .replace("duplicates", "when_busy_choices: [interrupt], duplicates")
            .replace(", replay_for: 10s", "");
        let house = House::with_one_agent(&text);
        let mut stalled = house.client_with(2, 1024);
        stalled.request("POST", "/?pieces=200&size=16384", "X-Session-Id: s\r\n", "{}").await;
        later(10.0).await;
        assert_eq!(house.agent.running(), 1);
        let (took, status) = timed(post(&house, 2, "/", "Turnwise-When-Busy: interrupt\r\n", "newer").status()).await;
        assert_eq!(status, 200);
        assert_took(took, 0.0);
        assert!(!stalled.answer().await.complete);
        let mut stalled = house.client_with(2, 1024);
        stalled.request("POST", "/?pieces=200&size=16384", "X-Session-Id: s\r\n", "{}").await;
        let (took, status) = timed(post(&house, 3, "/", "", "next").status()).await;
        assert_eq!(status, 200);
        assert_took(took, 50.0);
        drop(stalled);
        house.at_rest().await;
    });
}

#[test]
fn a_keyed_request_is_joined_however_long_its_answer_is_and_never_runs_twice() {
    paused(async {
        let house = House::with_one_agent(&policy("").replace(", replay_for: 10s", ""));
        let target = "/?pieces=200&size=16384&every=0.1";
        let first = post(&house, 1, target, "Idempotency-Key: k\r\n", "{}");
        later(15.0).await;
        let second = post(&house, 2, target, "Idempotency-Key: k\r\n", "{}").answer().await;
        assert!(is_joined(&second) && second.complete && second.body.len() == 200 * 16384);
        assert!(first.answer().await.complete);
        assert_eq!(house.agent.order(), ["1"]);
        assert_eq!(post(&house, 3, "/", "Idempotency-Key: \r\n", "a").status().await, 200);
        assert_eq!(post(&house, 4, "/", "Idempotency-Key: \"\"\r\n", "b").status().await, 200, "an empty key is none");
        house.at_rest().await;
    });
}

#[test]
fn a_joiner_that_is_refused_along_with_the_work_has_spent_nothing() {
    paused(async {
        let text = policy("rate_limits: [{per: route, rate: 1/h, burst: 3}],")
            .replace("queue_timeout: 1h", "queue_timeout: 5s");
        let house = House::with_one_agent(&text);
        let running = house.turn("s", 0, "/?think=20");
        settle().await;
        let equal = [post(&house, 1, "/", "", "{}"), post(&house, 2, "/", "", "{}")];
        for one in equal {
            assert_eq!(one.answer().await.reason(), "session_queue_timeout");
        }
        assert_eq!(running.status().await, 200);
        let codes = [post(&house, 3, "/", "", "a").status().await, post(&house, 4, "/", "", "b").status().await];
        assert_eq!(codes, [200, 200], "one of three tokens was spent");
        later(20.0).await;
        house.at_rest().await;
    });
}

#[test]
fn one_slow_reader_alone_sets_the_pace_and_gets_everything() {
    paused(async {
        let house = House::with_one_agent(&policy("").replace(", replay_for: 10s", ""));
        let mut slow = house.client_with(2, 1024);
        slow.request("POST", "/?pieces=200&size=16384", "X-Session-Id: s\r\n", "{}").await;
        later(20.0).await;
        assert_eq!(house.agent.running(), 1, "it is not read ahead of its reader");
        let answer = slow.answer().await;
        assert!(answer.complete && answer.body.len() == 200 * 16384);
        house.at_rest().await;
    });
}

#[test]
fn a_joiner_needs_no_room_in_the_line_and_spends_a_token() {
    paused(async {
        let house = House::with_one_agent(&policy("rate_limits: [{per: route, rate: 1/h, burst: 6}],"));
        let mut asked = vec![post(&house, 0, "/?think=5", "", "0")];
        settle().await;
        for body in ["1", "2", "3", "1"] {
            asked.push(post(&house, 1, "/", "", body));
            settle().await;
        }
        assert_eq!(post(&house, 4, "/", "", "4").status().await, 429, "the line is full");
        for one in asked {
            assert_eq!(one.status().await, 200);
        }
        let last = post(&house, 5, "/", "", "1").answer().await;
        assert!(is_joined(&last) && last.field("ratelimit").is_some_and(|it| it.contains("r=0")), "{}", last.head);
        assert_eq!(post(&house, 6, "/", "", "1").status().await, 429);
        later(20.0).await;
        house.at_rest().await;
    });
}
