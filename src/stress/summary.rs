//! A run in words, for a terminal.

use std::fmt::Write as _;

use crate::stress::outcome::Outcome;
use crate::stress::run::GAP;

impl Outcome {
    /// The summary that is printed at the end.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let mut line = |what: &str, value: String| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{what:<16} {value}");
        };
        let tally = &self.tally;
        let ended = if self.interrupted { " (ended by Ctrl-C)" } else { "" };
        line("test", format!("{} against {}{ended}", self.test, self.url));
        line("seed", self.seed.to_string());
        line("requests", format!("{}: {} successful, {} failed", tally.total(), tally.succeeded, tally.failed));
        if tally.left > 0 {
            line("left early", format!("{} more, by clients that did not wait for their answers", tally.left));
        }
        if self.unsent > 0 {
            line("not sent", format!("{} that were due: all clients were waiting; raise --concurrency", self.unsent));
        }
        if tally.resent > 0 {
            let when =
                "because a kept connection was closed when they came; the server may have read some of them twice";
            line("sent again", format!("{} of them, {when}", tally.resent));
        }
        if self.spaced {
            line(
                "spacing",
                format!(
                    "the rate was bounded: messages of one session are sent {GAP:?} apart, in order; more --session-count makes more"
                ),
            );
        }
        line("error rate", format!("{:.2} %", self.error_rate() * 100.0));
        line("duration", format!("{:.2} s", self.took.as_secs_f64()));
        line("throughput", format!("{:.1} successes a second", self.throughput()));
        let latencies = self.latencies().map(|(name, value)| format!("{name} {}", millis(value)));
        line("latency", latencies.join(", "));
        let status: Vec<String> = tally.status.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        line("status", if status.is_empty() { "no answers".to_owned() } else { status.join(", ") });
        for (place, error) in self.errors().iter().enumerate() {
            line(if place == 0 { "errors" } else { "" }, error.lines().next().unwrap_or("").to_owned());
        }
        let turns = [
            ("out of order", self.turns.out_of_order),
            ("overlapping", self.turns.overlapping),
            ("ran twice", self.turns.repeated),
            ("lost", self.turns.lost),
            ("for nobody", self.turns.wasted),
        ];
        if turns.iter().any(|(_, count)| count.is_some()) {
            let turns = turns.map(|(what, count)| {
                format!("{} {what}", count.map_or_else(|| "unknown".to_owned(), |count| count.to_string()))
            });
            line("turns", turns.join(", "));
        }
        if let Some(taken) = &self.taken {
            let ended = if taken.ended { "; it ENDED amid the run" } else { "" };
            let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
            line(
                "process",
                format!(
                    "{:.1} MiB at first, {:.1} MiB at most, {:.1} MiB at last, {:.1} s of processor time, {} open files at most{ended}",
                    mib(taken.first_memory_bytes),
                    mib(taken.peak_memory_bytes),
                    mib(taken.last_memory_bytes),
                    taken.cpu_seconds,
                    taken.peak_open_files
                ),
            );
        }
        for checked in &self.checked {
            let value = checked.value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.4}"));
            let word = if checked.ok { "holds" } else { "BROKEN" };
            // A threshold must not seem to hold for what was never asked.
            let unsent = match (self.unsent, checked.name) {
                (0, _) | (_, "max_turn_faults") => String::new(),
                (unsent, "max_error_rate") => format!("; the {unsent} not sent count as failed"),
                (unsent, _) => format!("; the {unsent} not sent are not in it"),
            };
            line("threshold", format!("{word}: {} {} (is {value}{unsent})", checked.name, checked.limit));
        }
        text
    }
}

/// Milliseconds for people.
#[must_use]
pub fn millis(value: f64) -> String {
    if value >= 1000.0 { format!("{:.2} s", value / 1000.0) } else { format!("{value:.1} ms") }
}
