//! Running jobs: who begins, and what becomes of a try.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::job::{Answer, Attempt, Request, Status, Tried};
use super::record::Record;
use super::schedule::{Health, Seq};
use super::store::Change;
use super::table::Stage;
use super::{Jobs, Run, Stop, retry};
use crate::time;

/// How often at most those are forgotten whose time is over, and how many at once.
const SWEEP: Duration = Duration::from_secs(1);
/// Timers are no finer.
const TICK: Duration = Duration::from_millis(1);
const MOST_SWEPT: usize = 1000;
/// How long to leave a disk alone that takes nothing.
const BACK_OFF: Duration = Duration::from_secs(1);
/// For how long the gateway's own refusals put a job off.
const PUT_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The least of it where a whole route waits. One of them at a time asks again, so it may be soon.
const ROUTE_PUT_OFF: Duration = Duration::from_millis(10);
/// So often at least an answer is tried to be kept that the disk does not take. While it has just taken none, others are
/// left out at once: each of them keeps a worker waiting.
const TRIES_TO_KEEP: u32 = 4;
const STILL_FULL: Duration = Duration::from_secs(10);
/// What an answer takes beside its body, or more.
const HEAD: u64 = 4096;
/// Texts of errors are kept in memory.
const LONGEST_ERROR: usize = 200;

/// What a try makes of its job.
enum Turn {
    Ends {
        status: Status,
        answer: Option<Answer>,
        error: Option<Arc<str>>,
    },
    TriesAgain {
        due: Instant,
        error: Arc<str>,
    },
    /// Nothing has happened.
    GoesBack {
        due: Option<Instant>,
        /// Whether its route waits with it.
        holds_route: bool,
    },
}

impl Jobs {
    /// Begins jobs when it is their turn, and has `run` run them, in the runtime that calls this. Never ends.
    pub async fn work(self: Arc<Self>, run: Arc<dyn Run>) {
        let mut sweep_at = time::now();
        loop {
            while let Some((seq, stop)) = self.begin() {
                tokio::spawn(self.clone().try_once(seq, stop, run.clone()));
            }
            let now = time::now();
            sweep_at = self.sweep(sweep_at, now);
            let due = self.next_due().map_or(sweep_at, |due| due.min(sweep_at)).max(time::after(now, TICK));
            tokio::select! {
                () = self.changed.notified() => {}
                () = time::sleep_until(due) => {}
            }
        }
    }

    /// Forgets those whose time is over, if it is `at` or they were given less of it. Returns when to do so next.
    fn sweep(&self, at: Instant, now: Instant) -> Instant {
        let mut table = self.table.lock();
        if at > now && !std::mem::take(&mut table.keeps_less) {
            // Those that have ended since are kept so long at least.
            return at.min(time::after(now, table.settings.keep_results));
        }
        let forgotten = table.expire(MOST_SWEPT);
        let next = table.next_expiry();
        drop(table);
        for seq in forgotten {
            self.store.submit(Change::Remove { seq }, |_| {});
        }
        next.max(time::after(now, SWEEP))
    }

    fn begin(&self) -> Option<(Seq, Arc<Stop>)> {
        let mut table = self.table.lock();
        if table.draining || table.schedule.running() >= table.settings.workers {
            return None;
        }
        let seq = table.schedule.next(time::now())?;
        let stop = Arc::new(Stop::default());
        let job = table.job(seq)?;
        job.stage = Stage::Running(stop.clone());
        job.trying = true;
        job.due = None;
        Some((seq, stop))
    }

    fn next_due(&self) -> Option<Instant> {
        let table = self.table.lock();
        let is_full = table.draining || table.schedule.running() >= table.settings.workers;
        if is_full { None } else { table.schedule.next_due() }
    }

    async fn try_once(self: Arc<Self>, seq: Seq, stop: Arc<Stop>, run: Arc<dyn Run>) {
        let tried = match self.request(seq).await {
            Ok(request) => {
                let running = AssertUnwindSafe(async { run.run(request, stop).await }).catch_unwind();
                running.await.unwrap_or_else(|_| {
                    tracing::error!(job = seq, "a job panicked; please report this");
                    Tried { attempt: failed("internal"), upstream: None }
                })
            }
            Err(tried) => tried,
        };
        self.settle(seq, tried).await;
        self.changed.notify_one();
    }

    async fn request(self: &Arc<Self>, seq: Seq) -> Result<Request, Tried> {
        let jobs = self.clone();
        let read = tokio::task::spawn_blocking(move || jobs.store.request(seq)).await;
        let tried = |attempt| Tried { attempt, upstream: None };
        match read.map_err(|error| error.to_string()).and_then(|read| read) {
            Ok(Some(octets)) => Request::read(&octets)
                .map_err(|_| tried(Attempt::Hopeless { answer: None, error: "request_unreadable".into() })),
            Ok(None) => Err(tried(Attempt::Hopeless { answer: None, error: "request_lost".into() })),
            Err(error) => {
                tracing::error!(%error, job = seq, "a job cannot be read");
                Err(tried(Attempt::Postponed { asked: BACK_OFF }))
            }
        }
    }

    /// Writes down what the try came to, for as long as it takes.
    async fn settle(&self, seq: Seq, tried: Tried) {
        let Tried { attempt, upstream } = tried;
        let (health, is_last) = {
            let mut table = self.table.lock();
            if let Some(upstream) = &upstream {
                table.schedule.moved(seq, upstream);
            }
            let attempts = table.settings.attempts;
            (health(&attempt), table.job(seq).is_some_and(|job| job.record.attempts + 1 >= attempts))
        };
        let base = self.table.lock().settings.retry_delay;
        let mut turn = {
            let mut table = self.table.lock();
            let now = time::now();
            let tries = table.job(seq).map_or(0, |job| job.record.attempts) + 1;
            // Not the job's own delay, which grows with its tries: the others have nothing to do with that.
            let asked = match &attempt {
                Attempt::Failed { asked, .. } => asked.map(|asked| time::after(now, asked)),
                _ => None,
            };
            let turn = turn(attempt, tries, is_last, base, now);
            match health {
                Some(health) => table.schedule.fared(seq, health, base, now, asked),
                None => table.schedule.not_looked(seq),
            }
            turn
        };
        let mut tries = 0;
        loop {
            if self.has_room_for(&turn) {
                let Some((change, record)) = self.prepare(seq, &mut turn, upstream.as_ref(), true) else { return };
                if self.store.write(change).await.is_ok() {
                    self.turned(seq, &turn, record);
                    return;
                }
            }
            tries += 1;
            if self.leaves_out(&turn, tries) {
                let Some((change, record)) = self.prepare(seq, &mut turn, upstream.as_ref(), false) else { return };
                if self.store.write(change).await.is_ok() {
                    tracing::error!(job = %record.id, "the job store has no room for an answer, which is not kept");
                    self.table.lock().left_out = Some(time::now());
                    self.turned(seq, &turn, record);
                    return;
                }
            }
            tokio::time::sleep(BACK_OFF).await;
        }
    }

    /// Whether the disk would be left with what it needs.
    fn has_room_for(&self, turn: &Turn) -> bool {
        let Turn::Ends { answer: Some(answer), .. } = turn else { return true };
        let space = self.store.space();
        self.table.lock().takes_answer(answer.body.len() as u64 + HEAD, space)
    }

    /// Whether the job is to end without its answer. That it has ended matters more: it would be run again.
    fn leaves_out(&self, turn: &Turn, tries: u32) -> bool {
        let has_answer = matches!(turn, Turn::Ends { answer: Some(_), .. });
        let left_out = self.table.lock().left_out;
        has_answer && (tries >= TRIES_TO_KEEP || left_out.is_some_and(|at| time::after(at, STILL_FULL) > time::now()))
    }

    /// What is to be written down. `None`: nothing, and the job waits again.
    fn prepare(
        &self,
        seq: Seq,
        turn: &mut Turn,
        upstream: Option<&Arc<str>>,
        with_answer: bool,
    ) -> Option<(Change, Record)> {
        let mut table = self.table.lock();
        let job = table.job(seq)?;
        if job.unwanted && !matches!(turn, Turn::Ends { .. }) {
            *turn = Turn::Ends { status: Status::Cancelled, answer: None, error: None };
        }
        let mut record = job.record.clone();
        let mut kept = None;
        match turn {
            Turn::GoesBack { due, holds_route } => {
                job.stage = Stage::Waiting;
                job.trying = false;
                job.due = *due;
                job.tell();
                match *due {
                    Some(due) if *holds_route => table.schedule.put_off(seq, due),
                    Some(due) => table.schedule.delay(seq, due),
                    None => table.schedule.ready(seq),
                }
                self.metrics.job_attempts.with_label_values(&["postponed"]).inc();
                return None;
            }
            Turn::TriesAgain { due, error } => {
                record.status = Status::Retrying;
                record.due = time::unix_millis() + millis(due.saturating_duration_since(time::now()));
                record.error = Some(error.clone());
            }
            Turn::Ends { status, answer, error } => {
                record.status = *status;
                record.ended = Some(time::unix_millis());
                record.error = error.clone();
                kept = answer.as_ref().filter(|_| with_answer).map(Answer::write);
                if !with_answer && record.error.is_none() {
                    record.error = Some("result_not_kept".into());
                }
                record.answer_len = kept.as_ref().map(|octets| octets.len() as u64);
            }
        }
        record.attempts += 1;
        if let Some(upstream) = upstream {
            record.upstream = upstream.clone();
        }
        // What has succeeded is never run again.
        let done_with_request = record.status == Status::Succeeded;
        if done_with_request {
            record.request_len = 0;
        }
        job.stage = Stage::Writing;
        let change = Change::Update { seq, record: record.write(), answer: kept, done_with_request };
        Some((change, record))
    }

    fn turned(&self, seq: Seq, turn: &Turn, record: Record) {
        let mut table = self.table.lock();
        table.replace(seq, record);
        let Some(job) = table.job(seq) else { return };
        let result = match turn {
            Turn::Ends { status, .. } => {
                let took = time::now().saturating_duration_since(job.created);
                self.metrics.job_duration.observe(took.as_secs_f64());
                table.end(seq);
                status.word()
            }
            Turn::TriesAgain { due, .. } => {
                job.stage = Stage::Waiting;
                job.trying = false;
                job.due = Some(*due);
                job.tell();
                table.schedule.delay(seq, *due);
                "retried"
            }
            Turn::GoesBack { .. } => return,
        };
        self.metrics.job_attempts.with_label_values(&[result]).inc();
    }
}

fn failed(error: &str) -> Attempt {
    Attempt::Failed { answer: None, error: error.into(), asked: None, is_down: false }
}

/// What is learnt about the upstream; `None`: nothing.
fn health(attempt: &Attempt) -> Option<Health> {
    match attempt {
        Attempt::Answered(_) => Some(Health::Well),
        Attempt::Failed { is_down: true, .. } => Some(Health::Down),
        Attempt::Failed { .. } => Some(Health::Failed),
        Attempt::Hopeless { .. } | Attempt::Postponed { .. } | Attempt::RouteShut { .. } | Attempt::Stopped => None,
    }
}

fn turn(attempt: Attempt, tries: u32, is_last: bool, base: Duration, now: Instant) -> Turn {
    match attempt {
        Attempt::Answered(answer) => {
            let is_good = answer.status.as_u16() < 400;
            let error = (!is_good).then(|| Arc::from(format!("status_{}", answer.status.as_u16())));
            let status = if is_good { Status::Succeeded } else { Status::Failed };
            Turn::Ends { status, answer: Some(answer), error }
        }
        Attempt::Hopeless { answer, error } => {
            Turn::Ends { status: Status::Failed, answer, error: Some(short(&error)) }
        }
        Attempt::Failed { answer, error, .. } if is_last => {
            Turn::Ends { status: Status::Failed, answer, error: Some(short(&error)) }
        }
        Attempt::Failed { error, asked, .. } => {
            let wait = retry::delay(base, tries, asked, chance());
            Turn::TriesAgain { due: time::after(now, wait), error: short(&error) }
        }
        // Nothing is added by chance: those that were put off together come back in their order.
        Attempt::Postponed { asked } => {
            let due = time::after(now, asked.clamp(PUT_OFF.0, PUT_OFF.1));
            Turn::GoesBack { due: Some(due), holds_route: false }
        }
        Attempt::RouteShut { asked } => {
            let due = time::after(now, asked.clamp(ROUTE_PUT_OFF, PUT_OFF.1));
            Turn::GoesBack { due: Some(due), holds_route: true }
        }
        Attempt::Stopped => Turn::GoesBack { due: None, holds_route: false },
    }
}

fn short(error: &Arc<str>) -> Arc<str> {
    if error.len() <= LONGEST_ERROR {
        error.clone()
    } else {
        error.chars().take(LONGEST_ERROR).collect::<String>().into()
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
