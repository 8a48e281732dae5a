//! What one thread has counted.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::stress::plan::Turn;

/// Kinds of failures that are told apart.
const MOST_KINDS: usize = 50;
/// The longest latency that is told apart, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;
/// Turns that are remembered for the judge.
const MOST_TURNS: usize = 2_000_000;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// By which failures are counted: the status, or what became of the connection.
    pub kind: String,
    /// What the server said of this one.
    pub said: String,
}

/// How a turn went, as its client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Went {
    Succeeded,
    Failed,
    /// The client left before its answer.
    Left,
}

/// A turn that was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    pub turn: Turn,
    /// After the start of the run.
    pub at: Duration,
    pub went: Went,
    /// How often: more than once where a connection was closed in the moment in which it was used.
    pub sent: u64,
}

/// One second of a run.
#[derive(Debug, Clone)]
pub struct Second {
    pub succeeded: u64,
    pub failed: u64,
    pub latency: Histogram<u64>,
}

/// Counts of everything that has ended. Latencies are in microseconds.
#[derive(Debug, Clone)]
pub struct Tally {
    pub succeeded: u64,
    pub failed: u64,
    pub left: u64,
    /// Requests that were sent once more, although a server may have read them.
    pub resent: u64,
    pub latency: Histogram<u64>,
    pub sum: u128,
    pub status: BTreeMap<u16, u64>,
    /// By kind: how often it was seen, and what one of them said.
    pub errors: BTreeMap<String, (u64, String)>,
    pub seconds: Vec<Second>,
    pub turns: Vec<Sent>,
}

fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, digits).expect("the bounds are in order")
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            succeeded: 0,
            failed: 0,
            left: 0,
            resent: 0,
            latency: histogram(3),
            sum: 0,
            status: BTreeMap::new(),
            errors: BTreeMap::new(),
            seconds: Vec::new(),
            turns: Vec::new(),
        }
    }
}

impl Tally {
    /// Counts a request that ended `at` (after the start of the run) and took `latency`.
    pub fn ended(&mut self, at: Duration, latency: Duration, status: Option<u16>, error: Option<Failure>) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(LONGEST);
        self.latency.saturating_record(micros);
        self.sum += u128::from(micros);
        let second = usize::try_from(at.as_secs()).unwrap_or(usize::MAX).min(86_400);
        while self.seconds.len() <= second {
            self.seconds.push(Second { succeeded: 0, failed: 0, latency: histogram(2) });
        }
        let second = &mut self.seconds[second];
        second.latency.saturating_record(micros);
        match &error {
            None => {
                self.succeeded += 1;
                second.succeeded += 1;
            }
            Some(_) => {
                self.failed += 1;
                second.failed += 1;
            }
        }
        status.into_iter().for_each(|status| *self.status.entry(status).or_default() += 1);
        if let Some(Failure { kind, said }) = error {
            self.saw(kind, 1, said);
        }
    }

    fn saw(&mut self, kind: String, count: u64, said: String) {
        // Beyond so many kinds all others are one.
        let is_known = self.errors.contains_key(&kind) || self.errors.len() < MOST_KINDS;
        let kind = if is_known { kind } else { "others".to_owned() };
        self.errors.entry(kind).or_insert((0, said)).0 += count;
    }

    /// Remembers a turn for the judge.
    pub fn sent(&mut self, sent: Sent) {
        if self.turns.len() < MOST_TURNS {
            self.turns.push(sent);
        }
    }

    /// Takes over what another thread has counted.
    pub fn add(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.left += other.left;
        self.resent += other.resent;
        self.sum += other.sum;
        // Of the same bounds, so that nothing can be out of them.
        let _ = self.latency.add(&other.latency);
        for (status, count) in other.status {
            *self.status.entry(status).or_default() += count;
        }
        for (kind, (count, said)) in other.errors {
            self.saw(kind, count, said);
        }
        for (place, second) in other.seconds.into_iter().enumerate() {
            match self.seconds.get_mut(place) {
                Some(own) => {
                    own.succeeded += second.succeeded;
                    own.failed += second.failed;
                    let _ = own.latency.add(&second.latency);
                }
                None => self.seconds.push(second),
            }
        }
        self.turns.extend(other.turns);
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.succeeded + self.failed
    }

    /// In milliseconds.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.total() == 0 { 0.0 } else { self.sum as f64 / self.total() as f64 / 1000.0 }
    }

    /// The latency below which `part` (0 to 1) of all were, in milliseconds.
    #[must_use]
    pub fn quantile(&self, part: f64) -> f64 {
        self.latency.value_at_quantile(part) as f64 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_have_counted_adds_up() {
        let count = |latencies: &[u64], failed: bool| {
            let mut tally = Tally::default();
            for (second, millis) in latencies.iter().enumerate() {
                let error = failed.then(|| Failure { kind: "broken".to_owned(), said: second.to_string() });
                let (at, took) = (Duration::from_secs(second as u64), Duration::from_millis(*millis));
                tally.ended(at, took, (!failed).then_some(200), error);
            }
            tally
        };
        let mut all = count(&[1, 2, 3], false);
        all.add(count(&[100, 200, 300, 400], true));
        assert_eq!((all.succeeded, all.failed, all.total(), all.status[&200]), (3, 4, 7, 3));
        assert_eq!(all.errors["broken"].0, 4);
        assert_eq!(all.seconds.len(), 4);
        assert_eq!((all.seconds[0].succeeded, all.seconds[0].failed, all.seconds[3].failed), (1, 1, 1));
        assert!((all.mean() - 1006.0 / 7.0).abs() < 0.01, "{}", all.mean());
        assert!((all.quantile(1.0) - 400.0).abs() < 1.0 && (all.quantile(0.0) - 1.0).abs() < 0.1);
    }
}
