//! Two sides beside each other.

use std::fmt::Write as _;
use std::time::Duration;

use crate::stress::judge::Turns;
use crate::stress::summary::millis;
use crate::stress::tally::Tally;

/// What one side has shown.
#[derive(Debug)]
pub struct Side {
    pub name: &'static str,
    pub tally: Tally,
    pub took: Duration,
    pub turns: Turns,
    pub corrupted: u64,
    pub conversations: u64,
}

impl Side {
    /// Whether every message was answered, and every conversation is what it should be.
    #[must_use]
    pub fn lost_nothing(&self) -> bool {
        self.tally.failed == 0 && self.tally.succeeded > 0 && self.corrupted == 0 && self.turns.faults() == Some(0)
    }

    fn success(&self) -> f64 {
        let total = self.tally.total();
        if total == 0 { 0.0 } else { 100.0 * self.tally.succeeded as f64 / total as f64 }
    }

    fn cells(&self) -> [String; 9] {
        let count = |count: Option<u64>| count.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
        let seconds = self.took.as_secs_f64().max(0.001);
        [
            self.name.to_owned(),
            format!("{:.1} %", self.success()),
            format!("{} of {}", self.corrupted, self.conversations),
            count(self.turns.out_of_order),
            count(self.turns.overlapping),
            millis(self.tally.quantile(0.5)),
            millis(self.tally.quantile(0.95)),
            format!("{:.1}/s", self.tally.succeeded as f64 / seconds),
            format!("{seconds:.1} s"),
        ]
    }
}

const ROWS: [&str; 9] = [
    "",
    "success rate",
    "corrupted conversations",
    "turns out of order",
    "overlapping turns",
    "latency p50",
    "latency p95",
    "successes",
    "time",
];

/// The sides as columns.
pub(super) fn table(sides: &[&Side]) -> String {
    let columns: Vec<[String; 9]> = sides.iter().map(|side| side.cells()).collect();
    let mut text = String::new();
    for (row, name) in ROWS.iter().enumerate() {
        // Writing to a String does not fail.
        let _ = write!(text, "{name:<24}");
        for column in &columns {
            let _ = write!(text, "{:>20}", column[row]);
        }
        text.push('\n');
    }
    text
}

/// One sentence on what the table shows.
pub(super) fn verdict(direct: &Side, through: &Side, own_policy: bool) -> &'static str {
    match (direct.lost_nothing(), through.lost_nothing()) {
        (false, true) => {
            "Directly the agent failed. Through Turnwise it lost nothing, and each conversation took its turns."
        }
        (true, true) => "Neither side lost anything: this machine was too slow to make the agent fail.",
        (_, false) if own_policy => {
            "Through Turnwise something was lost, as this policy has it: the agent takes three requests at once, and one at a time \
             of each conversation, which this load tells apart by the JSON member /session_name."
        }
        (_, false) => "Through Turnwise something was lost. That must not be: please report it, with the log.",
    }
}
