//! The last ten minutes, sampled beside the requests.

use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use serde_json::json;

use super::answer::{self, Answer};
use super::census::{Census, seconds_since};
use super::query;
use super::status::rfc3339;
use crate::control::Control;
use crate::policy::{Policy, WhenExceeded};
use crate::sync::Mutex;
use crate::telemetry::history::{History, INTERVAL, KEPT, Longest, Now};
use crate::telemetry::reading::{Queues, Reading};

/// The history of this process.
#[derive(Debug)]
pub(super) struct Past {
    /// Numbers of samples begin anew with each process; this tells one from the next.
    began: String,
    /// Locked for as long as a sample is put there or samples are copied.
    history: Mutex<History>,
}

impl Past {
    pub fn begin(control: &Control) -> Self {
        let history = Mutex::new(History::new(Reading::take(&control.metrics)));
        Self { began: rfc3339(SystemTime::now()), history }
    }
}

/// Takes a sample in every interval, for ever.
pub(super) async fn sample(control: Arc<Control>, past: Arc<Past>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    // After a standstill there is one sample that says so, not many that say nothing.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let reading = Reading::take(&control.metrics);
        let now = now(&control, &reading);
        past.history.lock().note(reading, now, longest(&control.edition.load().policy), SystemTime::now());
    }
}

fn now(control: &Control, reading: &Reading) -> Now {
    let census = Census::take(control);
    let waiting = reading
        .routes
        .values()
        .fold(Queues::default(), |all: Queues<u64>, route| all.with(&route.waiting, |all, more| all + more));
    Now {
        in_flight: control.admission.gate.in_use() as u64,
        waiting,
        oldest_wait_seconds: seconds_since(census.all.oldest_wait),
        oldest_in_flight_seconds: seconds_since(census.all.oldest_running),
        queue_bytes: control.admission.held.total(),
        connections: control.open_connections(),
        sessions: control.admission.sessions.active() as u64,
    }
}

/// The longest that anybody may wait under the policy in force.
fn longest(policy: &Policy) -> Longest {
    let mut longest = Longest { place: policy.limits.queue_timeout.as_secs_f64(), ..Longest::default() };
    for route in &policy.routes {
        if let Some(session) = &route.session {
            longest.turn = longest.turn.max(session.queue_timeout.as_secs_f64());
        }
        for limit in &route.rate_limits {
            if let WhenExceeded::Wait { queue_timeout, .. } = limit.when_exceeded {
                longest.rate = longest.rate.max(queue_timeout.as_secs_f64());
            }
        }
    }
    longest
}

/// `GET /history?after=N`.
pub(super) fn show(past: &Past, query: &str) -> Answer {
    let after = match query::value(query, "after").map(|after| after.parse()) {
        None => 0,
        Some(Ok(number)) => number,
        Some(Err(_)) => return answer::problem(StatusCode::BAD_REQUEST, "after is the number of a sample."),
    };
    let (samples, last_minute) = past.history.lock().after(after);
    let history = json!({
        "began": past.began,
        "interval_seconds": INTERVAL.as_secs(),
        "kept": KEPT,
        "samples": samples,
        "last_minute": last_minute,
    });
    answer::json(StatusCode::OK, &history)
}
