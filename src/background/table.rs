//! What is known of all jobs, in memory. Requests and answers are on disk only.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::job::{JobId, Status, View};
use super::record::Record;
use super::schedule::{Schedule, Seq};
use super::store::Space;
use super::{Stop, placing};
use crate::policy::Background;
use crate::time;

/// What a job counts for in the store beside its request and its answer.
const RECORD: u64 = 512;
/// How long jobs that have failed are kept at least for the operator, where nobody needs the room.
const KEEP_FAILED: Duration = Duration::from_secs(7 * 24 * 3600);
/// A client that waits for its job need not ask more often, nor less often.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How far a job has come, as only this process sees it.
#[derive(Debug)]
pub(super) enum Stage {
    /// It is being written to disk for the first time.
    Arriving,
    Waiting,
    Running(Arc<Stop>),
    /// How it stands otherwise is being written down.
    Writing,
    Ended,
}

#[derive(Debug)]
pub(super) struct Job {
    pub seq: Seq,
    pub record: Record,
    pub stage: Stage,
    pub created: Instant,
    /// When it may be tried again.
    pub due: Option<Instant>,
    pub ended: Option<Instant>,
    /// A try is under way, or what it came to is being written down.
    pub trying: bool,
    pub unwanted: bool,
    ears: Option<Arc<Notify>>,
}

impl Job {
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    /// Those who wait for a change of it look again.
    pub(super) fn tell(&mut self) {
        if let Some(ears) = &self.ears {
            ears.notify_waiters();
        }
        // Nobody waits for what comes after the end.
        if self.has_ended() {
            self.ears = None;
        }
    }

    pub(super) fn status(&self) -> Status {
        match &self.stage {
            Stage::Ended => self.record.status,
            _ if self.trying => Status::Running,
            _ if self.record.attempts > 0 => Status::Retrying,
            _ => Status::Queued,
        }
    }

    fn bytes(&self) -> u64 {
        RECORD + self.record.request_len + self.record.answer_len.unwrap_or(0)
    }
}

#[derive(Debug)]
pub(super) struct Table {
    pub settings: Background,
    pub schedule: Schedule,
    pub pace: Pace,
    pub draining: bool,
    /// Results are kept for less time than a moment ago.
    pub keeps_less: bool,
    /// When an answer was last left out because the disk did not take it.
    pub left_out: Option<Instant>,
    /// The last request found no room on the disk.
    disk_is_full: bool,
    jobs: HashMap<Seq, Job>,
    ids: HashMap<JobId, Seq>,
    /// By when they ended.
    ended: BTreeSet<(Instant, Seq)>,
    bytes: u64,
    next: Seq,
}

impl Table {
    pub(super) fn new(settings: Background) -> Self {
        Self {
            settings,
            schedule: Schedule::default(),
            pace: Pace::default(),
            draining: false,
            keeps_less: false,
            left_out: None,
            disk_is_full: false,
            jobs: HashMap::new(),
            ids: HashMap::new(),
            ended: BTreeSet::new(),
            bytes: 0,
            next: 1,
        }
    }

    /// A job from disk.
    pub(super) fn load(&mut self, seq: Seq, record: Record) {
        self.next = self.next.max(seq + 1);
        let (now, wall) = (time::now(), time::unix_millis());
        let ago = |millis: u64| {
            let age = Duration::from_millis(wall.saturating_sub(millis));
            now.checked_sub(age).unwrap_or(now)
        };
        let (created, ended) = (ago(record.created), record.ended.map(ago));
        // The wall clock may have been set meanwhile; no delay is longer than a job may be told to wait.
        let wait = Duration::from_millis(record.due.saturating_sub(wall)).min(Duration::from_secs(24 * 3600));
        let due = (!wait.is_zero()).then(|| time::after(now, wait));
        self.add(seq, record, created);
        let Some(job) = self.jobs.get_mut(&seq) else { return };
        if let Some(ended) = ended {
            job.stage = Stage::Ended;
            job.ended = Some(ended);
            self.ended.insert((ended, seq));
            return;
        }
        job.stage = Stage::Waiting;
        job.due = due;
        self.schedule.enter(seq, placing(&job.record));
        match due {
            Some(due) => self.schedule.delay(seq, due),
            None => self.schedule.ready(seq),
        }
    }

    fn add(&mut self, seq: Seq, record: Record, created: Instant) {
        self.ids.insert(record.id, seq);
        let job = Job {
            seq,
            record,
            stage: Stage::Arriving,
            created,
            due: None,
            ended: None,
            trying: false,
            unwanted: false,
            ears: None,
        };
        self.bytes += job.bytes();
        self.jobs.insert(seq, job);
    }

    /// A new job takes its place, though it is not on disk yet.
    pub(super) fn arrive(&mut self, record: Record) -> Seq {
        let seq = self.next;
        self.next += 1;
        self.schedule.enter(seq, placing(&record));
        self.add(seq, record, time::now());
        seq
    }

    /// It is on disk.
    pub(super) fn accepted(&mut self, seq: Seq) {
        if let Some(job) = self.jobs.get_mut(&seq) {
            job.stage = Stage::Waiting;
            self.schedule.ready(seq);
        }
    }

    /// Nothing is known of it any more.
    pub(super) fn forget(&mut self, seq: Seq) {
        let Some(mut job) = self.jobs.remove(&seq) else { return };
        self.schedule.leave(seq);
        self.ids.remove(&job.record.id);
        self.bytes = self.bytes.saturating_sub(job.bytes());
        if let Some(ended) = job.ended {
            self.ended.remove(&(ended, seq));
        }
        job.tell();
    }

    pub(super) fn job(&mut self, seq: Seq) -> Option<&mut Job> {
        self.jobs.get_mut(&seq)
    }

    /// What is on disk of a job is otherwise from now on.
    pub(super) fn replace(&mut self, seq: Seq, record: Record) {
        if let Some(job) = self.jobs.get_mut(&seq) {
            let before = job.bytes();
            job.record = record;
            self.bytes = (self.bytes + job.bytes()).saturating_sub(before);
        }
    }

    /// It has ended, on disk as well.
    pub(super) fn end(&mut self, seq: Seq) {
        self.schedule.leave(seq);
        let now = time::now();
        if let Some(job) = self.jobs.get_mut(&seq) {
            job.stage = Stage::Ended;
            job.trying = false;
            job.ended = Some(now);
            self.ended.insert((now, seq));
            self.pace.one_ended(now);
            job.tell();
        }
    }

    /// It had ended, and waits again.
    pub(super) fn revive(&mut self, seq: Seq) {
        let Some(job) = self.jobs.get_mut(&seq) else { return };
        if let Some(ended) = job.ended.take() {
            self.ended.remove(&(ended, seq));
        }
        job.stage = Stage::Waiting;
        job.due = None;
        self.schedule.enter(seq, placing(&job.record));
        self.schedule.ready(seq);
    }

    /// What was to become of it could not be written down.
    pub(super) fn wait_again(&mut self, seq: Seq) {
        let Some(job) = self.jobs.get_mut(&seq) else { return };
        job.stage = Stage::Waiting;
        job.tell();
        match job.due {
            Some(due) => self.schedule.delay(seq, due),
            None => self.schedule.ready(seq),
        }
    }

    pub(super) fn find(&self, id: JobId) -> Option<&Job> {
        let job = self.jobs.get(self.ids.get(&id)?)?;
        // Nobody can have been told of it yet.
        (!matches!(job.stage, Stage::Arriving)).then_some(job)
    }

    /// Told at the next change of a job.
    pub(super) fn hears(&mut self, id: JobId) -> Option<Arc<Notify>> {
        let job = self.jobs.get_mut(self.ids.get(&id)?)?;
        Some(job.ears.get_or_insert_default().clone())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().filter(|job| !matches!(job.stage, Stage::Arriving))
    }

    /// How many have not ended.
    pub(super) fn open_jobs(&self) -> usize {
        self.jobs.len() - self.ended.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many run or are on their way to the disk.
    pub(super) fn at_work(&self) -> usize {
        let at_work = |job: &&Job| matches!(job.stage, Stage::Arriving | Stage::Running(_) | Stage::Writing);
        self.jobs.values().filter(at_work).count()
    }

    pub(super) fn running(&self) -> impl Iterator<Item = &Arc<Stop>> {
        self.jobs.values().filter_map(|job| match &job.stage {
            Stage::Running(stop) => Some(stop),
            _ => None,
        })
    }

    /// Makes room for a request of so many octets, by forgetting failed jobs that are kept beyond their time. Whether there
    /// is some; `forgotten` has to be removed in any case.
    pub(super) fn make_room(&mut self, length: u64, space: Option<Space>, forgotten: &mut Vec<Seq>) -> bool {
        let need = RECORD + length;
        let answers = self.settings.max_result.saturating_mul(self.settings.workers as u64);
        let bound = space.and_then(|space| space.bound(need, space.kept_for_answers(answers)));
        let most = bound.map_or(self.settings.store_bytes, |bound| bound.min(self.settings.store_bytes));
        while self.bytes.saturating_add(need) > most {
            let Some(oldest) = self.oldest_beyond(self.settings.keep_results) else {
                let is_new = bound.is_some() && !std::mem::replace(&mut self.disk_is_full, true);
                if let Some(Space { free, .. }) = space.filter(|_| is_new) {
                    tracing::warn!(
                        free,
                        "the job store cannot be written to without filling its disk: jobs are refused"
                    );
                }
                return false;
            };
            self.forget(oldest);
            forgotten.push(oldest);
        }
        self.disk_is_full = false;
        true
    }

    /// Whether the disk has room for an answer of so many octets beside what it must take.
    pub(super) fn takes_answer(&self, length: u64, space: Option<Space>) -> bool {
        let bound = space.and_then(|space| space.bound(length, space.kept_for_ends()));
        bound.is_none_or(|bound| self.bytes.saturating_add(length) <= bound)
    }

    /// The one that ended first, if that is at least so long ago, and nothing of it is on its way to the disk.
    fn oldest_beyond(&self, keep: Duration) -> Option<Seq> {
        let now = time::now();
        let old = self.ended.iter().take_while(|(ended, _)| time::after(*ended, keep) <= now);
        old.map(|(_, seq)| *seq).find(|seq| self.jobs.get(seq).is_some_and(Job::has_ended))
    }

    /// When the first of those that have ended is to be forgotten.
    pub(super) fn until_room(&self) -> Duration {
        let now = time::now();
        let first = self.ended.first().map(|(ended, _)| time::after(*ended, self.settings.keep_results));
        first.map_or(AGAIN.1, |at| at.saturating_duration_since(now)).max(AGAIN.0)
    }

    /// Forgets those whose time is over, at most so many, and returns them.
    pub(super) fn expire(&mut self, most: usize) -> Vec<Seq> {
        let now = time::now();
        let keep = self.settings.keep_results;
        let keep_failed = keep.max(KEEP_FAILED);
        let old = self.ended.iter().take_while(|(ended, _)| time::after(*ended, keep) <= now);
        let old = old.filter(|(ended, seq)| {
            let Some(job) = self.jobs.get(seq).filter(|job| job.has_ended()) else { return false };
            job.record.status != Status::Failed || time::after(*ended, keep_failed) <= now
        });
        let old: Vec<Seq> = old.map(|(_, seq)| *seq).take(most).collect();
        old.iter().for_each(|seq| self.forget(*seq));
        old
    }

    /// When the next one's time is over.
    pub(super) fn next_expiry(&self) -> Instant {
        let keep = self.settings.keep_results;
        let first = |failed: bool| {
            let is_such = |seq| self.jobs.get(seq).is_some_and(|job| (job.record.status == Status::Failed) == failed);
            self.ended.iter().find(|(_, seq)| is_such(seq)).map(|(ended, _)| *ended)
        };
        let usual = first(false).map(|ended| time::after(ended, keep));
        let failed = first(true).map(|ended| time::after(ended, keep.max(KEEP_FAILED)));
        let none = time::after(time::now(), keep);
        usual.into_iter().chain(failed).min().unwrap_or(none)
    }

    pub(super) fn view(&self, job: &Job) -> View {
        let now = time::now();
        let status = job.status();
        let wait =
            job.due.map(|due| due.saturating_duration_since(now)).filter(|_| matches!(job.stage, Stage::Waiting));
        let again_in = match status {
            Status::Queued | Status::Retrying => wait.unwrap_or_else(|| self.pace.until_one_ends()),
            _ => AGAIN.0,
        };
        let record = &job.record;
        View {
            id: record.id,
            status,
            attempts: record.attempts + u32::from(job.trying),
            created_at: record.created,
            finished_at: record.ended.filter(|_| job.has_ended()),
            error: record.error.clone(),
            again_in: again_in.clamp(AGAIN.0, AGAIN.1),
            route: record.route.clone(),
            upstream: record.upstream.clone(),
            method: record.method.clone(),
            result_bytes: record.answer_len.filter(|_| job.has_ended()),
            next_attempt_in: wait,
        }
    }
}

/// How fast jobs end: an exponentially weighted mean of the time between two of them.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Instant>,
    between: Duration,
}

impl Pace {
    fn one_ended(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            let sample = now.saturating_duration_since(last).min(AGAIN.1);
            self.between =
                if self.between.is_zero() { sample } else { self.between.mul_f64(0.875) + sample.mul_f64(0.125) };
        }
    }

    pub(super) fn until_one_ends(&self) -> Duration {
        self.between.clamp(AGAIN.0, AGAIN.1)
    }
}
