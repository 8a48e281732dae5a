//! Which job is next. Pure: instants come in, decisions go out; no store, no clock, no HTTP.
//!
//! ```text
//!   Arriving ──on disk──▶ Ready ──next──▶ Running ──▶ (gone)
//!      └─▶ (gone)          ▲ ▲               │
//!                          │ └──time over── Delayed, PutOff ◀── to be tried again
//!                          └── back, as if it had not begun
//! ```
//!
//! Jobs go in the order in which they were accepted. Those of one lane have places in it, from their acceptance to their
//! end: only the first `width` of them may run, so one that is to be tried again holds back its lane and nobody else.
//! One that is not on disk yet has its place already: whoever came later in its lane does not overtake it.
//!
//! Each upstream has a breaker. When it is down, nothing is begun there for a while; then one job has a look, and as long
//! as looks fail the pauses grow. So an outage costs the tries of the few that have a look, not of the whole queue. Looks
//! go round: whoever has failed least goes first, because it may be the jobs that fail, and not the upstream.
//!
//! One that the gateway does not let in for a reason that its whole route has (a rate limit) holds back those of its route
//! that came later, and goes before them when it is let in again: so they keep their order there as well.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::retry;

/// The place of a job in the order of acceptance.
pub type Seq = u64;

/// So many failures in a row at an upstream are taken for its being down.
const FAILURES_IN_A_ROW: u32 = 5;
/// Pauses between so many looks do not grow yet, where the upstream answers at least: it may be the jobs' fault.
const LOOKS_AT_JOBS: u32 = 5;
/// An upstream is not left alone for longer than that because it asks for it: it may have asked one job.
const LONGEST_ASKED: Duration = Duration::from_secs(60);
/// One that was put off begins so long before the others of its route: they do not reach the gate at the same moment.
const HEAD_START: Duration = Duration::from_millis(10);

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Arriving,
    Ready,
    Delayed(Instant),
    /// The same, and those of its route that came later wait for it.
    PutOff(Instant),
    Running,
}

impl Stage {
    fn due(self) -> Option<Instant> {
        match self {
            Self::Delayed(due) | Self::PutOff(due) => Some(due),
            Self::Arriving | Self::Ready | Self::Running => None,
        }
    }
}

/// What a job waits for beside its time.
#[derive(Debug, Clone)]
pub struct Placing {
    /// The line that it stands in; `None`: it waits for no other.
    pub lane: Option<Arc<str>>,
    /// How many of the lane may run at once.
    pub width: usize,
    pub upstream: Arc<str>,
    pub route: Arc<str>,
    /// Tries that have failed.
    pub tries: u32,
}

#[derive(Debug)]
struct Entry {
    placing: Placing,
    stage: Stage,
    /// It was put off, and has not begun again since.
    was_put_off: bool,
    /// It runs, and has failed before.
    runs_again: bool,
}

/// Those who could begin at once, in their order: what else they wait for they have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Group {
    upstream: Arc<str>,
    route: Arc<str>,
}

impl Placing {
    fn group(&self) -> Group {
        Group { upstream: self.upstream.clone(), route: self.route.clone() }
    }
}

/// A route some of whose jobs were put off.
#[derive(Debug, Default)]
struct Gate {
    put_off: BTreeSet<Seq>,
    /// When others may follow the one that goes first.
    next: Option<Instant>,
}

/// How an upstream fared with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answered.
    Well,
    /// It failed, which may be the job's fault.
    Failed,
    /// It could not be reached.
    Down,
}

#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    /// Looks that have failed, and until when nothing is begun.
    looks: u32,
    until: Option<Instant>,
    /// Who has a look.
    looking: Option<Seq>,
}

impl Breaker {
    /// Whether a job may begin there now.
    fn lets_in(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now && self.looking.is_none())
    }
}

/// All jobs that have not ended.
#[derive(Debug, Default)]
pub struct Schedule {
    entries: HashMap<Seq, Entry>,
    lanes: HashMap<Arc<str>, BTreeSet<Seq>>,
    ready: HashMap<Group, BTreeSet<Seq>>,
    delayed: BTreeSet<(Instant, Seq)>,
    breakers: BTreeMap<Arc<str>, Breaker>,
    gates: HashMap<Arc<str>, Gate>,
    running: usize,
    /// Those of them that have failed before, by upstream.
    running_again: HashMap<Arc<str>, u32>,
}

impl Schedule {
    /// A job that is being written to disk takes its place.
    pub fn enter(&mut self, seq: Seq, placing: Placing) {
        if let Some(lane) = &placing.lane {
            self.lanes.entry(lane.clone()).or_default().insert(seq);
        }
        let lane = placing.lane.clone();
        self.entries.insert(seq, Entry { placing, stage: Stage::Arriving, was_put_off: false, runs_again: false });
        self.settle(lane);
    }

    /// It may begin from now on.
    pub fn ready(&mut self, seq: Seq) {
        self.stage(seq, Stage::Ready);
    }

    /// It may not begin for now, and keeps its place.
    pub fn hold(&mut self, seq: Seq) {
        self.stage(seq, Stage::Arriving);
    }

    /// It may begin again at `due`, and keeps its place meanwhile.
    pub fn delay(&mut self, seq: Seq, due: Instant) {
        self.stage(seq, Stage::Delayed(due));
    }

    /// The same, and those of its route that came later wait for it: what it waits for they would wait for as well.
    pub fn put_off(&mut self, seq: Seq, due: Instant) {
        self.stage(seq, Stage::PutOff(due));
    }

    /// It has ended.
    pub fn leave(&mut self, seq: Seq) {
        self.stage(seq, Stage::Arriving);
        self.not_looked(seq);
        let Some(entry) = self.entries.remove(&seq) else { return };
        if let Some(name) = &entry.placing.lane
            && let Some(lane) = self.lanes.get_mut(name)
        {
            lane.remove(&seq);
            if lane.is_empty() {
                self.lanes.remove(name);
            }
        }
        self.settle(entry.placing.lane);
    }

    /// Which job begins now. It runs from here on.
    pub fn next(&mut self, now: Instant) -> Option<Seq> {
        while let Some((due, seq)) = self.delayed.first().copied().filter(|(due, _)| *due <= now) {
            self.delayed.remove(&(due, seq));
            self.stage(seq, Stage::Ready);
        }
        self.gates.retain(|_, gate| {
            gate.next = gate.next.filter(|next| *next > now);
            gate.next.is_some() || !gate.put_off.is_empty()
        });
        let mut firsts = BTreeMap::new();
        for (group, jobs) in &self.ready {
            if let Some(first) = self.first(group, jobs, now) {
                let best = firsts.entry(&group.upstream).or_insert(first);
                *best = first.min(*best);
            }
        }
        let seq = firsts.into_values().map(|(_, seq)| seq).min()?;
        let Entry { placing, was_put_off, runs_again, .. } = self.entries.get_mut(&seq)?;
        *runs_again = placing.tries > 0;
        if std::mem::take(was_put_off) {
            self.gates.entry(placing.route.clone()).or_default().next = Some(now + HEAD_START);
        }
        let upstream = placing.upstream.clone();
        if let Some(breaker) = self.breakers.get_mut(&upstream).filter(|breaker| breaker.until.is_some()) {
            breaker.looking = Some(seq);
        }
        self.stage(seq, Stage::Running);
        Some(seq)
    }

    /// Who of a group would begin now. Beside it stands how often it has failed, where that counts.
    fn first(&self, group: &Group, jobs: &BTreeSet<Seq>, now: Instant) -> Option<(u32, Seq)> {
        let breaker = self.breakers.get(&group.upstream);
        let gate = self.gates.get(&group.route);
        let is_shut = breaker.is_some_and(|breaker| !breaker.lets_in(now))
            || gate.and_then(|gate| gate.next).is_some_and(|next| now < next);
        if is_shut {
            return None;
        }
        let mut open = jobs.range(..self.held_from(group));
        let is_up = breaker.is_none_or(|breaker| breaker.until.is_none());
        // Those that have failed before cannot make an upstream be taken for down by themselves, while there are others.
        let again = self.running_again.get(&group.upstream).copied().unwrap_or(0);
        let may_trip = breaker.map_or(0, |breaker| breaker.failures) + again + 1 >= FAILURES_IN_A_ROW;
        if is_up && !may_trip {
            return open.next().map(|seq| (0, *seq));
        }
        let mut best = None;
        for seq in open {
            let tries = self.entries.get(seq).map_or(0, |entry| entry.placing.tries);
            if best.is_none_or(|(least, _)| tries < least) {
                best = Some((tries, *seq));
            }
            if tries == 0 {
                break;
            }
        }
        best
    }

    /// Those of the group from here on wait for one that was put off.
    fn held_from(&self, group: &Group) -> Seq {
        self.gates.get(&group.route).and_then(|gate| gate.put_off.first().copied()).unwrap_or(Seq::MAX)
    }

    /// When [`next`](Self::next) is worth asking again, if nothing else happens. It may be past: then it is not the time
    /// that is lacking.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let opens = self.ready.iter().filter_map(|(group, jobs)| {
            let breaker = self.breakers.get(&group.upstream);
            let next = self.gates.get(&group.route).and_then(|gate| gate.next);
            let may_begin = breaker.is_none_or(|breaker| breaker.looking.is_none())
                && jobs.first().is_some_and(|first| *first < self.held_from(group));
            breaker.and_then(|breaker| breaker.until).max(next).filter(|_| may_begin)
        });
        self.delayed.first().map(|(due, _)| *due).into_iter().chain(opens).min()
    }

    /// Notes how the upstream of a job fared with it. `asked`: when it wants to be tried again.
    pub fn fared(&mut self, seq: Seq, health: Health, base: Duration, now: Instant, asked: Option<Instant>) {
        let Some(Entry { placing, .. }) = self.entries.get_mut(&seq) else { return };
        let upstream = placing.upstream.clone();
        if health == Health::Well {
            self.breakers.remove(&upstream);
            return;
        }
        placing.tries = placing.tries.saturating_add(1);
        let breaker = self.breakers.entry(upstream).or_default();
        let looked = breaker.looking == Some(seq);
        breaker.failures = breaker.failures.saturating_add(1);
        let is_down = health == Health::Down || breaker.failures >= FAILURES_IN_A_ROW;
        // Those who were under way when it went down say nothing new.
        if looked || (is_down && breaker.until.is_none()) {
            breaker.looking = None;
            breaker.looks = breaker.looks.saturating_add(1);
            let grown =
                if health == Health::Down { breaker.looks } else { breaker.looks.saturating_sub(LOOKS_AT_JOBS) };
            let pause = now + retry::pause(base, grown.max(1));
            breaker.until = Some(asked.map_or(pause, |asked| asked.min(now + LONGEST_ASKED).max(pause)));
        }
    }

    /// It has not come to its upstream, or nobody knows how that fared: whoever had a look has not looked.
    pub fn not_looked(&mut self, seq: Seq) {
        if let Some(entry) = self.entries.get(&seq)
            && let Some(breaker) = self.breakers.get_mut(&entry.placing.upstream)
            && breaker.looking == Some(seq)
        {
            breaker.looking = None;
        }
    }

    /// It goes to another upstream than was thought.
    pub fn moved(&mut self, seq: Seq, upstream: &Arc<str>) {
        if let Some(entry) = self.entries.get_mut(&seq)
            && entry.placing.upstream != *upstream
            && entry.stage == Stage::Running
        {
            if entry.runs_again {
                count(&mut self.running_again, &entry.placing.upstream, false);
                count(&mut self.running_again, upstream, true);
            }
            let before = std::mem::replace(&mut entry.placing.upstream, upstream.clone());
            if let Some(breaker) = self.breakers.get_mut(&before).filter(|breaker| breaker.looking == Some(seq)) {
                breaker.looking = None;
            }
        }
    }

    #[must_use]
    pub fn running(&self) -> usize {
        self.running
    }

    fn stage(&mut self, seq: Seq, stage: Stage) {
        let Some(entry) = self.entries.get_mut(&seq) else { return };
        let before = std::mem::replace(&mut entry.stage, stage);
        let lane = entry.placing.lane.clone();
        let group = entry.placing.group();
        if let Some(due) = before.due() {
            self.delayed.remove(&(due, seq));
        }
        if let Some(due) = stage.due() {
            self.delayed.insert((due, seq));
        }
        if matches!(stage, Stage::PutOff(_)) {
            entry.was_put_off = true;
            self.gates.entry(group.route.clone()).or_default().put_off.insert(seq);
        } else if matches!(before, Stage::PutOff(_))
            && let Some(gate) = self.gates.get_mut(&group.route)
        {
            gate.put_off.remove(&seq);
        }
        if before == Stage::Running && std::mem::take(&mut entry.runs_again) {
            count(&mut self.running_again, &group.upstream, false);
        } else if stage == Stage::Running && entry.runs_again {
            count(&mut self.running_again, &group.upstream, true);
        }
        self.running -= usize::from(before == Stage::Running);
        self.running += usize::from(stage == Stage::Running);
        if stage == Stage::Ready && self.is_among_the_first(seq) {
            self.ready.entry(group).or_default().insert(seq);
        } else {
            not_ready(&mut self.ready, &group, seq);
        }
        if stage == Stage::Arriving || stage == Stage::Ready {
            self.settle(lane);
        }
    }

    fn is_among_the_first(&self, seq: Seq) -> bool {
        let Some(entry) = self.entries.get(&seq) else { return false };
        let Some(lane) = &entry.placing.lane else { return true };
        self.lanes.get(lane).is_some_and(|lane| lane.iter().take(entry.placing.width).any(|other| *other == seq))
    }

    /// Brings those of a lane who could begin in line with their places. Only those near its head can have changed.
    fn settle(&mut self, lane: Option<Arc<str>>) {
        let Some(lane) = lane.and_then(|name| self.lanes.get(&name)) else { return };
        let mut places = 0;
        for seq in lane {
            let Some(entry) = self.entries.get(seq) else { continue };
            let (first, width) = (places < entry.placing.width, entry.placing.width);
            if places > width {
                break;
            }
            places += 1;
            if entry.stage != Stage::Ready {
                continue;
            }
            let group = entry.placing.group();
            if first {
                self.ready.entry(group).or_default().insert(*seq);
            } else {
                // One that came back with an earlier place has pushed it out.
                not_ready(&mut self.ready, &group, *seq);
            }
        }
    }
}

/// One more of them, or one less.
fn count(counts: &mut HashMap<Arc<str>, u32>, of: &Arc<str>, more: bool) {
    let count = counts.entry(of.clone()).or_default();
    *count = if more { *count + 1 } else { count.saturating_sub(1) };
    if *count == 0 {
        counts.remove(of);
    }
}

fn not_ready(ready: &mut HashMap<Group, BTreeSet<Seq>>, group: &Group, seq: Seq) {
    if let Some(jobs) = ready.get_mut(group) {
        jobs.remove(&seq);
        if jobs.is_empty() {
            ready.remove(group);
        }
    }
}

#[cfg(test)]
mod tests;
