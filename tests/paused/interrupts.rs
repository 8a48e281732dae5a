//! An operator's word ends a request, wherever it is.

use turnwise::request::exchange::EndedBy;

use crate::harness::{House, later, paused, settle};

fn policy(abandoned: &str) -> String {
    format!(
        "limits: {{concurrency: 1, queue_timeout: 1h}}\n\
         routes: [{{name: all, upstream: agents, abandoned: {abandoned}, timeouts: {{response: 1h}}, session: {{key: [{{header: X-Session-Id}}]}}, \
         rate_limits: [{{per: route, rate: 1/h, burst: 3}}]}}]\n"
    )
}

/// Interrupts every request that is here.
fn interrupt_all(house: &House) {
    house.control.admission.roll.for_each(|exchange| exchange.end(EndedBy::Operator));
}

/// Interrupts whoever waits.
fn interrupt_waiting(house: &House) {
    house.control.admission.roll.for_each(|exchange| {
        if exchange.phase().waiting_for().is_some() {
            exchange.end(EndedBy::Operator);
        }
    });
}

#[test]
fn those_who_wait_for_a_turn_or_a_place_get_a_409_and_their_tokens_back() {
    paused(async {
        let house = House::with_one_agent(&policy("auto"));
        let long = house.turn("s", 1, "/?think=20");
        settle().await;
        let waiting = [house.turn("s", 2, "/"), house.turn("t", 3, "/")];
        settle().await;
        interrupt_waiting(&house);
        for one in waiting {
            let answer = one.answer().await;
            assert_eq!((answer.status, answer.reason()), (409, "interrupted".into()));
            assert_eq!(answer.field("x-should-retry"), Some("false"));
        }
        assert_eq!(long.status().await, 200);
        let codes = [house.turn("s", 4, "/").status().await, house.turn("s", 5, "/").status().await];
        assert_eq!(codes, [200, 200]);
        assert_eq!(house.turn("s", 6, "/").status().await, 429, "three tokens for three that ran");
        house.at_rest().await;
    });
}

#[test]
fn one_that_runs_ends_at_once_whatever_abandoned_says() {
    paused(async {
        for abandoned in ["finish", "auto", "cancel"] {
            let house = House::with_one_agent(&policy(abandoned));
            let running = house.turn("s", 1, "/?think=100");
            later(1.0).await;
            interrupt_all(&house);
            let answer = running.answer().await;
            assert_eq!((answer.status, answer.reason()), (409, "interrupted".into()));
            settle().await;
            assert_eq!((house.agent.running(), house.control.admission.gate.in_use()), (0, 0), "{abandoned}");
            house.at_rest().await;
        }
    });
}

#[test]
fn one_whose_answer_streams_is_cut_visibly_and_its_agent_hung_up_on() {
    paused(async {
        for abandoned in ["finish", "auto", "cancel"] {
            let house = House::with_one_agent(&policy(abandoned));
            let running = house.turn("s", 1, "/?pieces=100&every=1");
            later(10.5).await;
            interrupt_all(&house);
            let answer = running.answer().await;
            assert_eq!((answer.status, answer.complete), (200, false));
            settle().await;
            assert_eq!((house.agent.running(), house.control.admission.gate.in_use()), (0, 0), "{abandoned}");
            house.at_rest().await;
        }
    });
}

#[test]
fn one_that_ends_in_the_moment_of_its_head_gets_its_head() {
    for steps in 0..20 {
        paused(async {
            let house = House::with_one_agent(&policy("auto"));
            let mut client = house.client();
            let control = house.control.clone();
            // A task among the others: between two of its steps each of them has at most one. So the agent has answered when the
            // gateway's next step comes, and that finds the answer and its end together.
            let interrupting = tokio::spawn(async move {
                for _ in 0..steps {
                    tokio::task::yield_now().await;
                }
                control.admission.roll.for_each(|exchange| exchange.end(EndedBy::Operator));
            });
            client.request("GET", "/?pieces=2&every=1", "X-Session-Id: s\r\nConnection: close\r\n", "").await;
            let said = client.until_closed().await;
            // A connection that is closed without a word looks like one that was idle for too long, and clients repeat what they
            // sent on it.
            assert!(said.starts_with("HTTP/1.1 200") && !said.ends_with("0\r\n\r\n"), "after {steps} steps: {said:?}");
            interrupting.await.expect("no panic");
            house.at_rest().await;
        });
    }
}

#[test]
fn one_whose_reader_has_stalled_is_ended_too() {
    paused(async {
        let house = House::with_one_agent(&policy("auto"));
        let mut stalled = house.client_with(1, 1024);
        stalled.request("GET", "/?pieces=1000&size=1024", "X-Session-Id: s\r\n", "").await;
        later(1.0).await;
        interrupt_all(&house);
        later(1.0).await;
        assert_eq!((house.agent.running(), house.control.admission.gate.in_use()), (0, 0));
        drop(stalled);
        house.at_rest().await;
    });
}

#[test]
fn one_whose_client_has_gone_is_ended_too() {
    paused(async {
        let house = House::with_one_agent(&policy("finish"));
        let running = house.turn("s", 1, "/?think=100");
        later(1.0).await;
        running.leave();
        settle().await;
        assert_eq!(house.agent.running(), 1);
        let members = house.control.admission.sessions.clone();
        members.for_each(|_, line| line.for_each(|(_, member)| member.exchange.end(EndedBy::Operator)));
        settle().await;
        assert_eq!((house.agent.running(), house.control.admission.gate.in_use()), (0, 0));
        assert_eq!(house.metric("turnwise_abandoned_total", "cancelled"), 1.0);
        house.at_rest().await;
    });
}
