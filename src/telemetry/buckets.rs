//! The counts of a histogram, and what they say of the durations in them.

use prometheus::proto::Histogram;
use serde::Serialize;

use super::metrics::SECONDS;

/// How many durations were within each bound; the last bucket is for those beyond all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Buckets([u64; SECONDS.len() + 1]);

/// Half of so many durations were at most `p50_seconds`, 95 of a hundred at most `p95_seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Spread {
    pub count: u64,
    /// `None`: there were none.
    pub p50_seconds: Option<f64>,
    pub p95_seconds: Option<f64>,
}

impl Buckets {
    #[must_use]
    pub fn of(histogram: &Histogram) -> Self {
        let mut buckets = Self::default();
        let mut below = 0;
        for (count, bucket) in buckets.0.iter_mut().zip(histogram.get_bucket()) {
            *count = bucket.cumulative_count().saturating_sub(below);
            below = bucket.cumulative_count();
        }
        buckets.0[SECONDS.len()] = histogram.get_sample_count().saturating_sub(below);
        buckets
    }

    /// What has come since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self(std::array::from_fn(|place| self.0[place].saturating_sub(before.0[place])))
    }

    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }

    /// None of them is known to have been longer than `longest` seconds.
    #[must_use]
    pub fn spread(&self, longest: f64) -> Spread {
        let quantile = |part| self.quantile(part, longest);
        Spread { count: self.0.iter().sum(), p50_seconds: quantile(0.5), p95_seconds: quantile(0.95) }
    }

    /// The duration that `part` of all did not exceed, as Prometheus estimates it: evenly spread within a bucket, and the
    /// last bound for all beyond it.
    fn quantile(&self, part: f64, longest: f64) -> Option<f64> {
        let count: u64 = self.0.iter().sum();
        let rank = (count > 0).then_some(part * count as f64)?;
        let mut below = 0.0;
        for (place, (within, bound)) in self.0.iter().zip(SECONDS).enumerate() {
            let within = *within as f64;
            if within > 0.0 && below + within >= rank {
                let lower = if place == 0 { 0.0 } else { SECONDS[place - 1] };
                let upper = bound.min(longest).max(lower);
                return Some(lower + (upper - lower) * (rank - below) / within);
            }
            below += within;
        }
        SECONDS.last().map(|last| last.min(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::core::Metric;
    use prometheus::{Histogram, HistogramOpts};

    fn of(durations: &[f64]) -> Buckets {
        let opts = HistogramOpts::new("name", "help").buckets(SECONDS.to_vec());
        let histogram = Histogram::with_opts(opts).expect("a histogram");
        durations.iter().for_each(|duration| histogram.observe(*duration));
        Buckets::of(histogram.metric().get_histogram())
    }

    #[test]
    fn quantiles_are_within_the_bucket_of_their_duration() {
        let spread = of(&[0.03, 0.03, 0.03, 20.0]).spread(f64::INFINITY);
        assert_eq!(spread.count, 4);
        assert!(spread.p50_seconds.is_some_and(|p50| 0.025 < p50 && p50 <= 0.05), "{spread:?}");
        assert!(spread.p95_seconds.is_some_and(|p95| 10.0 < p95 && p95 <= 30.0), "{spread:?}");
    }

    #[test]
    fn nothing_has_no_quantile_and_what_is_beyond_all_bounds_has_the_last() {
        assert_eq!(of(&[]).spread(1.0), Spread::default());
        assert_eq!(of(&[7200.0]).spread(f64::INFINITY).p50_seconds, Some(600.0));
    }

    #[test]
    fn nobody_waits_longer_than_the_longest_wait() {
        let waited = of(&[14.0; 20]);
        assert!(waited.spread(f64::INFINITY).p95_seconds > Some(15.0), "its bucket ends at 30 seconds");
        assert!(waited.spread(15.0).p95_seconds.is_some_and(|p95| 10.0 < p95 && p95 <= 15.0));
    }

    #[test]
    fn what_was_there_before_does_not_count() {
        let (before, after) = (of(&[0.2, 700.0]), of(&[0.2, 700.0, 4.0, 800.0]));
        assert_eq!(after.since(&before), of(&[4.0, 800.0]));
        let mut sum = before;
        sum.add(&after.since(&before));
        assert_eq!(sum, after);
    }
}
