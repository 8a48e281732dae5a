//! What clients and operators do with jobs: cancel, look, run again, forget.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::job::{JobId, Owner, Status, View};
use super::store::Change;
use super::table::Stage;
use super::{Jobs, Why};
use crate::time;

/// How long a cancelled job may take to let go of its upstream before whoever cancelled it is told how it stands.
const LETS_GO: Duration = Duration::from_secs(5);

/// Jobs by how they stand.
#[derive(Debug, Clone, Default)]
pub struct Census {
    counts: [usize; Status::ALL.len()],
    /// Of those that have not ended.
    pub oldest_age: Duration,
    /// Bytes of requests and answers on disk.
    pub bytes: u64,
}

impl Census {
    /// Each status with how many jobs stand so.
    pub fn counts(&self) -> impl Iterator<Item = (Status, usize)> {
        Status::ALL.into_iter().zip(self.counts)
    }
}

/// Why something was not done with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotDone {
    /// There is none of this name.
    Unknown,
    /// It stands otherwise than it would have to.
    Stands(Status),
    /// As many have not ended as the queue holds.
    Full,
    /// It could not be written down.
    NotWritten,
}

/// What became of a job that an operator wanted gone.
#[derive(Debug)]
pub enum Removed {
    Cancelled(View),
    Forgotten(View),
}

/// What is to be done with a job that somebody does not want any more.
enum Step {
    Tell(View),
    Write(Change, super::record::Record),
    Wait,
}

impl Jobs {
    /// Cancels a job, and tells how it stands then: one that has ended before stays as it is.
    ///
    /// # Errors
    /// [`NotDone`].
    pub async fn cancel(&self, id: JobId, owner: Option<Owner>) -> Result<View, NotDone> {
        let deadline = time::after(time::now(), LETS_GO);
        loop {
            let told = self.table.lock().hears(id).ok_or(NotDone::Unknown)?.notified_owned();
            let mut told = std::pin::pin!(told);
            told.as_mut().enable();
            match self.step_to_cancel(id, owner, deadline)? {
                Step::Tell(view) => return Ok(view),
                Step::Write(change, record) => {
                    let written = self.store.write(change).await.is_ok();
                    return self.cancelled(id, record, written);
                }
                Step::Wait => tokio::select! {
                    () = told => {}
                    () = time::sleep_until(deadline) => {}
                },
            }
        }
    }

    fn step_to_cancel(&self, id: JobId, owner: Option<Owner>, deadline: Instant) -> Result<Step, NotDone> {
        let mut table = self.table.lock();
        let is_theirs = |job: &&super::table::Job| owner.is_none_or(|owner| owner == job.record.owner);
        let job = table.find(id).filter(is_theirs).ok_or(NotDone::Unknown)?;
        let (seq, view) = (job.seq, table.view(job));
        if view.status.has_ended() || deadline <= time::now() {
            return Ok(Step::Tell(view));
        }
        let job = table.job(seq).ok_or(NotDone::Unknown)?;
        match &job.stage {
            Stage::Running(stop) => {
                job.unwanted = true;
                stop.tell(Why::Cancelled);
                Ok(Step::Wait)
            }
            Stage::Waiting => {
                let mut record = job.record.clone();
                record.status = Status::Cancelled;
                record.ended = Some(time::unix_millis());
                job.stage = Stage::Writing;
                // It begins no more, and keeps its place until it is certain that it is gone.
                table.schedule.hold(seq);
                let change = Change::Update { seq, record: record.write(), answer: None, done_with_request: false };
                Ok(Step::Write(change, record))
            }
            Stage::Arriving | Stage::Writing | Stage::Ended => {
                // If it is to be tried again, it is not.
                job.unwanted |= job.trying;
                Ok(Step::Wait)
            }
        }
    }

    fn cancelled(&self, id: JobId, record: super::record::Record, written: bool) -> Result<View, NotDone> {
        let mut table = self.table.lock();
        let seq = table.find(id).ok_or(NotDone::Unknown)?.seq;
        if written {
            table.replace(seq, record);
            if let Some(job) = table.job(seq) {
                let took = time::now().saturating_duration_since(job.created);
                self.metrics.job_duration.observe(took.as_secs_f64());
            }
            table.end(seq);
        } else {
            table.wait_again(seq);
        }
        self.changed.notify_one();
        if !written {
            return Err(NotDone::NotWritten);
        }
        let job = table.find(id).ok_or(NotDone::Unknown)?;
        Ok(table.view(job))
    }

    /// The jobs that stand so, the newest first.
    #[must_use]
    pub fn list(&self, status: Option<Status>, most: usize) -> Vec<View> {
        let table = self.table.lock();
        let mut jobs: Vec<_> = table.iter().filter(|job| status.is_none_or(|status| job.status() == status)).collect();
        jobs.sort_unstable_by_key(|job| std::cmp::Reverse(job.seq));
        jobs.truncate(most);
        jobs.into_iter().map(|job| table.view(job)).collect()
    }

    /// How one stands, whoever's it is.
    #[must_use]
    pub fn look(&self, id: JobId) -> Option<View> {
        let table = self.table.lock();
        table.find(id).map(|job| table.view(job))
    }

    /// How all of them stand.
    #[must_use]
    pub fn census(&self) -> Census {
        let table = self.table.lock();
        let now = time::now();
        let mut census = Census { bytes: table.bytes(), ..Census::default() };
        for job in table.iter() {
            census.counts[job.status() as usize] += 1;
            if !job.has_ended() {
                census.oldest_age = census.oldest_age.max(now.saturating_duration_since(job.created));
            }
        }
        census
    }

    /// Runs a job again that has failed or was cancelled, with all its tries.
    ///
    /// # Errors
    /// [`NotDone`].
    pub async fn run_again(self: &Arc<Self>, id: JobId) -> Result<View, NotDone> {
        let (seq, record) = {
            let mut table = self.table.lock();
            let job = table.find(id).ok_or(NotDone::Unknown)?;
            let (seq, status) = (job.seq, job.status());
            if !matches!(status, Status::Failed | Status::Cancelled) || !job.has_ended() {
                return Err(NotDone::Stands(status));
            }
            if table.open_jobs() >= table.settings.queue {
                return Err(NotDone::Full);
            }
            let job = table.job(seq).ok_or(NotDone::Unknown)?;
            let mut record = job.record.clone();
            record.status = Status::Queued;
            (record.attempts, record.due) = (0, 0);
            (record.ended, record.error, record.answer_len) = (None, None, None);
            job.stage = Stage::Writing;
            job.unwanted = false;
            (seq, record)
        };
        let change = Change::Update { seq, record: record.write(), answer: None, done_with_request: false };
        let written = self.store.write(change).await.is_ok();
        let mut table = self.table.lock();
        if written {
            table.replace(seq, record);
            table.revive(seq);
        } else if let Some(job) = table.job(seq) {
            job.stage = Stage::Ended;
        }
        self.changed.notify_one();
        if !written {
            return Err(NotDone::NotWritten);
        }
        let job = table.find(id).ok_or(NotDone::Unknown)?;
        Ok(table.view(job))
    }

    /// Cancels a job, or forgets it if it has ended.
    ///
    /// # Errors
    /// [`NotDone`].
    pub async fn remove(&self, id: JobId) -> Result<Removed, NotDone> {
        let ended = {
            let mut table = self.table.lock();
            let job = table.find(id).ok_or(NotDone::Unknown)?;
            let (seq, view) = (job.seq, table.view(job));
            let ended = job.has_ended().then_some((seq, view));
            if let Some((seq, _)) = &ended {
                table.forget(*seq);
            }
            ended
        };
        match ended {
            None => self.cancel(id, None).await.map(Removed::Cancelled),
            Some((seq, view)) => {
                // If that fails, it is there again after a restart.
                self.store.write(Change::Remove { seq }).await.map_err(|_| NotDone::NotWritten)?;
                Ok(Removed::Forgotten(view))
            }
        }
    }
}
