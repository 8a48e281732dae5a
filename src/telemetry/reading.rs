//! What the metrics say at one moment, by route and by upstream.

use std::collections::BTreeMap;

use prometheus::core::Collector;
use prometheus::proto::Metric;
use serde::Serialize;

use super::buckets::Buckets;
use super::metrics::Metrics;

/// How many there are of something, by name.
pub type Counts = BTreeMap<String, u64>;

/// One value for each queue.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Queues<T> {
    pub turn: T,
    pub rate: T,
    pub place: T,
}

impl<T> Queues<T> {
    fn of(&mut self, name: &str) -> &mut T {
        match name {
            "turn" => &mut self.turn,
            "rate" => &mut self.rate,
            _ => &mut self.place,
        }
    }

    /// The same of each with `other`'s.
    pub fn with<U, V>(&self, other: &Queues<U>, both: impl Fn(&T, &U) -> V) -> Queues<V> {
        Queues {
            turn: both(&self.turn, &other.turn),
            rate: both(&self.rate, &other.rate),
            place: both(&self.place, &other.place),
        }
    }
}

/// Requests that have ended, by what their clients got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Ended {
    /// Codes below 400.
    pub ok: u64,
    pub client_error: u64,
    pub server_error: u64,
    /// The client left first.
    pub left: u64,
}

impl Ended {
    fn count(&mut self, code: &str, requests: u64) {
        *match code {
            "499" => &mut self.left,
            code if code.starts_with('4') => &mut self.client_error,
            code if code.starts_with('5') => &mut self.server_error,
            _ => &mut self.ok,
        } += requests;
    }

    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            ok: self.ok.saturating_sub(before.ok),
            client_error: self.client_error.saturating_sub(before.client_error),
            server_error: self.server_error.saturating_sub(before.server_error),
            left: self.left.saturating_sub(before.left),
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.ok += other.ok;
        self.client_error += other.client_error;
        self.server_error += other.server_error;
        self.left += other.left;
    }

    #[must_use]
    pub fn all(&self) -> u64 {
        self.ok + self.client_error + self.server_error + self.left
    }
}

/// One route.
#[derive(Debug, Clone, Default)]
pub struct RouteReading {
    pub in_flight: u64,
    pub waiting: Queues<u64>,
    pub ended: Ended,
    /// By reason.
    pub refused: Counts,
    pub wait: Queues<Buckets>,
}

/// One upstream.
#[derive(Debug, Clone, Default)]
pub struct UpstreamReading {
    /// Time to the response head.
    pub head: Buckets,
    /// By kind.
    pub errors: Counts,
}

/// All of them. Those that a reload has removed stay, as they do in the metrics.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    pub routes: BTreeMap<String, RouteReading>,
    pub upstreams: BTreeMap<String, UpstreamReading>,
}

impl Reading {
    #[must_use]
    pub fn take(metrics: &Metrics) -> Self {
        let mut reading = Self::default();
        let mut routes = |family: &dyn Collector, read: &dyn Fn(&mut RouteReading, &Metric)| {
            each(family, |metric| {
                read(reading.routes.entry(label(metric, "route").to_owned()).or_default(), metric);
            });
        };
        routes(&metrics.in_flight, &|route, metric| route.in_flight = gauge(metric));
        routes(&metrics.waiting, &|route, metric| *route.waiting.of(label(metric, "queue")) = gauge(metric));
        routes(&metrics.queue_wait, &|route, metric| {
            *route.wait.of(label(metric, "queue")) = Buckets::of(metric.get_histogram());
        });
        routes(&metrics.requests, &|route, metric| route.ended.count(label(metric, "code"), counter(metric)));
        routes(&metrics.rejected, &|route, metric| {
            route.refused.insert(label(metric, "reason").to_owned(), counter(metric));
        });
        let mut upstreams = |family: &dyn Collector, read: &dyn Fn(&mut UpstreamReading, &Metric)| {
            each(family, |metric| {
                read(reading.upstreams.entry(label(metric, "upstream").to_owned()).or_default(), metric);
            });
        };
        upstreams(&metrics.upstream_duration, &|upstream, metric| {
            upstream.head = Buckets::of(metric.get_histogram());
        });
        upstreams(&metrics.upstream_errors, &|upstream, metric| {
            upstream.errors.insert(label(metric, "kind").to_owned(), counter(metric));
        });
        reading
    }
}

/// The counters of one family by the values of these two labels.
#[must_use]
pub fn counters(family: &dyn Collector, labels: [&str; 2]) -> BTreeMap<[String; 2], u64> {
    let mut all = BTreeMap::new();
    each(family, |metric| {
        all.insert(labels.map(|name| label(metric, name).to_owned()), counter(metric));
    });
    all
}

fn each(family: &dyn Collector, visit: impl FnMut(&Metric)) {
    let families = family.collect();
    families.iter().flat_map(|family| family.get_metric()).for_each(visit);
}

fn label<'m>(metric: &'m Metric, name: &str) -> &'m str {
    metric.get_label().iter().find(|pair| pair.name() == name).map_or("", |pair| pair.value())
}

fn gauge(metric: &Metric) -> u64 {
    // A gauge may be below zero for as long as one thread has counted down what another one is about to count up.
    metric.get_gauge().get_value().max(0.0) as u64
}

fn counter(metric: &Metric) -> u64 {
    metric.get_counter().get_value() as u64
}

/// What of `now` has come since `before`; what is zero is left out.
#[must_use]
pub fn counts_since(now: &Counts, before: &Counts) -> Counts {
    let more =
        now.iter().map(|(name, count)| (name.clone(), count.saturating_sub(before.get(name).copied().unwrap_or(0))));
    more.filter(|(_, count)| *count > 0).collect()
}

pub fn add_counts(all: &mut Counts, more: &Counts) {
    for (name, count) in more {
        *all.entry(name.clone()).or_default() += count;
    }
}
