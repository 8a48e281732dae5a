//! Waiting aloud.

use crate::harness::{Answer, Asked, House, assert_took, later, paused, settle, timed};

const EVENTS: &str = "Accept: text/event-stream\r\n";

fn policy(words: &str) -> String {
    format!(
        "limits: {{queue_timeout: 1h}}\n\
         defaults: {{timeouts: {{response: 1h}}}}\n\
         routes: [{{name: runs, upstream: agents, session: {{key: [{{header: X-Session-Id}}], while_waiting: comments, queue_timeout: 1h{words}}}}}]\n"
    )
}

fn ask(house: &House, id: u32, target: &str, fields: &str) -> Asked {
    house.get(target, &format!("X-Session-Id: s\r\nX-Id: {id}\r\n{fields}"))
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).expect("text")
}

#[test]
fn who_waits_for_long_hears_its_position_and_then_gets_its_stream() {
    paused(async {
        let house = House::with_one_agent(&policy(""));
        let first = ask(&house, 1, "/?think=25", "");
        settle().await;
        let second = ask(&house, 2, "/?think=20", "");
        settle().await;
        let third = ask(&house, 3, "/?pieces=3&every=1&size=2&type=text/event-stream", EVENTS);
        settle().await;
        let (took, answer) = timed(third.answer()).await;
        assert_took(took, 48.0);
        assert_eq!((answer.status, answer.complete), (200, true));
        assert_eq!(answer.field("content-type"), Some("text/event-stream"));
        let comments = [2, 2, 2, 1, 1].map(|position| format!(": waiting, position {position}\n\n")).concat();
        assert_eq!(text(&answer), comments + "xxxxxx");
        assert_eq!((first.status().await, second.status().await), (200, 200));
        house.at_rest().await;
    });
}

#[test]
fn who_is_served_within_a_second_or_waits_only_for_its_server_hears_nothing() {
    paused(async {
        let house = House::with_one_agent(&policy(""));
        let first = ask(&house, 1, "/?think=0.9", "");
        settle().await;
        let answer = ask(&house, 2, "/?think=50&status=201", EVENTS).answer().await;
        assert_eq!((answer.status, text(&answer)), (201, "xx".into()));
        assert_eq!(first.status().await, 200);
        house.at_rest().await;
    });
}

#[test]
fn who_does_not_listen_for_events_waits_in_silence() {
    paused(async {
        let house = House::with_one_agent(&policy(""));
        let expects = "Accept: text/event-stream\r\nExpect: 100-continue\r\n";
        for fields in ["", "Accept: */*\r\n", "Accept: application/json\r\n", expects] {
            let first = ask(&house, 1, "/?think=30", "");
            settle().await;
            let answer = ask(&house, 2, "/?status=201", fields).answer().await;
            assert_eq!((answer.status, text(&answer)), (201, "xx".into()));
            assert_eq!(first.status().await, 200);
        }
        house.at_rest().await;
    });
}

#[test]
fn a_body_that_asks_for_a_stream_is_as_good_as_a_field_that_accepts_one_where_it_is_read_anyway() {
    paused(async {
        for (key, listens) in [("json: /s", true), ("header: X-Session-Id", false)] {
            let house = House::with_one_agent(&policy("").replace("header: X-Session-Id", key));
            let ask = |id: u32, target: &str, stream: &str| {
                let fields = format!("Accept: application/json\r\nX-Session-Id: s\r\nX-Id: {id}\r\n");
                house.ask_from(1, "POST", target, &fields, &format!(r#"{{"s":"s","stream":{stream}}}"#))
            };
            let first = ask(1, "/?think=5", "false");
            settle().await;
            let second = ask(2, "/?type=text/event-stream", "true");
            settle().await;
            let third = ask(3, "/?type=text/event-stream", "\"yes\"");
            assert_eq!(text(&second.answer().await).starts_with(": waiting"), listens, "{key}");
            assert_eq!(text(&third.answer().await), "xx", "{key}");
            assert_eq!(first.status().await, 200);
            house.at_rest().await;
        }
    });
}

#[test]
fn a_refusal_that_comes_after_the_head_is_an_event_with_the_problem() {
    paused(async {
        let house = House::with_one_agent(&policy("").replace("queue_timeout: 1h}", "queue_timeout: 15s}"));
        let first = ask(&house, 1, "/?think=30", "");
        settle().await;
        let answer = ask(&house, 2, "/", EVENTS).answer().await;
        assert_eq!((answer.status, answer.complete), (200, true));
        let body = text(&answer);
        let data = body.rsplit_once("event: error\ndata: ").expect("an event").1;
        let problem: serde_json::Value = serde_json::from_str(data.trim()).expect("JSON");
        assert_eq!((&problem["reason"], &problem["status"]), (&"session_queue_timeout".into(), &429.into()));
        // That is where OpenAI's SDK looks.
        assert_eq!(problem["error"]["type"], "session_queue_timeout");
        assert_eq!(problem["error"]["message"], problem["detail"]);
        assert_eq!(body.matches(": waiting, position 1\n\n").count(), 2);
        assert_eq!(first.status().await, 200);
        assert_eq!(house.metric("turnwise_requests_total", "code=\"200\""), 2.0, "that is the code it got");
        assert_eq!(house.metric("turnwise_rejected_total", "session_queue_timeout"), 1.0);
        house.at_rest().await;
    });
}

#[test]
fn an_answer_that_is_no_stream_of_events_is_one_event_with_its_status_and_body() {
    paused(async {
        let house = House::with_one_agent(&policy(""));
        for (target, status, length) in [("/?status=500&size=7", 500, 7), ("/?size=50000&pieces=2", 200, 64 * 1024)] {
            let first = ask(&house, 1, "/?think=5", "");
            settle().await;
            let answer = ask(&house, 2, target, EVENTS).answer().await;
            let body = text(&answer);
            let data = body.strip_prefix(": waiting, position 1\n\nevent: error\ndata: ").expect("one event");
            let said: serde_json::Value = serde_json::from_str(data.trim()).expect("JSON");
            assert_eq!(said["status"], status);
            assert_eq!(said["body"].as_str().expect("text").len(), length);
            assert!(answer.complete);
            assert_eq!(first.status().await, 200);
        }
        house.at_rest().await;
    });
}

#[test]
fn a_stream_that_breaks_off_is_cut_after_comments_too() {
    paused(async {
        let house = House::with_one_agent(&policy(""));
        let first = ask(&house, 1, "/?think=5", "");
        settle().await;
        let answer = ask(&house, 2, "/?pieces=3&every=1&then=break&type=text/event-stream", EVENTS).answer().await;
        assert_eq!((answer.status, answer.complete), (200, false));
        assert_eq!(first.status().await, 200);
        house.at_rest().await;
    });
}

#[test]
fn who_leaves_while_it_hears_leaves_the_line() {
    paused(async {
        let house = House::with_one_agent(&policy(""));
        let first = ask(&house, 1, "/?think=30", "");
        settle().await;
        let second = ask(&house, 2, "/", EVENTS);
        later(12.0).await;
        assert_eq!(house.control.admission.sessions.waiting(), 1);
        second.leave();
        settle().await;
        assert_eq!(house.control.admission.sessions.waiting(), 0);
        assert_eq!(first.status().await, 200);
        assert_eq!(house.agent.order(), ["1"]);
        house.at_rest().await;
    });
}

#[test]
fn who_waits_for_a_place_hears_how_many_came_before_it() {
    paused(async {
        let house = House::with_one_agent(&policy("").replace("limits: {", "limits: {concurrency: 1, fair_by: null, "));
        let mut asked = Vec::new();
        for id in 0..3 {
            asked.push(house.turn(&format!("t{id}"), id, "/?think=10"));
            settle().await;
        }
        let answer = ask(&house, 9, "/?type=text/event-stream", EVENTS).answer().await;
        let positions = [3, 2, 1].map(|position| format!(": waiting, position {position}\n\n")).concat();
        assert_eq!(text(&answer), positions + "xx");
        for one in asked {
            assert_eq!(one.status().await, 200);
        }
        house.at_rest().await;
    });
}

#[test]
fn one_that_joins_hears_how_the_work_waits() {
    paused(async {
        let house = House::with_one_agent(&policy(", duplicates: join"));
        let first = ask(&house, 1, "/?think=15", "");
        settle().await;
        let equal = [0, 1].map(|_| ask(&house, 2, "/?type=text/event-stream", EVENTS));
        let mut joined = 0;
        for one in equal {
            let answer = one.answer().await;
            assert_eq!(text(&answer), ": waiting, position 1\n\n".repeat(2) + "xx");
            joined += usize::from(answer.field("turnwise-joined") == Some("true"));
        }
        assert_eq!(first.status().await, 200);
        assert_eq!((house.agent.order(), joined), (vec!["1".into(), "2".into()], 1));
        house.at_rest().await;
    });
}
