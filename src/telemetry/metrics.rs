//! Every metric of the gateway, by its public name. Nothing else registers one.
//!
//! Labels are bounded: routes, upstreams and servers come from the policy, everything else from closed sets. No label
//! ever carries a session key, a path or a client's address.

use std::sync::{Arc, OnceLock};

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

/// Route label of requests that no route was found for.
pub const NO_ROUTE: &str = "-";

/// Upper bounds of durations in seconds: agents answer in milliseconds or in minutes.
pub(super) const SECONDS: [f64; 18] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// The families. Those with a label are reached through [`RouteMetrics`] and [`UpstreamMetrics`] on the hot path.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub requests: IntCounterVec,
    pub request_duration: HistogramVec,
    pub queue_wait: HistogramVec,
    pub upstream_duration: HistogramVec,
    pub in_flight: IntGaugeVec,
    pub waiting: IntGaugeVec,
    pub queue_bytes: IntGauge,
    pub oldest_wait: Gauge,
    pub oldest_in_flight: Gauge,
    pub concurrency_limit: IntGaugeVec,
    pub rejected: IntCounterVec,
    pub abandoned: IntCounterVec,
    pub joined: IntCounterVec,
    pub replayed: IntCounterVec,
    pub nested: IntCounterVec,
    pub interrupted: IntCounterVec,
    pub permit_leaks: IntCounter,
    pub log_lines_dropped: IntCounter,
    pub trace_spans: IntCounterVec,
    pub sessions_active: IntGauge,
    pub rate_limit_keys: IntGauge,
    pub upstream_healthy: IntGaugeVec,
    pub upstream_ejections: IntCounterVec,
    pub upstream_connections: IntGaugeVec,
    pub upstream_errors: IntCounterVec,
    pub upstream_retries: IntCounterVec,
    pub connections: IntGaugeVec,
    pub connections_turned_away: IntCounterVec,
    pub config_successful: IntGauge,
    pub config_success_time: Gauge,
    pub config_reloads: IntCounterVec,
    pub config_generation: IntGauge,
    pub jobs: IntGaugeVec,
    pub job_attempts: IntCounterVec,
    pub job_duration: Histogram,
    pub oldest_job: Gauge,
    pub job_bytes: IntGauge,
}

impl Metrics {
    /// All families, registered, `process_*` and `turnwise_build_info` included.
    ///
    /// # Panics
    /// Never in a built binary: names and labels are constants, and a test builds them.
    #[must_use]
    pub fn new() -> Self {
        let r = Register(Registry::new());
        let metrics = Self {
            requests: r.counters(
                "turnwise_requests_total",
                "Requests that have ended, by the status code the client got; 499: it left first.",
                &["route", "method", "code"],
            ),
            request_duration: r.histograms(
                "turnwise_request_duration_seconds",
                "Time from the request's arrival to the end of its answer.",
                &["route"],
            ),
            queue_wait: r.histograms(
                "turnwise_queue_wait_seconds",
                "Time spent in one queue, also by requests that were refused there.",
                &["route", "queue"],
            ),
            upstream_duration: r.histograms(
                "turnwise_upstream_duration_seconds",
                "Time from sending a request to its response head.",
                &["upstream"],
            ),
            in_flight: r.gauges("turnwise_in_flight_requests", "Requests admitted and not ended yet.", &["route"]),
            waiting: r.gauges(
                "turnwise_waiting_requests",
                "Requests that wait for a turn, a rate limit or a place.",
                &["route", "queue"],
            ),
            queue_bytes: r.gauge("turnwise_queue_bytes", "Bytes of request bodies held for requests that wait."),
            oldest_wait: r
                .float("turnwise_oldest_wait_seconds", "How long the request has waited that has waited longest."),
            oldest_in_flight: r
                .float("turnwise_oldest_in_flight_seconds", "How long the request has run that has run longest."),
            concurrency_limit: r.gauges(
                "turnwise_concurrency_limit",
                "Requests that may run at once; absent where there is no limit.",
                &["scope"],
            ),
            rejected: r.counters(
                "turnwise_rejected_total",
                "Requests that the gateway itself answered, by reason.",
                &["route", "reason"],
            ),
            abandoned: r.counters(
                "turnwise_abandoned_total",
                "Requests whose client left while the upstream worked, by what became of the work.",
                &["route", "result"],
            ),
            joined: r.counters(
                "turnwise_joined_total",
                "Requests that were answered with the answer of an equal one.",
                &["route"],
            ),
            replayed: r.counters(
                "turnwise_replayed_total",
                "Those of them whose answer had been kept (session.replay_for).",
                &["route"],
            ),
            nested: r.counters("turnwise_nested_total", "Requests nested in the turn of another one.", &["route"]),
            interrupted: r.counters(
                "turnwise_interrupted_total",
                "Requests ended before their time, by what ended them: a newer request that replaced or interrupted them, or an operator.",
                &["route", "by"],
            ),
            log_lines_dropped: r.counter(
                "turnwise_log_lines_dropped_total",
                "Log lines that were not written because stderr was too slow.",
            ),
            trace_spans: r.counters(
                "turnwise_trace_spans_total",
                "Spans of traces: exported, failed (the collector did not take them), dropped (too many waited).",
                &["outcome"],
            ),
            permit_leaks: r.counter(
                "turnwise_permit_leaks_total",
                "Turns and places that nobody holds and that never went back. Anything but 0 is a fault of the gateway.",
            ),
            sessions_active: r.gauge("turnwise_sessions_active", "Sessions with a request that runs or waits."),
            rate_limit_keys: r.gauge("turnwise_rate_limit_keys", "Keys of rate limits that are remembered."),
            upstream_healthy: r.gauges(
                "turnwise_upstream_healthy",
                "1 while the server may get requests: neither unhealthy nor ejected.",
                &["upstream", "server"],
            ),
            upstream_ejections: r.counters(
                "turnwise_upstream_ejections_total",
                "Times that a server was ejected for failures in a row.",
                &["upstream", "server"],
            ),
            upstream_connections: r.gauges(
                "turnwise_upstream_connections",
                "Connections to the servers.",
                &["upstream", "state"],
            ),
            upstream_errors: r.counters(
                "turnwise_upstream_errors_total",
                "Failures of servers, by kind.",
                &["upstream", "kind"],
            ),
            upstream_retries: r.counters(
                "turnwise_upstream_retries_total",
                "Requests that were tried once more because they had not been processed.",
                &["upstream"],
            ),
            connections: r.gauges("turnwise_connections", "Open client connections.", &["listener"]),
            connections_turned_away: r.counters(
                "turnwise_connections_turned_away_total",
                "Connections that ended in their PROXY protocol header or in their TLS handshake.",
                &["listener"],
            ),
            config_successful: r
                .gauge("turnwise_config_last_reload_successful", "1 if the last (re)load of the policy succeeded."),
            config_success_time: r.float(
                "turnwise_config_last_reload_success_timestamp_seconds",
                "When the policy in force was loaded, in seconds since 1970.",
            ),
            config_reloads: r.counters(
                "turnwise_config_reloads_total",
                "Reloads of the policy, by result.",
                &["result"],
            ),
            config_generation: r
                .gauge("turnwise_config_generation", "How many policies have been in force, the first included."),
            jobs: r.gauges("turnwise_jobs", "Background requests that are kept, by how they stand.", &["status"]),
            job_attempts: r.counters(
                "turnwise_job_attempts_total",
                "Tries of background requests, by what came of them; postponed: not let in yet, or called back.",
                &["result"],
            ),
            job_duration: r.histogram(
                "turnwise_job_duration_seconds",
                "Time from the acceptance of a background request to its end.",
            ),
            oldest_job: r.float(
                "turnwise_oldest_job_seconds",
                "Age of the oldest background request that has not ended.",
            ),
            job_bytes: r.gauge("turnwise_job_store_bytes", "Bytes of requests and answers in the job store."),
            registry: r.0.clone(),
        };
        let build = r.gauges("turnwise_build_info", "1, with the version that runs.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        for result in ["success", "failure"] {
            metrics.config_reloads.with_label_values(&[result]);
        }
        #[cfg(target_os = "linux")]
        r.0.register(Box::new(super::process::ProcessMetrics::new())).expect("each name is registered once");
        metrics
    }

    /// The text format of Prometheus, version 0.0.4.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(16 * 1024);
        // Writing to memory does not fail, and every family carries the type its values have.
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics could not be written");
        }
        text
    }

    /// The handles of one route.
    #[must_use]
    pub fn route(self: &Arc<Self>, name: &str) -> RouteMetrics {
        let wait = |queue| self.queue_wait.with_label_values(&[name, queue]);
        let waiting = |queue| self.waiting.with_label_values(&[name, queue]);
        for result in ["finished", "cut", "cancelled"] {
            self.abandoned.with_label_values(&[name, result]);
        }
        for counters in [&self.joined, &self.replayed, &self.nested] {
            counters.with_label_values(&[name]);
        }
        RouteMetrics {
            all: self.clone(),
            name: name.into(),
            ended: Default::default(),
            duration: self.request_duration.with_label_values(&[name]),
            in_flight: self.in_flight.with_label_values(&[name]),
            turn: QueueMetrics { queue: "turn", wait: wait("turn"), waiting: waiting("turn") },
            rate: QueueMetrics { queue: "rate", wait: wait("rate"), waiting: waiting("rate") },
            place: QueueMetrics { queue: "place", wait: wait("place"), waiting: waiting("place") },
        }
    }

    /// The handles of one upstream.
    #[must_use]
    pub fn upstream(self: &Arc<Self>, name: &str) -> UpstreamMetrics {
        UpstreamMetrics {
            all: self.clone(),
            name: name.into(),
            duration: self.upstream_duration.with_label_values(&[name]),
            retries: self.upstream_retries.with_label_values(&[name]),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The metrics of one route, looked up once.
#[derive(Debug)]
pub struct RouteMetrics {
    all: Arc<Metrics>,
    name: Box<str>,
    /// The counters of ended requests that were asked for before, by method and code: looking one up costs more than all
    /// else that is counted of a request.
    ended: [[OnceLock<IntCounter>; CODES.len()]; METHODS.len()],
    pub duration: Histogram,
    pub in_flight: IntGauge,
    pub turn: QueueMetrics,
    pub rate: QueueMetrics,
    pub place: QueueMetrics,
}

#[derive(Debug)]
pub struct QueueMetrics {
    /// The label of the queue.
    pub queue: &'static str,
    pub wait: Histogram,
    pub waiting: IntGauge,
}

impl RouteMetrics {
    /// Counts one ended request.
    pub fn ended(&self, method: &http::Method, code: u16) {
        let method = method_place(method);
        let counter = || {
            let mut digits = [0; 3];
            self.all.requests.with_label_values(&[&self.name, METHODS[method], code_label(code, &mut digits)])
        };
        match CODES.iter().position(|common| *common == code) {
            Some(place) => self.ended[method][place].get_or_init(counter).inc(),
            None => counter().inc(),
        }
    }

    /// Counts one answer that the gateway gave itself.
    pub fn rejected(&self, reason: &'static str) {
        self.all.rejected.with_label_values(&[&self.name, reason]).inc();
    }

    /// Counts one that got the answer of an equal one; `kept`: which had ended already.
    pub fn joined(&self, kept: bool) {
        self.all.joined.with_label_values(&[&self.name]).inc();
        if kept {
            self.all.replayed.with_label_values(&[&self.name]).inc();
        }
    }

    /// Counts one that is nested in another one's turn.
    pub fn nested(&self) {
        self.all.nested.with_label_values(&[&self.name]).inc();
    }

    /// Counts one that was ended before its time.
    pub fn interrupted(&self, by: &'static str) {
        self.all.interrupted.with_label_values(&[&self.name, by]).inc();
    }

    /// Counts what became of abandoned work.
    pub fn abandoned(&self, result: &'static str) {
        self.all.abandoned.with_label_values(&[&self.name, result]).inc();
    }
}

/// The metrics of one upstream, looked up once.
#[derive(Debug)]
pub struct UpstreamMetrics {
    all: Arc<Metrics>,
    name: Box<str>,
    pub duration: Histogram,
    pub retries: IntCounter,
}

impl UpstreamMetrics {
    /// Counts a failure of a server.
    pub fn error(&self, kind: &'static str) {
        self.all.upstream_errors.with_label_values(&[&self.name, kind]).inc();
    }

    /// Shows these kinds of failure, and the ejections of these servers, before there is one: who asks how much a counter has
    /// grown does not see the one with which it appears.
    pub fn show<'s>(&self, kinds: &[&str], servers: impl Iterator<Item = &'s str>) {
        for kind in kinds {
            self.all.upstream_errors.with_label_values(&[&*self.name, *kind]);
        }
        for server in servers {
            self.all.upstream_ejections.with_label_values(&[&*self.name, server]);
        }
    }

    /// Counts an ejection of `server`.
    pub fn ejected(&self, server: &str) {
        self.all.upstream_ejections.with_label_values(&[&self.name, server]).inc();
    }
}

/// The labels of methods: the registered ones by name, all others as one.
const METHODS: [&str; 8] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "OTHER"];

/// Codes whose counters are kept at hand, the most common first.
const CODES: [u16; 16] = [200, 201, 202, 204, 206, 304, 400, 401, 404, 409, 429, 499, 500, 502, 503, 504];

/// The place of a method's label among them.
fn method_place(method: &http::Method) -> usize {
    match *method {
        http::Method::GET => 0,
        http::Method::POST => 1,
        http::Method::PUT => 2,
        http::Method::PATCH => 3,
        http::Method::DELETE => 4,
        http::Method::HEAD => 5,
        http::Method::OPTIONS => 6,
        _ => 7,
    }
}

fn code_label(code: u16, digits: &mut [u8; 3]) -> &str {
    for (digit, unit) in digits.iter_mut().zip([100, 10, 1]) {
        *digit = b'0' + (code / unit % 10) as u8;
    }
    std::str::from_utf8(digits).unwrap_or("000")
}

struct Register(Registry);

impl Register {
    fn add<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        self.0.register(Box::new(collector.clone())).expect("each name is registered once");
        collector
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), labels).expect("constant names are valid"))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels).expect("constant names are valid"))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::new(name, help).expect("constant names are valid"))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::new(name, help).expect("constant names are valid"))
    }

    fn float(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::new(name, help).expect("constant names are valid"))
    }

    fn histogram(&self, name: &str, help: &str) -> Histogram {
        let opts = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        self.add(Histogram::with_opts(opts).expect("constant names are valid"))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        self.add(HistogramVec::new(opts, labels).expect("constant names are valid"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_families_register_and_show() {
        let metrics = Arc::new(Metrics::new());
        metrics.route("r").ended(&http::Method::GET, 204);
        metrics.route("r").ended(&http::Method::TRACE, 418);
        metrics.route("r").rejected("queue_full");
        let text = String::from_utf8(metrics.text()).expect("metrics are text");
        assert!(text.contains(r#"turnwise_requests_total{code="204",method="GET",route="r"} 1"#), "{text}");
        assert!(text.contains(r#"turnwise_requests_total{code="418",method="OTHER",route="r"} 1"#), "{text}");
        assert!(text.contains(r#"turnwise_rejected_total{reason="queue_full",route="r"} 1"#), "{text}");
        assert!(text.contains("turnwise_build_info{version="), "{text}");
        assert!(text.contains("process_open_fds"), "{text}");
    }
}
