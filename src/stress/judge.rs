//! Whether turns were turns: what was sent, against the agent's own record of what it executed.
//!
//! The record says of each session which messages were executed, when each began and ended, in any order. The order that is
//! looked for is that of sending. Messages of a session are sent some milliseconds apart; two that are nearer than
//! [`APART`] may have arrived in either order, and are not held against anybody.

pub mod record;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::stress::plan::Plan;
use crate::stress::tally::{Sent, Went};

/// Messages sent so far apart arrive in the order in which they were sent.
pub const APART: Duration = Duration::from_millis(8);

/// The record: executed messages by session.
pub type Record = BTreeMap<String, Vec<Executed>>;

/// One message that the agent executed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Executed {
    pub message: String,
    /// In seconds, by whatever clock.
    pub start: f64,
    /// `None`: still at it.
    pub end: Option<f64>,
    #[serde(default)]
    pub client_gone: bool,
}

/// What went wrong with turns. `None`: nobody can tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Turns {
    /// Began only after one that was sent at least [`APART`] later.
    pub out_of_order: Option<u64>,
    /// Began before the one before it had ended.
    pub overlapping: Option<u64>,
    /// Executions beyond the first, or beyond as many as the message was sent.
    pub repeated: Option<u64>,
    /// Answered with a success, and never executed.
    pub lost: Option<u64>,
    /// Executed for clients that had left.
    pub wasted: Option<u64>,
}

impl Turns {
    /// All that must not be. Wasted work is no fault of order.
    #[must_use]
    pub fn faults(&self) -> Option<u64> {
        Some(self.out_of_order? + self.overlapping? + self.repeated? + self.lost?)
    }
}

/// The record without what stood there before: a run with the same seed has the same names.
#[must_use]
pub fn without(mut record: Record, before: &Record) -> Record {
    for (session, executed) in &mut record {
        let old = before.get(session).map_or(&[][..], Vec::as_slice);
        executed
            .retain(|one| !old.iter().any(|old| old.message == one.message && old.start.total_cmp(&one.start).is_eq()));
    }
    record
}

/// Judges what was sent by the record.
#[must_use]
pub fn judge(plan: &Plan, sent: &[Sent], record: &Record) -> Turns {
    let mut turns =
        Turns { out_of_order: Some(0), overlapping: Some(0), repeated: Some(0), lost: Some(0), wasted: Some(0) };
    let add = |to: &mut Option<u64>, count: usize| *to = to.map(|so_far| so_far + count as u64);
    let mut sessions: BTreeMap<u64, Vec<&Sent>> = BTreeMap::new();
    for one in sent {
        sessions.entry(one.turn.session).or_default().push(one);
    }
    for (session, mut messages) in sessions {
        messages.sort_by_key(|one| one.at);
        let places: HashMap<String, usize> =
            messages.iter().enumerate().map(|(place, one)| (plan.message(&one.turn), place)).collect();
        let mut executed: Vec<&Executed> = record.get(&plan.session(session)).into_iter().flatten().collect();
        executed.sort_by(|one, other| one.start.total_cmp(&other.start));
        let mut times = vec![0_usize; messages.len()];
        let mut ended = f64::NEG_INFINITY;
        let mut latest: Option<Duration> = None;
        for one in executed {
            let Some(place) = places.get(&one.message).copied() else { continue };
            times[place] += 1;
            add(&mut turns.overlapping, usize::from(one.start < ended));
            ended = ended.max(one.end.unwrap_or(f64::INFINITY));
            if times[place] > 1 {
                continue;
            }
            let at = messages[place].at;
            add(&mut turns.out_of_order, usize::from(latest.is_some_and(|latest| latest >= at + APART)));
            latest = Some(latest.map_or(at, |latest| latest.max(at)));
            let gone = messages[place].went == Went::Left || one.client_gone;
            add(&mut turns.wasted, usize::from(gone));
        }
        add(
            &mut turns.repeated,
            messages.iter().zip(&times).map(|(one, times)| times.saturating_sub(one.sent as usize)).sum(),
        );
        let lost = messages.iter().zip(&times).filter(|(one, times)| one.went == Went::Succeeded && **times == 0);
        add(&mut turns.lost, lost.count());
    }
    turns
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::stress::client::Target;
    use crate::stress::plan::{Test, Turn};

    fn plan() -> Plan {
        let test = Test::SessionQueue { agent: "a".to_owned(), sessions: 1, messages: 9 };
        let target = Target::of("http://127.0.0.1:1").expect("a URL");
        Plan { target, test, name: "n".to_owned(), seed: 1, headers: HeaderMap::new() }
    }

    fn sent(number: u64, went: Went) -> Sent {
        Sent { turn: Turn { session: 0, number }, at: Duration::from_millis(number * 10), went, sent: 1 }
    }

    /// By number, each with its start and end.
    fn judged(sent: &[Sent], executed: &[(u64, f64, f64)]) -> [u64; 5] {
        let plan = plan();
        let executed = executed.iter().map(|(number, start, end)| Executed {
            message: plan.message(&Turn { session: 0, number: *number }),
            start: *start,
            end: Some(*end),
            client_gone: false,
        });
        let record = Record::from([(plan.session(0), executed.collect())]);
        let turns = judge(&plan, sent, &record);
        [turns.out_of_order, turns.overlapping, turns.repeated, turns.lost, turns.wasted]
            .map(|count| count.expect("known"))
    }

    #[test]
    fn each_fault_is_told_from_the_others() {
        let all: Vec<Sent> = (0..3).map(|number| sent(number, Went::Succeeded)).collect();
        let good = [(0, 0.0, 1.0), (1, 1.0, 2.0), (2, 2.0, 3.0)];
        assert_eq!(judged(&all, &good), [0, 0, 0, 0, 0]);
        assert_eq!(judged(&all, &[good[2], good[0], good[1]]), [0, 0, 0, 0, 0], "the record may be in any order");
        assert_eq!(judged(&all, &[(1, 0.0, 1.0), (0, 1.0, 2.0), good[2]]), [1, 0, 0, 0, 0]);
        assert_eq!(judged(&all, &[(0, 0.0, 1.5), (1, 1.0, 2.0), (2, 2.0, 3.0)]), [0, 1, 0, 0, 0]);
        assert_eq!(judged(&all, &[good[0], good[1], good[2], (1, 3.0, 4.0)]), [0, 0, 1, 0, 0]);
        assert_eq!(judged(&all, &good[..2]), [0, 0, 0, 1, 0]);
        assert_eq!(judged(&all, &[]), [0, 0, 0, 3, 0]);
        assert_eq!(judged(&all, &[(1, 0.0, 1.0), (2, 1.0, 2.0), (0, 2.0, 3.0)]), [1, 0, 0, 0, 0], "one came late");
        assert_eq!(judged(&all, &[(2, 0.0, 1.0), (0, 1.0, 2.0), (1, 2.0, 3.0)]), [2, 0, 0, 0, 0], "two came late");
    }

    #[test]
    fn what_was_sent_twice_may_be_executed_twice() {
        let mut all = [sent(0, Went::Succeeded)];
        all[0].sent = 2;
        assert_eq!(judged(&all, &[(0, 0.0, 1.0), (0, 1.0, 2.0)]), [0, 0, 0, 0, 0]);
        assert_eq!(judged(&all, &[(0, 0.0, 1.0), (0, 1.0, 2.0), (0, 2.0, 3.0)]), [0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_failure_is_not_lost_and_work_for_those_who_left_is_wasted() {
        let all = [sent(0, Went::Failed), sent(1, Went::Left), sent(2, Went::Succeeded)];
        assert_eq!(judged(&all, &[(1, 1.0, 2.0), (2, 2.0, 3.0)]), [0, 0, 0, 0, 1]);
    }

    #[test]
    fn what_was_sent_in_one_moment_may_come_in_either_order() {
        let mut all = [sent(0, Went::Succeeded), sent(1, Went::Succeeded)];
        all[1].at = Duration::from_millis(3);
        assert_eq!(judged(&all, &[(1, 0.0, 1.0), (0, 1.0, 2.0)]), [0, 0, 0, 0, 0]);
    }
}
