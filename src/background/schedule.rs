//! Which job is next. Pure: instants come in, decisions go out; no store, no clock, no HTTP.
//!
//! ```text
//!   Arriving ──on disk──▶ Ready ──next──▶ Running ──▶ (gone)
//!      └─▶ (gone)          ▲ ▲               │
//!                          │ └──time over── Delayed ◀── to be tried again
//!                          └── back, as if it had not begun
//! ```
//!
//! Jobs go in the order in which they were accepted. Those of one lane have places in it, from their acceptance to their
//! end: only the first `width` of them may run, so one that is to be tried again holds back its lane and nobody else.
//! One that is not on disk yet has its place already: whoever came later in its lane does not overtake it.
//!
//! Each upstream has a breaker. When it is down, nothing is begun there for a while; then one job has a look, and as long
//! as looks fail the pauses grow. So an outage costs the tries of the few that have a look, not of the whole queue.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::retry;

/// The place of a job in the order of acceptance.
pub type Seq = u64;

/// So many failures in a row at an upstream are taken for its being down.
const FAILURES_IN_A_ROW: u32 = 5;

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Arriving,
    Ready,
    Delayed(Instant),
    Running,
}

/// What a job waits for beside its time.
#[derive(Debug, Clone)]
pub struct Placing {
    /// The line that it stands in; `None`: it waits for no other.
    pub lane: Option<Arc<str>>,
    /// How many of the lane may run at once.
    pub width: usize,
    pub upstream: Arc<str>,
}

#[derive(Debug)]
struct Entry {
    placing: Placing,
    stage: Stage,
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
    /// Those who could begin at once, by upstream.
    ready: HashMap<Arc<str>, BTreeSet<Seq>>,
    delayed: BTreeSet<(Instant, Seq)>,
    breakers: BTreeMap<Arc<str>, Breaker>,
    running: usize,
}

impl Schedule {
    /// A job that is being written to disk takes its place.
    pub fn enter(&mut self, seq: Seq, placing: Placing) {
        if let Some(lane) = &placing.lane {
            self.lanes.entry(lane.clone()).or_default().insert(seq);
        }
        let lane = placing.lane.clone();
        self.entries.insert(seq, Entry { placing, stage: Stage::Arriving });
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
        let open = |upstream: &Arc<str>| self.breakers.get(upstream).is_none_or(|breaker| breaker.lets_in(now));
        let firsts = self.ready.iter().filter(|(upstream, _)| open(upstream));
        let (seq, upstream) = firsts
            .filter_map(|(upstream, jobs)| Some((*jobs.first()?, upstream.clone())))
            .min_by_key(|(seq, _)| *seq)?;
        if let Some(breaker) = self.breakers.get_mut(&upstream).filter(|breaker| breaker.until.is_some()) {
            breaker.looking = Some(seq);
        }
        self.stage(seq, Stage::Running);
        Some(seq)
    }

    /// When [`next`](Self::next) is worth asking again, if nothing else happens. It may be past: then it is not the time
    /// that is lacking.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        let paused = self.breakers.iter().filter(|(upstream, breaker)| {
            breaker.looking.is_none() && self.ready.get(*upstream).is_some_and(|jobs| !jobs.is_empty())
        });
        let paused = paused.filter_map(|(_, breaker)| breaker.until).min();
        self.delayed.first().map(|(due, _)| *due).into_iter().chain(paused).min()
    }

    /// Notes how the upstream of a job fared with it. `due`: when the job itself may be tried again.
    pub fn fared(&mut self, seq: Seq, health: Health, base: Duration, now: Instant, due: Option<Instant>) {
        let Some(upstream) = self.entries.get(&seq).map(|entry| entry.placing.upstream.clone()) else { return };
        if health == Health::Well {
            self.breakers.remove(&upstream);
            return;
        }
        let breaker = self.breakers.entry(upstream).or_default();
        let looked = breaker.looking == Some(seq);
        breaker.failures = breaker.failures.saturating_add(1);
        let is_down = health == Health::Down || breaker.failures >= FAILURES_IN_A_ROW;
        // Those who were under way when it went down say nothing new.
        if looked || (is_down && breaker.until.is_none()) {
            breaker.looking = None;
            breaker.looks = breaker.looks.saturating_add(1);
            let pause = now + retry::pause(base, breaker.looks);
            breaker.until = Some(due.map_or(pause, |due| due.min(now + Duration::from_secs(60)).max(pause)));
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
        let upstream = entry.placing.upstream.clone();
        if let Stage::Delayed(due) = before {
            self.delayed.remove(&(due, seq));
        }
        if let Stage::Delayed(due) = stage {
            self.delayed.insert((due, seq));
        }
        self.running -= usize::from(before == Stage::Running);
        self.running += usize::from(stage == Stage::Running);
        if stage == Stage::Ready && self.is_among_the_first(seq) {
            self.ready.entry(upstream).or_default().insert(seq);
        } else if let Some(jobs) = self.ready.get_mut(&upstream) {
            jobs.remove(&seq);
            if jobs.is_empty() {
                self.ready.remove(&upstream);
            }
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
            let (first, Placing { width, upstream, .. }) = (places < entry.placing.width, &entry.placing);
            if places > *width {
                break;
            }
            places += 1;
            if entry.stage != Stage::Ready {
                continue;
            }
            if first {
                self.ready.entry(upstream.clone()).or_default().insert(*seq);
            } else if let Some(jobs) = self.ready.get_mut(upstream) {
                // One that came back with an earlier place has pushed it out.
                jobs.remove(seq);
                if jobs.is_empty() {
                    self.ready.remove(upstream);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
