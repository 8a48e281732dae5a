//! Turns of one session.

use crate::harness::{House, assert_took, later, paused, settle, timed};

fn session(words: &str) -> String {
    format!("routes: [{{name: runs, upstream: agents, session: {{key: [{{header: X-Session-Id}}]{words}}}}}]\n")
}

#[test]
fn turns_of_one_session_follow_one_another_in_order_of_arrival_and_sessions_run_side_by_side() {
    paused(async {
        let house = House::with_one_agent(&session(", queue_timeout: 1h"));
        let mut asked = Vec::new();
        for n in 0..10 {
            asked.push(house.turn("a", format!("a{n}"), "/?think=3&pieces=2&every=1"));
            asked.push(house.turn("b", format!("b{n}"), "/?think=3&pieces=2&every=1"));
            settle().await;
        }
        let (took, ()) = timed(async {
            for one in asked {
                assert!(one.answer().await.complete);
            }
        })
        .await;
        assert_took(took, 50.0);
        for session in ["a", "b"] {
            let order: Vec<String> = house.agent.order().into_iter().filter(|id| id.starts_with(session)).collect();
            assert_eq!(order, (0..10).map(|n| format!("{session}{n}")).collect::<Vec<_>>());
            assert_eq!(house.agent.most(&format!("session:{session}")), 1);
        }
        assert_eq!(house.agent.most("all"), 2);
        house.at_rest().await;
    });
}

#[test]
fn a_turn_that_does_not_come_in_time_is_a_429_that_says_when_to_come_back() {
    paused(async {
        let house = House::with_one_agent(&session(", queue_timeout: 60s"));
        let first = house.turn("s", 1, "/?pieces=1&every=59");
        assert!(first.answer().await.complete);
        let long = house.turn("s", 2, "/?pieces=2&every=50");
        settle().await;
        let (took, answer) = timed(house.turn("s", 3, "/").answer()).await;
        assert_took(took, 60.0);
        assert_eq!((answer.status, answer.reason()), (429, "session_queue_timeout".into()));
        assert!(answer.retry_after() >= 1, "{}", answer.head);
        assert!(long.answer().await.complete);
        assert_eq!(house.agent.order(), ["1", "2"]);
        house.at_rest().await;
    });
}

#[test]
fn one_who_leaves_the_line_is_forgotten_at_once_and_those_behind_it_move_up() {
    paused(async {
        let house = House::with_one_agent(&session(""));
        let first = house.turn("s", 1, "/?think=10");
        settle().await;
        let second = house.turn("s", 2, "/?think=10");
        settle().await;
        let third = house.turn("s", 3, "/?think=10");
        settle().await;
        assert_eq!(house.control.admission.sessions.waiting(), 2);
        second.leave();
        settle().await;
        assert_eq!(house.control.admission.sessions.waiting(), 1);
        assert_eq!(first.status().await, 200);
        assert_eq!(third.status().await, 200);
        assert_eq!(house.agent.order(), ["1", "3"]);
        assert_eq!(house.metric("turnwise_requests_total", "code=\"499\""), 1.0);
        house.at_rest().await;
    });
}

#[test]
fn a_session_whose_line_is_full_refuses_one_more_and_keeps_the_others() {
    paused(async {
        let house = House::with_one_agent(&session(", queue: 2"));
        let asked: Vec<_> = (0..4).map(|n| house.turn("s", n, "/?think=5")).collect();
        let mut codes = Vec::new();
        for one in asked {
            codes.push(one.status().await);
        }
        assert_eq!(codes, [200, 200, 200, 429]);
        house.at_rest().await;
    });
}

#[test]
fn one_who_waits_for_its_turn_holds_no_place() {
    paused(async {
        let house = House::with_one_agent(&format!("limits: {{concurrency: 2}}\n{}", session("")));
        let busy: Vec<_> = (0..5).map(|n| house.turn("busy", n, "/?think=10")).collect();
        settle().await;
        let (took, status) = timed(house.turn("other", 9, "/?think=1").status()).await;
        assert_took(took, 1.0);
        assert_eq!(status, 200);
        for one in busy {
            assert_eq!(one.status().await, 200);
        }
        house.at_rest().await;
    });
}

#[test]
fn a_turn_lasts_until_the_last_piece_of_the_answer() {
    paused(async {
        let house = House::with_one_agent(&session(""));
        let first = house.turn("s", 1, "/?pieces=10&every=5");
        later(1.0).await;
        let (took, status) = timed(house.turn("s", 2, "/").status()).await;
        assert_took(took, 49.0);
        assert_eq!(status, 200);
        assert!(first.answer().await.complete);
        house.at_rest().await;
    });
}
