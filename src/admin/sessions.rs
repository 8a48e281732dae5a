//! Sessions: who runs, who waits, and ending them.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::census::seconds_since;
use super::query;
use super::status::wall_clock;
use crate::admission::{LaneKey, Member};
use crate::control::Control;
use crate::request::exchange::{EndedBy, Exchange, Phase};

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
    let order: fn(&mut [Row]) = match query::value(query, "sort").as_deref() {
        None | Some("waiting") => |rows| rows.sort_by_key(|row| (Reverse(row.waiting), row.arrived)),
        // Those where nobody waits come last.
        Some("longest") => |rows| rows.sort_by_key(|row| (row.oldest_wait.is_none(), row.oldest_wait, row.arrived)),
        Some("age") => |rows| rows.sort_by_key(|row| row.arrived),
        Some(_) => return answer::problem(StatusCode::BAD_REQUEST, "sort is `waiting`, `longest` or `age`."),
    };
    let rows = match query::value(query, "limit").map(|limit| limit.parse()) {
        None => DEFAULT_ROWS,
        Some(Ok(rows)) if rows <= MAX_ROWS => rows,
        Some(_) => return answer::problem(StatusCode::BAD_REQUEST, "limit is a number up to 10000."),
    };
    let mut all = Vec::new();
    control.admission.sessions.for_each(|key, members| all.extend(row(key, members)));
    order(&mut all);
    all.truncate(rows);
    let list = all.iter().map(|row| {
        json!({
            "key": row.key.session.as_str(),
            "lane": &*row.key.lane,
            "route": &*row.route,
            "running": row.running,
            "waiting": row.waiting,
            "oldest_wait_seconds": seconds_since(row.oldest_wait),
            "running_seconds": seconds_since(row.running_since),
        })
    });
    answer::json(StatusCode::OK, &Value::Array(list.collect()))
}

fn row(key: &LaneKey, members: &mut dyn Iterator<Item = (bool, &Member)>) -> Option<Row> {
    let mut members = members.map(|(granted, member)| (granted, &member.exchange)).peekable();
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
fn lanes_of(control: &Control, key: &str) -> Vec<(LaneKey, Vec<Member>)> {
    let mut found = Vec::new();
    control.admission.sessions.for_each(|lane, members| {
        if lane.session.as_str() == key {
            found.push((lane.clone(), members.map(|(_, member)| member.clone()).collect()));
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
        for member in members {
            let waits_for_turn = member.exchange.phase() == Phase::Turn;
            position += usize::from(waits_for_turn);
            let place = if waits_for_turn { position } else { 0 };
            requests.push(request(lane, &member.exchange, place, member.nested_in().as_deref()));
            control.admission.roll.for_each(|other| {
                if other.phase() == Phase::Joined && std::ptr::eq(other.work(), &raw const *member.exchange) {
                    let mut joined = request(lane, other, 0, None);
                    joined["joined_to"] = member.exchange.request_id.as_str().into();
                    requests.push(joined);
                }
            });
        }
        for nest in control.admission.nesting.all() {
            if let Some(parent) = nest.parent().filter(|parent| nest.lane().is_none() && parent.is_inside(lane)) {
                requests.push(request(lane, nest.exchange(), 0, Some(parent.exchange())));
            }
        }
    }
    answer::json(StatusCode::OK, &json!({ "key": key, "requests": requests }))
}

/// One request of a session. `position`: among those who wait for their turn, from 1.
fn request(lane: &LaneKey, exchange: &Exchange, position: usize, nested_in: Option<&Exchange>) -> Value {
    let phase = exchange.phase();
    json!({
        "id": exchange.request_id.as_str(),
        "lane": &*lane.lane,
        "route": &*exchange.route,
        "method": exchange.method.as_str(),
        "state": if exchange.ended_by().is_some() { "ending" } else { phase.word() },
        "position": position,
        "waiting_for": phase.waiting_for(),
        "joined_to": null,
        "nested_in": nested_in.map(|outer| outer.request_id.as_str()),
        "since": wall_clock(exchange.phase_since()),
        // The same for those whose clock is another one.
        "seconds": seconds_since(Some(exchange.phase_since())),
        "age_seconds": seconds_since(Some(exchange.arrived)),
        "client": exchange.client.to_string(),
    })
}

/// Ends those who wait, and with `running=true` also those who run.
pub(super) fn end(control: &Control, key: &str, query: &str) -> Answer {
    let running = match query::value(query, "running").as_deref() {
        None | Some("false") => false,
        Some("true" | "") => true,
        Some(_) => return answer::problem(StatusCode::BAD_REQUEST, "running is `true` or `false`."),
    };
    let lanes = lanes_of(control, key);
    if lanes.is_empty() {
        return answer::problem(StatusCode::NOT_FOUND, "No request of this session runs or waits.");
    }
    let members = lanes.into_iter().flat_map(|(_, members)| members).rev();
    // Those who wait first: else the end of the running one would let the next begin.
    let ended = members.filter(|member| {
        if running {
            member.end(EndedBy::Operator);
        }
        running || member.end_unless_begun(EndedBy::Operator)
    });
    let ended = ended.count();
    tracing::info!(requests = ended, running, "an operator ended requests of a session");
    answer::json(StatusCode::OK, &json!({ "key": key, "ended": ended }))
}
