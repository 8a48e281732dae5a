//! The way out.

use turnwise::control::drain::Drained;

use crate::harness::{House, assert_took, later, paused, settle, timed};

fn policy(words: &str) -> String {
    format!(
        "server: {{{words}}}\nlimits: {{concurrency: 1, queue_timeout: 1h}}\n\
         routes: [{{name: all, upstream: agents, session: {{key: [{{header: X-Session-Id}}]}}}}]\n"
    )
}

#[test]
fn those_who_run_and_those_who_wait_finish_and_new_ones_are_refused() {
    paused(async {
        let house = House::with_one_agent(&policy("drain_timeout: 30s"));
        let asked = [house.turn("s", 1, "/?think=5"), house.turn("s", 2, "/?think=5"), house.turn("t", 3, "/?think=5")];
        settle().await;
        let control = house.control.clone();
        let draining = tokio::spawn(async move { timed(control.drain(|| {})).await });
        settle().await;
        let late = house.get("/", "").answer().await;
        assert_eq!((late.status, late.reason(), late.field("connection")), (503, "draining".into(), Some("close")));
        for one in asked {
            let answer = one.answer().await;
            assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
        }
        let (took, drained) = draining.await.expect("no panic");
        assert_took(took, 15.0);
        assert_eq!(drained, Drained::Clean);
        house.at_rest().await;
    });
}

#[test]
fn the_drain_timeout_is_the_end_and_counts_who_is_left() {
    paused(async {
        let house = House::with_one_agent(&policy("drain_timeout: 30s"));
        let asked = [house.turn("s", 1, "/?pieces=5&every=20"), house.turn("s", 2, "/")];
        settle().await;
        let (took, drained) = timed(house.control.drain(|| {})).await;
        assert_took(took, 30.0);
        assert_eq!(drained, Drained::Cut(2));
        let [running, waiting] = asked;
        let refused = waiting.answer().await;
        assert_eq!((refused.status, refused.reason()), (503, "draining".into()));
        running.leave();
        later(200.0).await;
        house.at_rest().await;
    });
}

#[test]
fn during_the_drain_delay_everything_is_served_as_before() {
    paused(async {
        let house = House::with_one_agent(&policy("drain_delay: 20s, drain_timeout: 30s"));
        let control = house.control.clone();
        let draining = tokio::spawn(async move { timed(control.drain(|| {})).await });
        later(19.0).await;
        assert_eq!(house.get("/", "").status().await, 200);
        let (took, drained) = draining.await.expect("no panic");
        assert_took(took, 20.0);
        assert_eq!(drained, Drained::Clean);
        house.at_rest().await;
    });
}

#[test]
fn connections_between_two_requests_are_closed_at_the_end() {
    paused(async {
        let house = House::with_one_agent(&policy("drain_timeout: 30s"));
        let mut kept = house.client();
        kept.request("GET", "/", "", "").await;
        assert_eq!(kept.answer().await.status, 200);
        assert_eq!(house.control.drain(|| {}).await, Drained::Clean);
        let (took, _) = timed(kept.until_closed()).await;
        assert_took(took, 0.0);
        house.at_rest().await;
    });
}

#[test]
fn connections_that_have_said_nothing_do_not_hold_up_the_end() {
    paused(async {
        let house = House::with_one_agent(&policy("drain_timeout: 30s"));
        let mut silent = house.client();
        settle().await;
        assert_eq!(house.control.drain(|| {}).await, Drained::Clean);
        let (took, _) = timed(silent.until_closed()).await;
        assert_took(took, 0.0);
        house.at_rest().await;
    });
}
