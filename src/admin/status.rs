//! What is going on, in numbers.

use std::time::{Instant, SystemTime};

use serde_json::{Map, Value, json};

use super::census::{Census, seconds_since};
use crate::config::Problems;
use crate::control::Control;
use crate::policy::Route;
use crate::telemetry::reading::counters;
use crate::time;

/// `GET /health`.
pub(super) fn health(control: &Control) -> Value {
    let census = Census::take(control);
    let status = if control.drain.is_asked() {
        "draining"
    } else if control.edition.load().upstreams.iter().all(|upstream| upstream.is_available()) {
        "healthy"
    } else {
        "degraded"
    };
    json!({ "status": status, "processing": census.all.running, "queue_depth": census.all.waiting })
}

/// `GET /status`.
pub(super) fn status(control: &Control) -> Value {
    let edition = control.edition.load();
    let loaded = control.loaded();
    let census = Census::take(control);
    let admission = &control.admission;
    let last_error = loaded.last_error.as_ref().map(ToString::to_string);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": time::now().saturating_duration_since(control.started).as_secs_f64(),
        "draining": control.drain.is_asked(),
        "drain": drain(control),
        "policy": {
            "file": control.file.display().to_string(),
            "generation": edition.generation,
            "loaded_at": rfc3339(loaded.at),
            "last_error": last_error,
            // The same with its positions, and when it was found.
            "problems": loaded.last_error.as_ref().map_or(&[][..], Problems::as_slice),
            "failed_at": loaded.failed_at.map(rfc3339),
            "restart_needed": loaded.restart_needed,
        },
        "limits": {
            "concurrency": edition.policy.limits.concurrency,
            "in_flight": admission.gate.in_use(),
            "waiting": admission.gate.waiting(),
            "queue": edition.policy.limits.queue,
            "queue_bytes": admission.held.total(),
            "queue_bytes_limit": edition.policy.limits.queue_bytes,
            "queue_timeout_seconds": edition.policy.limits.queue_timeout.as_secs_f64(),
            "oldest_wait_seconds": seconds_since(census.all.oldest_wait),
            "oldest_in_flight_seconds": seconds_since(census.all.oldest_running),
        },
        "routes": routes(control, &census),
        "upstreams": upstreams(control),
        "sessions": { "active": admission.sessions.active(), "waiting": admission.sessions.waiting() },
        "connections": control.open_connections(),
        "max_connections": control.slots.limit(),
        "refused": refused(control),
        "permit_leaks": control.metrics.permit_leaks.get(),
        "jobs": super::jobs::summary(control),
    })
}

/// How long what is left may still take, once the gateway drains.
fn drain(control: &Control) -> Option<Value> {
    let asked = control.drain.asked_at()?;
    let server = &control.edition.load().policy.server;
    let all = server.drain_delay.saturating_add(server.drain_timeout);
    let left = all.saturating_sub(time::now().saturating_duration_since(asked));
    Some(json!({ "seconds_left": left.as_secs_f64(), "requests_left": control.admission.roll.len() }))
}

/// Answers of the gateway itself since its start.
fn refused(control: &Control) -> Vec<Value> {
    let all = counters(&control.metrics.rejected, ["route", "reason"]);
    let of_route =
        all.into_iter().map(|([route, reason], total)| json!({ "route": route, "reason": reason, "total": total }));
    of_route.collect()
}

fn routes(control: &Control, census: &Census) -> Vec<Value> {
    let edition = control.edition.load();
    let of_route = edition.gates.iter().map(|gates| {
        let metrics = &gates.metrics;
        let waiting = |queue: &crate::telemetry::metrics::QueueMetrics| queue.waiting.get();
        let crowd = census.of(&gates.policy.name);
        json!({
            "name": &*gates.policy.name,
            "upstream": &*edition.policy.upstreams[gates.policy.upstream].name,
            "concurrency": gates.policy.concurrency,
            "in_flight": metrics.in_flight.get(),
            "waiting": {
                "turn": waiting(&metrics.turn), "rate": waiting(&metrics.rate), "place": waiting(&metrics.place),
            },
            "exempt": gates.policy.exempt,
            "oldest_wait_seconds": seconds_since(crowd.oldest_wait),
            "oldest_in_flight_seconds": seconds_since(crowd.oldest_running),
            "session": session(&gates.policy),
        })
    });
    of_route.collect()
}

/// The limits of one session of a route.
fn session(route: &Route) -> Option<Value> {
    route.session.as_ref().map(|session| {
        json!({
            "lane": &*session.lane,
            "concurrency": session.concurrency,
            "queue": session.queue,
            "queue_timeout_seconds": session.queue_timeout.as_secs_f64(),
        })
    })
}

fn upstreams(control: &Control) -> Vec<Value> {
    let edition = control.edition.load();
    let metrics = &control.metrics;
    let ejections = counters(&metrics.upstream_ejections, ["upstream", "server"]);
    let all_errors = counters(&metrics.upstream_errors, ["upstream", "kind"]);
    let of_upstream = edition.upstreams.iter().map(|upstream| {
        let name = &*upstream.policy.name;
        let servers = upstream.servers.iter().map(|server| {
            let (connections, idle) = server.connections();
            json!({
                "url": &*server.url,
                "healthy": server.is_healthy(),
                "ejected": server.is_ejected(),
                "passes_checks": server.passes_checks(),
                "ejections": ejections.get(&[name.to_owned(), server.url.to_string()]).copied().unwrap_or(0),
                "in_flight": server.in_flight(),
                "concurrency": server.limit(),
                "weight": server.weight(),
                "connections": { "active": connections.saturating_sub(idle), "idle": idle },
            })
        });
        let errors = all_errors.iter().filter(|([upstream, _], count)| upstream == name && **count > 0);
        let errors: Map<_, _> = errors.map(|([_, kind], count)| (kind.clone(), (*count).into())).collect();
        json!({
            "name": name,
            "retries": metrics.upstream_retries.with_label_values(&[name]).get(),
            "errors": errors,
            "available": upstream.is_available(),
            "concurrency": upstream.policy.effective_concurrency(),
            "in_flight": upstream.servers.iter().map(|server| server.in_flight()).sum::<usize>(),
            "servers": servers.collect::<Vec<_>>(),
        })
    });
    of_upstream.collect()
}

/// Brings those gauges up to date that are read from the state when somebody looks.
pub(super) fn update_gauges(control: &Control) {
    let metrics = &control.metrics;
    let admission = &control.admission;
    let census = Census::take(control);
    let whole = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    metrics.queue_bytes.set(i64::try_from(admission.held.total()).unwrap_or(i64::MAX));
    metrics.oldest_wait.set(seconds_since(census.all.oldest_wait));
    metrics.oldest_in_flight.set(seconds_since(census.all.oldest_running));
    metrics.sessions_active.set(whole(admission.sessions.active()));
    super::jobs::update_gauges(control);
    metrics.rate_limit_keys.set(whole(admission.rate_limit_keys()));
    for upstream in &control.edition.load().upstreams {
        let name = &*upstream.policy.name;
        let (mut open, mut idle) = (0, 0);
        for server in &upstream.servers {
            let healthy = metrics.upstream_healthy.with_label_values(&[name, &server.url]);
            healthy.set(i64::from(server.is_healthy()));
            let (of_server, idle_of_server) = server.connections();
            open += of_server;
            idle += idle_of_server;
        }
        metrics.upstream_connections.with_label_values(&[name, "idle"]).set(whole(idle));
        metrics.upstream_connections.with_label_values(&[name, "active"]).set(whole(open.saturating_sub(idle)));
    }
}

/// A moment of the monotonic clock, as people and other programs tell time.
pub(super) fn wall_clock(at: Instant) -> String {
    rfc3339(SystemTime::now() - time::now().saturating_duration_since(at))
}

pub(super) fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
