//! What a run has shown: figures, verdicts and thresholds, and their JSON.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::stress::Thresholds;
use crate::stress::judge::Turns;
use crate::stress::process::Taken;
use crate::stress::tally::Tally;

/// Kinds of errors that are told.
const MOST_TOLD: usize = 10;

/// Everything that is told of a run.
#[derive(Debug)]
pub struct Outcome {
    pub test: &'static str,
    pub url: String,
    pub seed: u64,
    pub tally: Tally,
    pub took: Duration,
    pub turns: Turns,
    pub taken: Option<Taken>,
    pub interrupted: bool,
    /// Requests that were due and never began, because all clients were waiting.
    pub unsent: u64,
    /// Messages of one session would have been sent faster, but for the pause between them.
    pub spaced: bool,
    pub checked: Vec<Checked>,
}

/// A threshold, and how it stands with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    pub name: &'static str,
    pub limit: f64,
    /// `None`: nobody can tell, so that it does not hold.
    pub value: Option<f64>,
    pub ok: bool,
}

impl Outcome {
    #[must_use]
    pub fn error_rate(&self) -> f64 {
        let total = self.tally.total();
        if total == 0 { 0.0 } else { self.tally.failed as f64 / total as f64 }
    }

    /// What the threshold is for: a request that could not begin in its time is none that went well.
    fn error_rate_of_all_due(&self) -> f64 {
        let due = self.tally.total() + self.unsent;
        if due == 0 { 0.0 } else { (self.tally.failed + self.unsent) as f64 / due as f64 }
    }

    /// Successes a second.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { self.tally.succeeded as f64 / seconds } else { 0.0 }
    }

    /// Compares with `thresholds`. A run that nothing came of holds none.
    pub fn check(&mut self, thresholds: &Thresholds) {
        let any = self.tally.total() > 0;
        let millis = |limit: Duration| limit.as_secs_f64() * 1000.0;
        let known = |value: f64| any.then_some(value);
        let mut checked = Vec::new();
        let mut at_most = |name, limit: Option<f64>, value: Option<f64>| {
            if let Some(limit) = limit {
                let ok = value.is_some_and(|value| value <= limit);
                checked.push(Checked { name, limit, value, ok });
            }
        };
        at_most("max_error_rate", thresholds.max_error_rate, known(self.error_rate_of_all_due()));
        at_most("max_p95", thresholds.max_p95.map(millis), known(self.tally.quantile(0.95)));
        at_most("max_mean", thresholds.max_mean.map(millis), known(self.tally.mean()));
        let faults = self.turns.faults().map(|faults| faults as f64).filter(|_| any);
        at_most("max_turn_faults", thresholds.max_turn_faults.map(|limit| limit as f64), faults);
        if let Some(limit) = thresholds.min_throughput {
            let value = self.throughput();
            checked.push(Checked { name: "min_throughput", limit, value: known(value), ok: any && value >= limit });
        }
        self.checked = checked;
    }

    /// Whether every threshold holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.checked.iter().all(|checked| checked.ok)
    }

    /// The sample errors, the most frequent first, each with how often it was seen.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        let mut errors: Vec<(&String, &(u64, String))> = self.tally.errors.iter().collect();
        errors.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        let told = errors.into_iter().take(MOST_TOLD).map(|(kind, (count, said))| {
            let said = if said.is_empty() { String::new() } else { format!(": {said}") };
            format!("{count} x {kind}{said}")
        });
        told.collect()
    }

    /// Latencies in milliseconds: their names, and the values.
    #[must_use]
    pub fn latencies(&self) -> [(&'static str, f64); 6] {
        let tally = &self.tally;
        let any = tally.total() > 0;
        let least = if any { tally.latency.min() as f64 / 1000.0 } else { 0.0 };
        [
            ("mean", tally.mean()),
            ("p50", tally.quantile(0.5)),
            ("p95", tally.quantile(0.95)),
            ("p99", tally.quantile(0.99)),
            ("min", least),
            ("max", tally.latency.max() as f64 / 1000.0),
        ]
    }

    /// As the file of `--output` has it.
    #[must_use]
    pub fn json(&self) -> Value {
        let latency: Map<String, Value> =
            self.latencies().into_iter().map(|(name, value)| (name.to_owned(), rounded(value).into())).collect();
        let status: Map<String, Value> =
            self.tally.status.iter().map(|(status, count)| (status.to_string(), (*count).into())).collect();
        let thresholds: Vec<Value> = self
            .checked
            .iter()
            .map(|it| json!({ "name": it.name, "limit": it.limit, "value": it.value.map(rounded), "ok": it.ok }))
            .collect();
        json!({
            "test": self.test,
            "url": self.url,
            "seed": self.seed,
            "total": self.tally.total(),
            "successful": self.tally.succeeded,
            "failed": self.tally.failed,
            "left": self.tally.left,
            "unsent": self.unsent,
            "resent": self.tally.resent,
            "error_rate": rounded(self.error_rate()),
            "duration_seconds": rounded(self.took.as_secs_f64()),
            "throughput": rounded(self.throughput()),
            "latency_ms": latency,
            "status": status,
            "errors": self.errors(),
            "turns": self.turns,
            "thresholds": thresholds,
            "process": self.taken,
            "interrupted": self.interrupted,
        })
    }
}

/// As exact as it means anything.
fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stress::tally::Failure;

    fn outcome(failed: bool) -> Outcome {
        let mut tally = Tally::default();
        for millis in 1..=100 {
            let failure = || Failure { kind: "503".to_owned(), said: "busy".to_owned() };
            let error = (failed && millis > 90).then(failure);
            let status = if error.is_some() { 503 } else { 200 };
            tally.ended(Duration::from_secs(1), Duration::from_millis(millis), Some(status), error);
        }
        let (took, turns) = (Duration::from_secs(2), Turns::default());
        let (url, checked) = ("http://a".to_owned(), Vec::new());
        Outcome {
            test: "agent-run",
            url,
            seed: 1,
            tally,
            took,
            turns,
            taken: None,
            interrupted: false,
            unsent: 0,
            spaced: false,
            checked,
        }
    }

    #[test]
    fn the_json_has_every_member_that_scripts_rely_on() {
        let json = outcome(true).json();
        for name in ["test", "url", "total", "successful", "failed", "error_rate", "duration_seconds", "throughput"] {
            assert!(!json[name].is_null(), "{name}");
        }
        for name in ["mean", "p50", "p95", "p99", "min", "max"] {
            assert!(json["latency_ms"][name].as_f64() > Some(0.0), "{name}");
        }
        assert_eq!((&json["status"]["200"], &json["status"]["503"]), (&90.into(), &10.into()));
        assert_eq!(json["errors"][0], "10 x 503: busy");
        assert_eq!((&json["error_rate"], &json["throughput"]), (&0.1.into(), &45.0.into()));
        assert!(json["turns"]["lost"].is_null() && json["turns"].get("out_of_order").is_some());
    }

    #[test]
    fn thresholds_hold_up_to_their_limit_and_what_nobody_can_tell_holds_not() {
        let mut outcome = outcome(true);
        let mut thresholds = Thresholds {
            max_error_rate: Some(0.1),
            max_p95: Some(Duration::from_millis(96)),
            max_mean: Some(Duration::from_millis(51)),
            min_throughput: Some(45.0),
            max_turn_faults: None,
        };
        outcome.check(&thresholds);
        assert!(outcome.holds() && outcome.checked.len() == 4, "{:?}", outcome.checked);
        thresholds.max_error_rate = Some(0.09);
        thresholds.max_turn_faults = Some(0);
        outcome.check(&thresholds);
        let broken: Vec<&str> = outcome.checked.iter().filter(|it| !it.ok).map(|it| it.name).collect();
        assert_eq!(broken, ["max_error_rate", "max_turn_faults"]);
    }

    #[test]
    fn what_could_not_be_sent_in_its_time_counts_for_the_threshold_and_the_line_says_so() {
        let mut outcome = outcome(false);
        outcome.unsent = 100;
        let thresholds =
            Thresholds { max_error_rate: Some(0.4), max_p95: Some(Duration::from_secs(1)), ..Thresholds::default() };
        outcome.check(&thresholds);
        assert!(!outcome.holds() && outcome.checked[0].value == Some(0.5), "{:?}", outcome.checked);
        let summary = outcome.summary();
        assert!(
            summary.contains("BROKEN: max_error_rate 0.4 (is 0.5000; the 100 not sent count as failed)"),
            "{summary}"
        );
        assert!(summary.contains("the 100 not sent are not in it"), "{summary}");
        assert!((outcome.error_rate() - 0.0).abs() < f64::EPSILON, "of what was sent nothing failed");
        outcome.check(&Thresholds { max_error_rate: Some(0.5), ..Thresholds::default() });
        assert!(outcome.holds());
    }

    #[test]
    fn a_run_of_which_nothing_came_holds_no_threshold() {
        let mut outcome = outcome(false);
        outcome.tally = Tally::default();
        outcome.check(&Thresholds { max_error_rate: Some(1.0), ..Thresholds::default() });
        assert!(!outcome.holds());
    }
}
