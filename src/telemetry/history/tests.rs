use super::*;
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;

fn numbers(samples: &[Sample]) -> Vec<u64> {
    samples.iter().map(|sample| sample.number).collect()
}

fn note(history: &mut History, metrics: &Metrics) {
    let longest = Longest { turn: 60.0, rate: 60.0, place: 60.0 };
    history.note(Reading::take(metrics), Now::default(), longest, SystemTime::UNIX_EPOCH);
}

#[test]
fn a_sample_is_what_has_come_since_the_one_before() {
    let metrics = Arc::new(Metrics::new());
    let (runs, reads) = (metrics.route("runs"), metrics.route("reads"));
    runs.ended(&http::Method::GET, 200);
    let mut history = History::new(Reading::take(&metrics));
    runs.ended(&http::Method::GET, 499);
    runs.ended(&http::Method::GET, 503);
    runs.rejected("queue_full");
    runs.turn.wait.observe(0.03);
    runs.turn.waiting.inc();
    metrics.upstream("agents").error("connect");
    note(&mut history, &metrics);
    reads.ended(&http::Method::GET, 404);
    note(&mut history, &metrics);

    let (samples, minute) = history.after(0);
    assert_eq!(numbers(&samples), [1, 2]);
    let first = &samples[0];
    assert_eq!(first.ended, Ended { server_error: 1, left: 1, ..Ended::default() });
    assert_eq!(first.refused, Counts::from([("queue_full".to_owned(), 1)]));
    assert_eq!((first.wait.turn.count, first.wait.place.count), (1, 0));
    assert_eq!(first.routes.keys().collect::<Vec<_>>(), ["runs"]);
    assert_eq!(first.upstreams["agents"].errors["connect"], 1);
    let second = &samples[1];
    assert_eq!(second.ended, Ended { client_error: 1, ..Ended::default() });
    assert!(second.refused.is_empty() && second.upstreams.is_empty(), "{second:?}");
    assert_eq!(second.routes["runs"].waiting.turn, 1, "it still waits");
    assert_eq!(minute.seconds, 10);
    assert_eq!(minute.all.ended.all(), 3);
    assert_eq!(minute.routes["runs"].wait.turn.count, 1);
    assert_eq!(minute.upstreams["agents"].errors["connect"], 1);
}

#[test]
fn it_keeps_ten_minutes_and_no_more() {
    let metrics = Arc::new(Metrics::new());
    let mut history = History::new(Reading::take(&metrics));
    for _ in 0..KEPT + 3 {
        metrics.route("runs").ended(&http::Method::GET, 200);
        note(&mut history, &metrics);
    }
    let (samples, minute) = history.after(0);
    assert_eq!((samples.len(), samples[0].number), (KEPT, 4));
    assert_eq!((minute.seconds, minute.all.ended.ok), (60, 12));
    assert_eq!(numbers(&history.after(KEPT as u64 + 1).0), [KEPT as u64 + 2, KEPT as u64 + 3]);
    assert!(history.after(u64::MAX).0.is_empty());
}

#[test]
fn a_sample_has_the_busiest_routes_and_a_bound() {
    let metrics = Arc::new(Metrics::new());
    let mut history = History::new(Reading::take(&metrics));
    for place in 0..MOST_ROUTES + 5 {
        let route = metrics.route(&format!("route-{place}"));
        (0..=place).for_each(|_| route.ended(&http::Method::GET, 200));
    }
    note(&mut history, &metrics);
    let (samples, _) = history.after(0);
    assert_eq!(samples[0].routes.len(), MOST_ROUTES);
    assert!(!samples[0].routes.contains_key("route-0"), "the least busy one is left out");
    assert!(samples[0].routes.contains_key(&format!("route-{}", MOST_ROUTES + 4)));
}
