//! Requests that are answered later: accepted when they are on disk, run when it is their turn, lost never.
//!
//! ```text
//!            accept                     begin                       settle
//!   client ────────▶ Arriving ─sync─▶ Waiting ────▶ Running ─┬─sync─▶ Ended ──keep_results──▶ (gone)
//!                       │                ▲                   │
//!                       └─▶ (gone)       └──delayed, recalled┘
//! ```
//!
//! What is on disk says of each job that it waits, is to be tried again, or has ended, and how. That it runs is not written
//! down: after a crash it is simply there to be run. A job has at most one change on its way to the disk ([`Stage::Writing`]),
//! and nobody is told of a change that is not there yet.
//!
//! A job is run by who knows how ([`Run`]); this room knows nothing of upstreams and turns.

pub mod job;
mod operate;
pub mod prefer;
pub mod record;
pub mod retry;
mod schedule;
mod store;
mod table;
mod work;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

pub use operate::{Census, NotDone, Removed};
pub use store::Place;

use self::job::{Answer, JobId, Owner, Request, Tried, View};
use self::record::Record;
use self::schedule::{Placing, Seq};
use self::store::{Change, Store};
use self::table::Table;
use crate::policy::Background;
use crate::sync::Mutex;
use crate::telemetry::metrics::Metrics;
use crate::time;

/// All jobs, and where they are kept.
#[derive(Debug)]
pub struct Jobs {
    table: Mutex<Table>,
    store: Store,
    store_path: PathBuf,
    /// Told when there may be something to do for whoever begins jobs.
    changed: Notify,
    metrics: Arc<Metrics>,
}

/// Whoever can run a job.
pub trait Run: Send + Sync + 'static {
    /// Has one try. `stop` says when it is to end before its time.
    fn run(&self, request: Request, stop: Arc<Stop>) -> Pin<Box<dyn Future<Output = Tried> + Send>>;
}

/// Why a try is to end before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Why {
    /// The gateway is about to end: what has not come to its upstream goes back.
    Recalled = 1,
    /// Nobody wants it any more.
    Cancelled = 2,
}

/// Tells a try that it is to end.
#[derive(Debug, Default)]
pub struct Stop {
    why: AtomicU8,
    told: Notify,
}

impl Stop {
    /// Tells it. Being cancelled is more than being recalled.
    pub fn tell(&self, why: Why) {
        self.why.fetch_max(why as u8, Ordering::AcqRel);
        self.told.notify_one();
    }

    #[must_use]
    pub fn why(&self) -> Option<Why> {
        match self.why.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Why::Recalled),
            _ => Some(Why::Cancelled),
        }
    }

    /// Waits until it is told something new. Cancel safe; for one who waits.
    pub async fn told(&self) {
        self.told.notified().await;
    }
}

/// A request that is to become a job.
#[derive(Debug)]
pub struct New {
    pub id: JobId,
    pub owner: Owner,
    pub request: Request,
    pub route: Arc<str>,
    pub upstream: Arc<str>,
    /// The line that it stands in, and how many of it may run at once.
    pub lane: Option<(Arc<str>, u32)>,
}

/// Why a request did not become a job. Nothing of it is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAccepted {
    /// So many have not ended.
    Full {
        jobs: usize,
        again_in: Duration,
    },
    /// The store holds as many bytes as it may, or its disk takes no more.
    StoreFull {
        again_in: Duration,
    },
    /// It could not be written down.
    NotWritten,
    Draining,
}

impl Jobs {
    /// Opens the store and takes up what was not ended.
    ///
    /// # Errors
    /// Why the store cannot be used, in a few words.
    pub fn open(settings: &Background, place: Place, metrics: Arc<Metrics>) -> Result<Arc<Self>, String> {
        let (store, found) = Store::open(place)?;
        let mut table = Table::new(settings.clone());
        for (seq, octets) in found {
            match Record::read(&octets) {
                Ok(record) if seq < Seq::MAX => table.load(seq, record),
                _ => return Err(format!("job {seq}: {}", record::Unreadable)),
            }
        }
        let waiting = table.open_jobs();
        if waiting > 0 {
            tracing::info!(jobs = waiting, "jobs from before go on");
        }
        let store_path = settings.store.clone();
        Ok(Arc::new(Self { table: Mutex::new(table), store, store_path, changed: Notify::new(), metrics }))
    }

    /// The store, as the policy named it with which it was opened.
    #[must_use]
    pub fn store_path(&self) -> &Path {
        &self.store_path
    }

    /// New settings. What is there already stays, whatever the new bounds are.
    pub fn configure(&self, settings: &Background) {
        let mut table = self.table.lock();
        table.keeps_less |= settings.keep_results < table.settings.keep_results;
        table.settings = settings.clone();
        drop(table);
        self.changed.notify_one();
    }

    /// Takes a request as a job. When this says so it is on disk; dropping the future does not take it back.
    ///
    /// The calls' order is the order of acceptance.
    ///
    /// # Errors
    /// [`NotAccepted`].
    pub fn accept(self: &Arc<Self>, new: New) -> impl Future<Output = Result<(), NotAccepted>> + Send + use<> {
        let octets = new.request.write();
        let mut forgotten = Vec::new();
        let reserved = self.reserve(new, octets.len() as u64, &mut forgotten);
        for old in forgotten {
            self.store.submit(Change::Remove { seq: old }, |_| {});
        }
        let (tell, told) = oneshot::channel();
        match reserved {
            Err(refused) => drop(tell.send(Err(refused))),
            Ok((seq, record)) => {
                let jobs = self.clone();
                // The thread that writes calls this: in the order of acceptance, and also if nobody waits any more.
                self.store.submit(Change::Accept { seq, record, request: octets }, move |written| {
                    jobs.arrived(seq, written);
                    let _ = tell.send(if written { Ok(()) } else { Err(NotAccepted::NotWritten) });
                });
            }
        }
        async move { told.await.unwrap_or(Err(NotAccepted::NotWritten)) }
    }

    /// `forgotten`: who has to make room for it.
    fn reserve(&self, new: New, length: u64, forgotten: &mut Vec<Seq>) -> Result<(Seq, Vec<u8>), NotAccepted> {
        let space = self.store.space();
        let mut table = self.table.lock();
        if table.draining {
            return Err(NotAccepted::Draining);
        }
        let jobs = table.open_jobs();
        if jobs >= table.settings.queue {
            return Err(NotAccepted::Full { jobs, again_in: table.pace.until_one_ends() });
        }
        if !table.make_room(length, space, forgotten) {
            return Err(NotAccepted::StoreFull { again_in: table.until_room() });
        }
        let (lane, width) = new.lane.map_or((None, 1), |(lane, width)| (Some(lane), width));
        let record = Record {
            id: new.id,
            owner: new.owner,
            created: time::unix_millis(),
            route: new.route,
            upstream: new.upstream,
            method: new.request.method,
            lane,
            width,
            request_len: length,
            answer_len: None,
            attempts: 0,
            status: job::Status::Queued,
            due: 0,
            ended: None,
            error: None,
        };
        let octets = record.write();
        Ok((table.arrive(record), octets))
    }

    fn arrived(&self, seq: Seq, written: bool) {
        let mut table = self.table.lock();
        if written {
            table.accepted(seq);
        } else {
            table.forget(seq);
        }
        drop(table);
        self.changed.notify_one();
    }

    /// How the job of this name stands, if it is `owner`'s.
    #[must_use]
    pub fn view(&self, id: JobId, owner: Owner) -> Option<View> {
        let table = self.table.lock();
        let job = table.find(id).filter(|job| job.record.owner == owner)?;
        Some(table.view(job))
    }

    /// Waits until the job has ended, but no longer than `bound`. Cancel safe.
    pub async fn ended(&self, id: JobId, bound: Duration) -> Option<View> {
        let deadline = time::after(time::now(), bound);
        loop {
            let told = {
                let mut table = self.table.lock();
                let job = table.find(id)?;
                let view = table.view(job);
                if view.status.has_ended() {
                    return Some(view);
                }
                table.hears(id)?
            };
            let mut told = std::pin::pin!(told.notified_owned());
            told.as_mut().enable();
            // It may have ended between the look and the ear.
            if self.table.lock().find(id).is_none_or(|job| job.has_ended()) {
                continue;
            }
            tokio::select! {
                () = told => {}
                () = time::sleep_until(deadline) => {
                    let table = self.table.lock();
                    return table.find(id).map(|job| table.view(job));
                }
            }
        }
    }

    /// The answer to an ended job, if it has one.
    ///
    /// # Errors
    /// What is wrong with the store.
    pub async fn answer(self: &Arc<Self>, id: JobId) -> Result<Option<Answer>, String> {
        let seq = {
            let table = self.table.lock();
            match table.find(id).filter(|job| job.has_ended() && job.record.answer_len.is_some()) {
                Some(job) => job.seq,
                None => return Ok(None),
            }
        };
        let jobs = self.clone();
        let read = tokio::task::spawn_blocking(move || jobs.store.answer(seq)).await;
        let octets = read.map_err(|error| error.to_string())??;
        octets.map(|octets| Answer::read(&octets)).transpose().map_err(|error| error.to_string())
    }

    /// From now on nothing begins. What runs and has not come to its upstream is to go back.
    pub fn drain(&self) {
        let mut table = self.table.lock();
        table.draining = true;
        table.running().for_each(|stop| stop.tell(Why::Recalled));
    }

    /// Whether nothing runs, and nothing is on its way to the disk.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.table.lock().at_work() == 0
    }

    /// Writes what is on its way, and closes the store.
    pub fn close(&self) {
        self.store.close();
    }
}

fn placing(record: &Record) -> Placing {
    Placing {
        lane: record.lane.clone(),
        width: record.width.max(1) as usize,
        upstream: record.upstream.clone(),
        route: record.route.clone(),
        tries: record.attempts,
    }
}
