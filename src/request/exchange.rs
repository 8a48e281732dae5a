//! One request and its answer, as everybody sees it who looks at it from outside.
//!
//! The task that serves a request owns its permit and its bodies; an [`Exchange`] is the small shared record beside
//! it. The session list reads its phase, an operator interrupts it, the connection's watch sees whether its reader has
//! stalled, and the upstream learns whether its body broke at the client. All of it is atomics: nobody waits for
//! anybody here.
//!
//! ```text
//!   Arriving ─▶ Turn ─▶ Rate ─▶ Place ─▶ Server ─▶ Connecting ─▶ Running ─▶ Answering ─▶ (gone)
//!               a phase that does not wait is passed through without being seen
//! ```

mod fate;
mod phase;

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use http::Method;

pub use fate::EndedBy;
pub use phase::Phase;

use crate::request::RequestId;
use crate::request::story::Story;
use crate::sync::Mutex;
use crate::time;
use fate::Fate;

/// Bytes of interim responses that wait for the client's connection.
const MAX_INTERIM: usize = 16 * 1024;

/// Why the body that a client sends came to no good end. Whatever the upstream says afterwards is the client's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum UploadFault {
    /// Cut short, or framed wrongly.
    Broken = 1,
    /// Longer than the route allows.
    TooLarge = 2,
    /// Not complete in time.
    Timeout = 3,
    /// The client has gone.
    Left = 4,
}

/// Which deadline for the response head has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum GivenUp {
    /// `timeouts.response`.
    Response = 1,
    /// `timeouts.total`.
    Total = 2,
}

/// The shared record of one request and its answer.
#[derive(Debug)]
pub struct Exchange {
    pub request_id: RequestId,
    pub route: Arc<str>,
    pub method: Method,
    pub client: IpAddr,
    pub arrived: Instant,
    phase: AtomicU8,
    /// Nanoseconds after `arrived`.
    phase_since: AtomicU64,
    /// Nanoseconds spent waiting in queues.
    queued: AtomicU64,
    fate: Fate,
    /// When the reader was handed a piece that it has not asked beyond, in nanoseconds after `arrived`; 0: it has.
    handed: AtomicU64,
    /// When the task that serves it wants to be polled again, in nanoseconds after `arrived` and one more; 0: never.
    alarm: AtomicU64,
    /// Nanoseconds for which the reader may take nothing.
    idle: AtomicU64,
    /// Nanoseconds after `arrived`.
    end: AtomicU64,
    given_up: AtomicU8,
    upload_fault: AtomicU8,
    fault_waker: AtomicWaker,
    upload_complete: AtomicBool,
    /// The answer has ended: what is left of the body is of no use.
    upload_stopped: AtomicBool,
    upload_waker: AtomicWaker,
    /// Whether the upload waits for the client (and not for the upstream to take more).
    upload_waits: AtomicBool,
    /// Nanoseconds after `arrived`.
    upload_progress: AtomicU64,
    /// Nanoseconds between sending the request and its response head; 0 before that.
    upstream_took: AtomicU64,
    /// Interim responses for the client, as HTTP/1.1 writes them.
    interim: Mutex<Vec<u8>>,
    /// Whether there are any: nearly always not, which costs the client's connection no lock.
    has_interim: AtomicBool,
    interim_waker: AtomicWaker,
    /// Its permit holds a place. For the books.
    holds_place: AtomicBool,
    /// The gateway itself has answered.
    is_refused: AtomicBool,
    /// The client was given the head of an answer before there was one.
    aloud: AtomicBool,
    /// Of those that the log or a trace tells of.
    story: Option<Arc<Story>>,
    /// The work whose answer it shares.
    shares: OnceLock<Arc<Exchange>>,
}

impl Exchange {
    #[must_use]
    pub fn new(request_id: RequestId, route: Arc<str>, method: Method, client: IpAddr) -> Self {
        Self {
            request_id,
            route,
            method,
            client,
            arrived: time::now(),
            phase: AtomicU8::new(Phase::Arriving as u8),
            phase_since: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            fate: Fate::default(),
            handed: AtomicU64::new(0),
            alarm: AtomicU64::new(0),
            idle: AtomicU64::new(u64::MAX),
            end: AtomicU64::new(u64::MAX),
            given_up: AtomicU8::new(0),
            upload_fault: AtomicU8::new(0),
            fault_waker: AtomicWaker::new(),
            upload_complete: AtomicBool::new(false),
            upload_stopped: AtomicBool::new(false),
            upload_waker: AtomicWaker::new(),
            upload_waits: AtomicBool::new(false),
            upload_progress: AtomicU64::new(0),
            upstream_took: AtomicU64::new(0),
            interim: Mutex::new(Vec::new()),
            has_interim: AtomicBool::new(false),
            interim_waker: AtomicWaker::new(),
            holds_place: AtomicBool::new(false),
            is_refused: AtomicBool::new(false),
            aloud: AtomicBool::new(false),
            story: None,
            shares: OnceLock::new(),
        }
    }

    /// With what is noted of it.
    #[must_use]
    pub fn told(mut self, story: Arc<Story>) -> Self {
        self.story = Some(story);
        self
    }

    /// What is noted of it, if anything is.
    #[must_use]
    pub fn story(&self) -> Option<&Arc<Story>> {
        self.story.as_ref()
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.arrived).as_nanos()).unwrap_or(u64::MAX)
    }

    fn at(&self, nanos: u64) -> Instant {
        time::after(self.arrived, Duration::from_nanos(nanos))
    }

    /// Moves on to `phase`. Who was abandoned stays so: what a server still does is done for nobody.
    pub fn enter(&self, phase: Phase) {
        if self.phase() == Phase::Abandoned {
            return;
        }
        self.phase_since.store(self.nanos(time::now()), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Release);
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::of(self.phase.load(Ordering::Acquire))
    }

    /// When it entered its phase.
    #[must_use]
    pub fn phase_since(&self) -> Instant {
        self.at(self.phase_since.load(Ordering::Relaxed))
    }

    /// Adds to the time spent in queues.
    pub fn add_queued(&self, wait: Duration) {
        self.queued.fetch_add(u64::try_from(wait.as_nanos()).unwrap_or(0), Ordering::Relaxed);
    }

    /// Time spent in queues so far.
    #[must_use]
    pub fn queued(&self) -> Duration {
        Duration::from_nanos(self.queued.load(Ordering::Relaxed))
    }

    pub fn set_upstream_took(&self, took: Duration) {
        self.upstream_took.store(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Time between sending the request and its response head.
    #[must_use]
    pub fn upstream_took(&self) -> Duration {
        Duration::from_nanos(self.upstream_took.load(Ordering::Relaxed))
    }

    /// Notes whether its permit holds a place.
    pub fn hold_place(&self, holds: bool) {
        self.holds_place.store(holds, Ordering::Relaxed);
    }

    #[must_use]
    pub fn holds_place(&self) -> bool {
        self.holds_place.load(Ordering::Relaxed)
    }

    /// Notes that the client was given the head of an answer, and now hears how its request waits.
    pub fn wait_aloud(&self) {
        self.aloud.store(true, Ordering::Relaxed);
    }

    #[must_use]
    pub fn waits_aloud(&self) -> bool {
        self.aloud.load(Ordering::Relaxed)
    }

    /// Notes that its answer comes from the work of an equal one.
    pub fn share(&self, work: &Arc<Self>) {
        if self.shares.get().is_none() {
            self.enter(Phase::Joined);
            self.set_work(work.clone());
        }
    }

    /// Notes that `work` was made of it.
    pub fn set_work(&self, work: Arc<Self>) {
        let _ = self.shares.set(work);
    }

    /// The work that its answer comes from: another one's, or its own.
    #[must_use]
    pub fn work(&self) -> &Self {
        self.shares.get().map_or(self, |work| work)
    }

    /// Leaves an interim response for the client's connection to pass on. More than it should hold is dropped: interim
    /// responses are optional.
    pub fn leave_interim(&self, response: &[u8]) {
        let mut interim = self.interim.lock();
        if interim.len() + response.len() <= MAX_INTERIM {
            interim.extend_from_slice(response);
            self.has_interim.store(true, Ordering::Release);
        }
        drop(interim);
        self.interim_waker.wake();
    }

    /// Has `cx` woken when an interim response is left. Only the client's connection may call this: there is one waker.
    pub fn watch_interim(&self, cx: &Context<'_>) {
        self.interim_waker.register(cx.waker());
    }

    /// Takes the interim responses that were left.
    pub fn take_interim(&self) -> Vec<u8> {
        if !self.has_interim.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut interim = self.interim.lock();
        self.has_interim.store(false, Ordering::Relaxed);
        std::mem::take(&mut interim)
    }

    /// Ends it, wherever it is. The first word counts.
    pub fn end(&self, by: EndedBy) {
        self.fate.end(by);
    }

    /// Ends it if no server has it yet. Whether it did, or has ended already.
    pub fn end_unless_begun(&self, by: EndedBy) -> bool {
        self.fate.end_unless_begun(by)
    }

    /// Begins: from now on a server may have it. `false`: it has been ended.
    #[must_use]
    pub fn begin(&self) -> bool {
        self.fate.begin()
    }

    #[must_use]
    pub fn ended_by(&self) -> Option<EndedBy> {
        self.fate.ended_by()
    }

    /// Ready once somebody has ended it. Only the task that serves the exchange may poll this: there is one waker.
    pub fn poll_ended(&self, cx: &Context<'_>) -> Poll<EndedBy> {
        self.fate.poll_ended(cx)
    }

    /// As [`poll_ended`](Self::poll_ended), for the client's connection, which has a waker of its own. Never ready once its
    /// client is being told: the answer is to come, not to be cut.
    pub fn poll_ended_beside(&self, cx: &Context<'_>) -> Poll<EndedBy> {
        if self.is_refused.load(Ordering::Relaxed) { Poll::Pending } else { self.fate.poll_ended_beside(cx) }
    }

    /// Notes that the gateway itself has answered.
    pub fn refused(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }

    /// Waits until somebody has ended it. Cancel safe.
    pub async fn ended(&self) -> EndedBy {
        poll_fn(|cx| self.poll_ended(cx)).await
    }

    /// Notes that the reader was handed a piece of the answer.
    pub fn handed_piece(&self) {
        self.handed.store(self.nanos(time::now()).max(1), Ordering::Relaxed);
    }

    /// Notes that the reader asks for the next piece, or needs none.
    pub fn asked_for_more(&self) {
        self.handed.store(0, Ordering::Relaxed);
    }

    /// Has the task that serves the exchange polled again at `at` or soon after. Replaces what was set before.
    ///
    /// This is the timer of whoever waits on behalf of the exchange, and costs nothing: the client's connection has one
    /// timer for all of its requests. An alarm rings once, and is off then. It is heard only by what is polled as part of
    /// the client's connection (the future of the service, the body of its answer), and not by a task of its own.
    pub fn wake_by(&self, at: Instant) {
        self.alarm.store(self.nanos(at).saturating_add(1), Ordering::Relaxed);
    }

    /// Switches the alarm off.
    pub fn no_alarm(&self) {
        self.alarm.store(0, Ordering::Relaxed);
    }

    /// When the task that serves the exchange wants to be polled again, if it does. For the client's connection.
    #[must_use]
    pub fn alarm(&self) -> Option<Instant> {
        self.alarm.load(Ordering::Relaxed).checked_sub(1).map(|nanos| self.at(nanos))
    }

    /// Switches an alarm off that is due. Whether it was: then the exchange is to be polled once more.
    #[must_use]
    pub fn rings(&self) -> bool {
        let due = self.alarm().is_some_and(|at| at <= time::now());
        if due {
            self.no_alarm();
        }
        due
    }

    /// Sets how long the reader may take nothing, and when all must be over.
    pub fn set_deadlines(&self, idle: Duration, end: Option<Instant>) {
        self.idle.store(u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.end.store(end.map_or(u64::MAX, |end| self.nanos(end)), Ordering::Relaxed);
    }

    /// By when the reader must ask for more; `None` while it need not.
    #[must_use]
    pub fn reader_deadline(&self) -> Option<Instant> {
        let handed = self.handed.load(Ordering::Relaxed);
        let idle = self.idle.load(Ordering::Relaxed);
        (handed > 0).then(|| self.at(handed.saturating_add(idle).min(self.end.load(Ordering::Relaxed))))
    }

    /// Whether all must be over by now.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        self.at(self.end.load(Ordering::Relaxed)) <= time::now()
    }

    /// When all must be over.
    #[must_use]
    pub fn end_at(&self) -> Instant {
        self.at(self.end.load(Ordering::Relaxed))
    }

    /// Notes a piece of the client's body on its way; `waits`: the next one is the client's to send.
    pub fn upload_moved(&self, waits: bool) {
        self.upload_waits.store(waits, Ordering::Relaxed);
        if !waits {
            self.upload_progress.store(self.nanos(time::now()), Ordering::Relaxed);
        }
    }

    /// Since when the whole request is the upstream's to answer; `None` while the client still owes a part of it.
    #[must_use]
    pub fn upstream_owes_since(&self) -> Option<Instant> {
        (!self.upload_waits.load(Ordering::Relaxed)).then(|| self.at(self.upload_progress.load(Ordering::Relaxed)))
    }

    /// Notes that the client's body has been taken whole.
    pub fn upload_completed(&self) {
        self.upload_moved(false);
        self.upload_complete.store(true, Ordering::Release);
    }

    #[must_use]
    pub fn is_upload_complete(&self) -> bool {
        self.upload_complete.load(Ordering::Acquire)
    }

    /// Ends the upload: the answer has ended without it.
    pub fn stop_upload(&self) {
        self.upload_stopped.store(true, Ordering::Release);
        self.upload_waker.wake();
    }

    /// Whether the upload is to end; has `cx` woken when it is. Only the upload may call this: there is one waker.
    pub fn is_upload_stopped(&self, cx: &Context<'_>) -> bool {
        self.upload_waker.register(cx.waker());
        self.upload_stopped.load(Ordering::Acquire)
    }

    /// Notes that nobody waits for the response head any longer.
    pub fn give_up(&self, why: GivenUp) {
        self.given_up.store(why as u8, Ordering::Release);
    }

    #[must_use]
    pub fn given_up(&self) -> Option<GivenUp> {
        match self.given_up.load(Ordering::Acquire) {
            0 => None,
            1 => Some(GivenUp::Response),
            _ => Some(GivenUp::Total),
        }
    }

    /// Has `cx` woken when the upload comes to no good end. Only whoever waits for the response head may call this.
    pub fn poll_upload_fault(&self, cx: &Context<'_>) -> Poll<UploadFault> {
        self.fault_waker.register(cx.waker());
        self.upload_fault().map_or(Poll::Pending, Poll::Ready)
    }

    /// Notes why the client's body came to no good end. The first reason stays.
    pub fn upload_failed(&self, fault: UploadFault) {
        let _ = self.upload_fault.compare_exchange(0, fault as u8, Ordering::AcqRel, Ordering::Relaxed);
        self.fault_waker.wake();
    }

    #[must_use]
    pub fn upload_fault(&self) -> Option<UploadFault> {
        match self.upload_fault.load(Ordering::Acquire) {
            0 => None,
            1 => Some(UploadFault::Broken),
            2 => Some(UploadFault::TooLarge),
            3 => Some(UploadFault::Timeout),
            _ => Some(UploadFault::Left),
        }
    }
}

#[cfg(test)]
mod tests;
