//! Sessions: who runs, who waits, and ending them.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::status::{query_value, wall_clock};
use crate::admission::LaneKey;
use crate::control::Control;
use crate::request::exchange::{Exchange, Phase};
use crate::time;

/// Rows of the list where the asker names no number, and at most.
const DEFAULT_ROWS: usize = 50;
const MAX_ROWS: usize = 10_000;

/// One row of the list.
struct Row {
    key: LaneKey,
    route: Arc<str>,
    running: usize,
    waiting: usize,
    /// Since when the first of those who wait has waited.
    oldest_wait: Option<Instant>,
    /// Since when the first of those who run has run.
    running_since: Option<Instant>,
    /// When the first of all came.
    arrived: Instant,
}

pub(super) fn list(control: &Control, query: &str) -> Answer {
    let by_age = match query_value(query, "sort").as_deref() {
        None | Some("waiting") => false,
        Some("age") => true,
        Some(_) => return answer::problem(StatusCode::BAD_REQUEST, "sort is `waiting` or `age`."),
    };
    let rows = match query_value(query, "limit").map(|limit| limit.parse()) {
        None => DEFAULT_ROWS,
        Some(Ok(rows)) if rows <= MAX_ROWS => rows,
        Some(_) => return answer::problem(StatusCode::BAD_REQUEST, "limit is a number up to 10000."),
    };
    let mut all = Vec::new();
    control.admission.sessions.for_each(|key, members| all.extend(row(key, members)));
    if by_age {
        all.sort_by_key(|row| row.arrived);
    } else {
        all.sort_by_key(|row| (std::cmp::Reverse(row.waiting), row.arrived));
    }
    all.truncate(rows);
    let now = time::now();
    let seconds =
        |since: Option<Instant>| since.map_or(0.0, |since| (now.saturating_duration_since(since)).as_secs_f64());
    let list = all.iter().map(|row| {
        json!({
            "key": row.key.session.as_str(),
            "lane": &*row.key.lane,
            "route": &*row.route,
            "running": row.running,
            "waiting": row.waiting,
            "oldest_wait_seconds": seconds(row.oldest_wait),
            "running_seconds": seconds(row.running_since),
        })
    });
    answer::json(StatusCode::OK, &Value::Array(list.collect()))
}

fn row(key: &LaneKey, members: &mut dyn Iterator<Item = (bool, &Arc<Exchange>)>) -> Option<Row> {
    let mut members = members.peekable();
    let first = members.peek()?.1.clone();
    let mut row = Row {
        key: key.clone(),
        route: first.route.clone(),
        running: 0,
        waiting: 0,
        oldest_wait: None,
        running_since: None,
        arrived: first.arrived,
    };
    for (_, exchange) in members {
        let since = exchange.phase_since();
        let oldest = if is_waiting(exchange) {
            row.waiting += 1;
            &mut row.oldest_wait
        } else {
            row.running += 1;
            &mut row.running_since
        };
        *oldest = Some(oldest.map_or(since, |other| other.min(since)));
    }
    Some(row)
}

fn is_waiting(exchange: &Exchange) -> bool {
    exchange.phase().waiting_for().is_some()
}

/// The lanes whose session has this key; routes with lanes of their own may each have one.
fn lanes_of(control: &Control, key: &str) -> Vec<(LaneKey, Vec<Arc<Exchange>>)> {
    let mut found = Vec::new();
    control.admission.sessions.for_each(|lane, members| {
        if lane.session.as_str() == key {
            found.push((lane.clone(), members.map(|(_, exchange)| exchange.clone()).collect()));
        }
    });
    found
}

pub(super) fn show(control: &Control, key: &str) -> Answer {
    let lanes = lanes_of(control, key);
    if lanes.is_empty() {
        return answer::problem(StatusCode::NOT_FOUND, "No request of this session runs or waits.");
    }
    let mut requests = Vec::new();
    for (lane, members) in &lanes {
        let mut position = 0;
        for exchange in members {
            let phase = exchange.phase();
            let waits_for_turn = phase == Phase::Turn;
            position += usize::from(waits_for_turn);
            requests.push(json!({
                "id": exchange.request_id.as_str(),
                "lane": &*lane.lane,
                "route": &*exchange.route,
                "method": exchange.method.as_str(),
                "state": phase.word(),
                "position": if waits_for_turn { json!(position) } else { json!(0) },
                "waiting_for": phase.waiting_for(),
                "since": wall_clock(exchange.phase_since()),
            }));
        }
    }
    answer::json(StatusCode::OK, &json!({ "key": key, "requests": requests }))
}

/// Ends those who wait, and with `running=true` also those who run.
pub(super) fn end(control: &Control, key: &str, query: &str) -> Answer {
    let running = match query_value(query, "running").as_deref() {
        None | Some("false") => false,
        Some("true" | "") => true,
        Some(_) => return answer::problem(StatusCode::BAD_REQUEST, "running is `true` or `false`."),
    };
    let lanes = lanes_of(control, key);
    if lanes.is_empty() {
        return answer::problem(StatusCode::NOT_FOUND, "No request of this session runs or waits.");
    }
    let ended: Vec<_> =
        lanes.into_iter().flat_map(|(_, members)| members).filter(|exchange| running || is_waiting(exchange)).collect();
    // Those who wait first: else the end of the running one would let the next begin.
    ended.iter().rev().for_each(|exchange| exchange.interrupt());
    tracing::info!(requests = ended.len(), running, "an operator ended requests of a session");
    answer::json(StatusCode::OK, &json!({ "key": key, "ended": ended.len() }))
}
