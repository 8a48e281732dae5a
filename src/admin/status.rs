//! What is going on, in numbers.

use std::time::{Instant, SystemTime};

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::control::Control;
use crate::request::exchange::Phase;
use crate::time;

/// Counts over everyone who is here.
#[derive(Debug, Default)]
struct Census {
    running: usize,
    waiting: usize,
    oldest_wait: Option<Instant>,
    oldest_running: Option<Instant>,
}

impl Census {
    fn take(control: &Control) -> Self {
        let mut census = Self::default();
        control.admission.roll.for_each(|exchange| {
            let phase = exchange.phase();
            let since = exchange.phase_since();
            let (count, oldest) = if phase.waiting_for().is_some() {
                (&mut census.waiting, &mut census.oldest_wait)
            } else if matches!(phase, Phase::Arriving | Phase::Joined) {
                // One that shares an answer is no work of its own.
                return;
            } else {
                (&mut census.running, &mut census.oldest_running)
            };
            *count += 1;
            *oldest = Some(oldest.map_or(since, |other| other.min(since)));
        });
        census
    }
}

fn seconds_since(since: Option<Instant>) -> f64 {
    since.map_or(0.0, |since| time::now().saturating_duration_since(since).as_secs_f64())
}

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
    json!({ "status": status, "processing": census.running, "queue_depth": census.waiting })
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
        "policy": {
            "file": control.file.display().to_string(),
            "generation": edition.generation,
            "loaded_at": rfc3339(loaded.at),
            "last_error": last_error,
            "restart_needed": loaded.restart_needed,
        },
        "limits": {
            "concurrency": edition.policy.limits.concurrency,
            "in_flight": admission.gate.in_use(),
            "waiting": admission.gate.waiting(),
            "queue": edition.policy.limits.queue,
            "queue_bytes": admission.held.total(),
            "oldest_wait_seconds": seconds_since(census.oldest_wait),
            "oldest_in_flight_seconds": seconds_since(census.oldest_running),
        },
        "routes": routes(control),
        "upstreams": upstreams(control),
        "sessions": { "active": admission.sessions.active(), "waiting": admission.sessions.waiting() },
        "connections": control.open_connections(),
        "jobs": Value::Null,
    })
}

fn routes(control: &Control) -> Vec<Value> {
    let edition = control.edition.load();
    let of_route = edition.gates.iter().map(|gates| {
        let metrics = &gates.metrics;
        let waiting = |queue: &crate::telemetry::metrics::QueueMetrics| queue.waiting.get();
        json!({
            "name": &*gates.policy.name,
            "upstream": &*edition.policy.upstreams[gates.policy.upstream].name,
            "concurrency": gates.policy.concurrency,
            "in_flight": metrics.in_flight.get(),
            "waiting": {
                "turn": waiting(&metrics.turn), "rate": waiting(&metrics.rate), "place": waiting(&metrics.place),
            },
        })
    });
    of_route.collect()
}

fn upstreams(control: &Control) -> Vec<Value> {
    let edition = control.edition.load();
    let of_upstream = edition.upstreams.iter().map(|upstream| {
        let servers = upstream.servers.iter().map(|server| {
            let (connections, idle) = server.connections();
            json!({
                "url": &*server.url,
                "healthy": server.is_healthy(),
                "ejected": server.is_ejected(),
                "in_flight": server.in_flight(),
                "concurrency": server.limit(),
                "weight": server.weight(),
                "connections": { "active": connections.saturating_sub(idle), "idle": idle },
            })
        });
        json!({
            "name": &*upstream.policy.name,
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
    metrics.oldest_wait.set(seconds_since(census.oldest_wait));
    metrics.oldest_in_flight.set(seconds_since(census.oldest_running));
    metrics.sessions_active.set(whole(admission.sessions.active()));
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

/// The value of one parameter of a query.
pub(super) fn query_value(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| percent_decode_str(value).decode_utf8_lossy().into_owned())
    })
}

/// A moment of the monotonic clock, as people and other programs tell time.
pub(super) fn wall_clock(at: Instant) -> String {
    rfc3339(SystemTime::now() - time::now().saturating_duration_since(at))
}

fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
