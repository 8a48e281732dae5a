//! The last ten minutes, a sample every few seconds.
//!
//! Nobody who serves a request knows of it: a sample is the difference between two readings of the metrics, and one
//! task takes them. Samples have numbers, so that whoever has some can ask for those after them.
//!
//! Bounds: [`KEPT`] samples, each with [`MOST_ROUTES`] routes at most, and as many readings as a minute has; a reading
//! is as large as the metrics that it reads.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::buckets::{Buckets, Spread};
use super::reading::{Counts, Ended, Queues, Reading, RouteReading, UpstreamReading, add_counts, counts_since};

/// Time between two samples.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// Samples kept: ten minutes.
pub const KEPT: usize = 120;
/// Samples in a minute.
const MINUTE: usize = 12;
/// Routes in one sample, the busiest if there are more.
pub const MOST_ROUTES: usize = 100;

/// What is true at the end of a sample.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Now {
    /// Places taken.
    pub in_flight: u64,
    pub waiting: Queues<u64>,
    pub oldest_wait_seconds: f64,
    pub oldest_in_flight_seconds: f64,
    pub queue_bytes: u64,
    pub connections: i64,
    pub sessions: u64,
}

/// One interval.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// From 1.
    pub number: u64,
    pub at: String,
    #[serde(flatten)]
    pub now: Now,
    pub ended: Ended,
    pub refused: Counts,
    pub wait: Queues<Spread>,
    /// Those on which something ran, waited or ended.
    pub routes: BTreeMap<String, RouteSample>,
    /// Those from which something came.
    pub upstreams: BTreeMap<String, UpstreamSpan>,
}

/// One route in one interval.
#[derive(Debug, Clone, Serialize)]
pub struct RouteSample {
    pub in_flight: u64,
    pub waiting: Queues<u64>,
    pub ended: Ended,
    pub refused: Counts,
}

/// One route over a span of time.
#[derive(Debug, Clone, Serialize)]
pub struct RouteSpan {
    pub ended: Ended,
    pub refused: Counts,
    pub wait: Queues<Spread>,
}

/// One upstream over a span of time.
#[derive(Debug, Clone, Serialize)]
pub struct UpstreamSpan {
    /// Time to the response head.
    pub head: Spread,
    pub errors: Counts,
}

/// A span of time that ends with the last sample.
#[derive(Debug, Clone, Serialize)]
pub struct Span {
    pub seconds: u64,
    #[serde(flatten)]
    pub all: RouteSpan,
    pub routes: BTreeMap<String, RouteSpan>,
    pub upstreams: BTreeMap<String, UpstreamSpan>,
}

/// What is kept of the past.
#[derive(Debug)]
pub struct History {
    samples: VecDeque<Sample>,
    /// From a minute ago to the last one.
    readings: VecDeque<Reading>,
    last: u64,
    longest: Longest,
}

/// The longest that anybody may wait in each queue, in seconds.
pub type Longest = Queues<f64>;

impl History {
    /// Begins with a reading, before the first sample.
    #[must_use]
    pub fn new(first: Reading) -> Self {
        Self { samples: VecDeque::new(), readings: VecDeque::from([first]), last: 0, longest: Longest::default() }
    }

    /// Ends an interval.
    pub fn note(&mut self, reading: Reading, now: Now, longest: Longest, at: SystemTime) {
        self.longest = longest;
        self.last += 1;
        let none = Reading::default();
        let span = Span::between(self.readings.back().unwrap_or(&none), &reading, &longest);
        let sample = Sample {
            number: self.last,
            at: humantime::format_rfc3339_millis(at).to_string(),
            now,
            ended: span.all.ended,
            refused: span.all.refused,
            wait: span.all.wait,
            routes: samples_of(&reading, span.routes),
            upstreams: span.upstreams.into_iter().filter(|(_, span)| span.is_busy()).collect(),
        };
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        if self.readings.len() > MINUTE {
            self.readings.pop_front();
        }
        self.readings.push_back(reading);
    }

    /// The samples after the one with this number, and the last minute.
    #[must_use]
    pub fn after(&self, number: u64) -> (Vec<Sample>, Span) {
        let samples = self.samples.iter().filter(|sample| sample.number > number).cloned().collect();
        let none = Reading::default();
        let (first, last) = (self.readings.front().unwrap_or(&none), self.readings.back().unwrap_or(&none));
        let mut span = Span::between(first, last, &self.longest);
        span.seconds = INTERVAL.as_secs() * (self.readings.len() as u64).saturating_sub(1);
        (samples, span)
    }
}

impl Span {
    fn between(before: &Reading, now: &Reading, longest: &Longest) -> Self {
        let mut all = RouteSpan { ended: Ended::default(), refused: Counts::new(), wait: Queues::default() };
        let mut wait = Queues::<Buckets>::default();
        let spread = |buckets: &Buckets, longest: &f64| buckets.spread(*longest);
        let (no_route, no_upstream) = (RouteReading::default(), UpstreamReading::default());
        let routes = now.routes.iter().map(|(name, now)| {
            let before = before.routes.get(name).unwrap_or(&no_route);
            let waited = now.wait.with(&before.wait, Buckets::since);
            let route = RouteSpan {
                ended: now.ended.since(&before.ended),
                refused: counts_since(&now.refused, &before.refused),
                wait: waited.with(longest, spread),
            };
            all.ended.add(&route.ended);
            add_counts(&mut all.refused, &route.refused);
            wait = wait.with(&waited, |sum, more| {
                let mut sum = *sum;
                sum.add(more);
                sum
            });
            (name.clone(), route)
        });
        let routes = routes.collect();
        all.wait = wait.with(longest, spread);
        let upstreams = now.upstreams.iter().map(|(name, now)| {
            let before = before.upstreams.get(name).unwrap_or(&no_upstream);
            let errors = counts_since(&now.errors, &before.errors);
            (name.clone(), UpstreamSpan { head: now.head.since(&before.head).spread(f64::INFINITY), errors })
        });
        Self { seconds: INTERVAL.as_secs(), all, routes, upstreams: upstreams.collect() }
    }
}

impl UpstreamSpan {
    fn is_busy(&self) -> bool {
        self.head.count > 0 || !self.errors.is_empty()
    }
}

/// The busiest routes of an interval, without those on which nothing was.
fn samples_of(reading: &Reading, spans: BTreeMap<String, RouteSpan>) -> BTreeMap<String, RouteSample> {
    let of_route = spans.into_iter().filter_map(|(name, span)| {
        let now = reading.routes.get(&name)?;
        let sample =
            RouteSample { in_flight: now.in_flight, waiting: now.waiting, ended: span.ended, refused: span.refused };
        let Queues { turn, rate, place } = now.waiting;
        let busy = now.in_flight + turn + rate + place + span.ended.all();
        (busy > 0).then_some((busy, name, sample))
    });
    let mut busiest: Vec<_> = of_route.collect();
    busiest.sort_by_key(|(busy, ..)| std::cmp::Reverse(*busy));
    busiest.truncate(MOST_ROUTES);
    busiest.into_iter().map(|(_, name, sample)| (name, sample)).collect()
}

#[cfg(test)]
mod tests;
