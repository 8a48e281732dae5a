//! Requests that a running request makes.

use turnwise::admission::nesting::Token;
use turnwise::request::exchange::EndedBy;

use crate::harness::{Asked, House, assert_took, later, paused, settle, timed};

/// One place in all, so that nothing goes on that would need another.
const POLICY: &str = "limits: {concurrency: 1, queue_timeout: 1h}
defaults: {abandoned: cancel, timeouts: {response: 1h}, session: {key: [{header: X-Session-Id}], queue_timeout: 1h, reentrant: true}}
routes:
- {name: runs, match: {path: /}, upstream: agents}
- {name: tenants, match: {path: /tenants}, upstream: agents, session: {within: [{header: X-Tenant}]}}
- {name: free, match: {path: /free}, upstream: agents, session: null}
- {name: plain, match: {path: /plain}, upstream: agents, session: {reentrant: false}}
";

/// The token that the agent was given with request `id`.
fn token(house: &House, id: &str) -> String {
    let seen = house.agent.seen().into_iter().find(|seen| seen.id == id);
    seen.unwrap_or_else(|| panic!("{id} has not come to the agent")).token
}

/// A request of `session` nested in the turn of the request `outer`.
fn nested(house: &House, outer: &str, session: &str, id: &str, target: &str) -> Asked {
    let token = token(house, outer);
    house.get(target, &format!("X-Session-Id: {session}\r\nX-Id: {id}\r\nTurnwise-Turn: {token}\r\n"))
}

#[test]
fn a_nested_request_runs_inside_the_turn_and_the_place_of_the_one_that_made_it() {
    paused(async {
        let house = House::with_one_agent(POLICY);
        let outer = house.turn("s", "outer", "/?think=10");
        settle().await;
        let next = house.turn("s", "next", "/");
        settle().await;
        for target in ["/?think=1", "/free?think=1", "/plain?think=1"] {
            let (took, status) = timed(nested(&house, "outer", "s", target, target).status()).await;
            assert_eq!(status, 200, "{target}");
            assert_took(took, 1.0);
        }
        assert_eq!((outer.status().await, next.status().await), (200, 200));
        assert_eq!(house.agent.order().last().expect("five"), "next");
        assert_eq!(house.metric("turnwise_nested_total", ""), 3.0);
        house.at_rest().await;
    });
}

#[test]
fn a_turn_lasts_until_everything_nested_in_it_has_ended() {
    paused(async {
        let house = House::with_one_agent(POLICY);
        let outer = house.turn("s", "outer", "/?think=2");
        settle().await;
        let child = nested(&house, "outer", "s", "child", "/?think=10");
        settle().await;
        let next = timed(house.turn("s", "next", "/").status());
        assert_eq!(outer.status().await, 200);
        // Its turn lasts, so its token does too.
        let late = nested(&house, "outer", "s", "late", "/?think=20");
        let (took, status) = next.await;
        assert_eq!((status, child.status().await, late.status().await), (200, 200, 200));
        assert_took(took, 20.0);
        house.at_rest().await;
    });
}

#[test]
fn another_sessions_turn_is_waited_for_and_no_place_is() {
    paused(async {
        let house = House::with_one_agent(POLICY.replace("concurrency: 1", "concurrency: 2").as_str());
        let outer = house.turn("s", "outer", "/?think=30");
        let other = house.turn("t", "other", "/?think=5");
        settle().await;
        let (took, status) = timed(nested(&house, "outer", "t", "child", "/?think=1").status()).await;
        assert_eq!(status, 200);
        assert_took(took, 6.0);
        assert_eq!((outer.status().await, other.status().await), (200, 200));
        assert_eq!(house.agent.most("session:t"), 1);
        house.at_rest().await;
    });
}

#[test]
fn requests_are_nested_four_deep_and_not_five() {
    paused(async {
        let house = House::with_one_agent(POLICY);
        let mut asked = vec![house.turn("s", "0", "/?think=10")];
        for depth in 1..=4 {
            settle().await;
            asked.push(nested(&house, &(depth - 1).to_string(), "s", &depth.to_string(), "/?think=10"));
        }
        settle().await;
        let answer = nested(&house, "4", "s", "5", "/").answer().await;
        assert_eq!((answer.status, answer.reason()), (409, "session_busy".into()));
        for one in asked {
            assert_eq!(one.status().await, 200);
        }
        house.at_rest().await;
    });
}

#[test]
fn turns_that_would_wait_for_one_another_are_a_deadlock_and_the_one_that_closes_the_circle_is_told() {
    paused(async {
        let house = House::with_one_agent(POLICY.replace("concurrency: 1", "concurrency: 9").as_str());
        let outer =
            [house.turn("a", "a", "/?think=5"), house.turn("b", "b", "/?think=8"), house.turn("c", "c", "/?think=9")];
        settle().await;
        let waiting = [nested(&house, "a", "b", "a-b", "/"), nested(&house, "b", "c", "b-c", "/")];
        settle().await;
        let answer = nested(&house, "c", "a", "c-a", "/").answer().await;
        assert_eq!((answer.status, answer.reason()), (409, "turn_deadlock".into()));
        assert_eq!(answer.field("x-should-retry"), Some("false"));
        for one in outer.into_iter().chain(waiting) {
            assert_eq!(one.status().await, 200);
        }
        house.at_rest().await;
    });
}

#[test]
fn one_that_waits_behind_a_request_without_a_place_would_wait_for_its_own_place() {
    paused(async {
        let house = House::with_one_agent(POLICY);
        let outer = house.turn("s", "outer", "/?think=5");
        settle().await;
        // It has the turn of its session, and waits for the one place.
        let other = house.turn("t", "other", "/");
        settle().await;
        let answer = nested(&house, "outer", "t", "child", "/").answer().await;
        assert_eq!((answer.status, answer.reason()), (409, "turn_deadlock".into()));
        assert_eq!((outer.status().await, other.status().await), (200, 200));
        house.at_rest().await;
    });
}

#[test]
fn a_token_that_is_forged_stale_or_another_tenants_gains_nothing() {
    paused(async {
        let house = House::with_one_agent(POLICY);
        assert_eq!(house.turn("s", "old", "/").status().await, 200);
        let stale = token(&house, "old");
        let ask = |session: &str, id: &str, target: &str, fields: &str| {
            house.get(target, &format!("X-Session-Id: {session}\r\nX-Id: {id}\r\n{fields}"))
        };
        let outer = ask("s", "outer", "/tenants?think=50", "X-Tenant: one\r\n");
        settle().await;
        let good = token(&house, "outer");
        let with = |token: &str| format!("X-Tenant: two\r\nTurnwise-Turn: {token}\r\n");
        let mut waiting = Vec::new();
        for (number, token) in [stale.as_str(), "0123456789abcdef0123456789abcdef", "", &good.to_uppercase(), &good]
            .into_iter()
            .enumerate()
        {
            for target in ["/", "/tenants", "/free"] {
                waiting.push(ask("x", &format!("{number}{target}"), target, &with(token)));
            }
        }
        let twice = format!("X-Tenant: one\r\nTurnwise-Turn: {good}\r\nTurnwise-Turn: {good}\r\n");
        waiting.push(ask("s", "twice", "/tenants", &twice));
        later(40.0).await;
        assert_eq!(house.agent.order(), ["old", "outer"], "there is one place, and nobody is nested");
        // Of its own tenant it is as good on any route.
        for target in ["/tenants", "/free"] {
            let fields = format!("X-Tenant: one\r\nTurnwise-Turn: {good}\r\n");
            let (took, status) = timed(ask("s", "own", target, &fields).status()).await;
            assert_eq!(status, 200);
            assert_took(took, 0.0);
        }
        assert_eq!(outer.status().await, 200);
        for one in waiting {
            assert_eq!(one.status().await, 200);
        }
        let tokens: Vec<String> = house.agent.seen().into_iter().map(|seen| seen.token).collect();
        assert!(tokens.iter().filter(|token| **token == good).count() == 1, "no token of a client's goes further");
        house.at_rest().await;
    });
}

#[test]
fn who_is_interrupted_takes_everything_nested_in_it_along() {
    paused(async {
        let text = POLICY.replace("reentrant: true}", "reentrant: true, when_busy: interrupt}");
        let house = House::with_one_agent(&text.replace("abandoned: cancel", "abandoned: finish"));
        let outer = house.turn("s", "outer", "/?think=100");
        settle().await;
        let inner =
            [nested(&house, "outer", "s", "child", "/?think=90"), nested(&house, "outer", "t", "other", "/?think=90")];
        settle().await;
        let deeper = nested(&house, "child", "s", "grandchild", "/?think=80");
        settle().await;
        let (took, status) = timed(house.turn("s", "newer", "/").status()).await;
        assert_eq!(status, 200);
        assert_took(took, 0.0);
        for one in inner.into_iter().chain([outer, deeper]) {
            let answer = one.answer().await;
            assert_eq!((answer.status, answer.reason()), (409, "interrupted".into()));
        }
        house.at_rest().await;
    });
}

#[test]
fn who_interrupts_a_turn_that_waits_for_it_is_no_deadlock() {
    paused(async {
        let text = POLICY.replace("reentrant: true}", "reentrant: true, when_busy_choices: [interrupt, replace]}");
        let house = House::with_one_agent(&text.replace("concurrency: 1", "concurrency: 9"));
        let ours = house.turn("s", "ours", "/?think=50");
        let theirs = house.turn("t", "theirs", "/?think=50");
        settle().await;
        let waits = nested(&house, "theirs", "s", "waits", "/");
        settle().await;
        let fields = |word: &str| {
            let token = token(&house, "ours");
            format!("X-Session-Id: t\r\nX-Id: {word}\r\nTurnwise-Turn: {token}\r\nTurnwise-When-Busy: {word}\r\n")
        };
        let behind = house.turn("t", "behind", "/");
        settle().await;
        // To replace is to wait for the one that runs, and that one waits for us; so nobody is put out for it.
        let refused = house.get("/", &fields("replace")).answer().await;
        assert_eq!((refused.status, refused.reason()), (409, "turn_deadlock".into()));
        assert_eq!(house.control.admission.sessions.waiting(), 2);
        let (took, status) = timed(house.get("/", &fields("interrupt")).status()).await;
        assert_eq!(status, 200);
        assert_took(took, 0.0);
        for one in [theirs, waits, behind] {
            assert_eq!(one.answer().await.reason(), "interrupted");
        }
        assert_eq!(ours.status().await, 200);
        house.at_rest().await;
    });
}

#[test]
fn nothing_is_nested_any_more_in_a_turn_that_was_ended() {
    paused(async {
        let house = House::with_one_agent(POLICY);
        let outer = house.turn("s", "outer", "/?think=50");
        settle().await;
        let token = token(&house, "outer").parse().ok().as_ref().and_then(Token::read).expect("a token");
        // Held on to, as by something nested in it that has not heard of its end yet.
        let held = house.control.admission.nesting.find(token).expect("a turn that runs");
        held.exchange().end(EndedBy::Operator);
        let late = nested(&house, "outer", "s", "late", "/").answer().await;
        assert_eq!((late.status, late.reason()), (409, "interrupted".into()));
        assert_eq!(outer.answer().await.reason(), "interrupted");
        assert_eq!(house.agent.order(), ["outer"]);
        drop(held);
        house.at_rest().await;
    });
}

#[test]
fn only_reentrant_routes_and_what_is_nested_in_them_hand_out_tokens() {
    paused(async {
        let house = House::with_one_agent(POLICY);
        assert_eq!(house.turn("s", "plain", "/plain").status().await, 200);
        assert_eq!(house.turn("s", "free", "/free").status().await, 200);
        let outer = house.turn("s", "outer", "/?think=5");
        settle().await;
        assert_eq!(nested(&house, "outer", "s", "inner", "/free").status().await, 200);
        assert_eq!(outer.status().await, 200);
        assert_eq!((token(&house, "plain"), token(&house, "free")), (String::new(), String::new()));
        assert_eq!((token(&house, "outer").len(), token(&house, "inner").len()), (32, 32));
        house.at_rest().await;
    });
}
