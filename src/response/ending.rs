//! The end of a request, told to the metrics once, however it comes.

use std::sync::Arc;
use std::time::Duration;

use crate::admission::RollEntry;
use crate::request::exchange::{EndedBy, Exchange};
use crate::request::story::Story;
use crate::telemetry::metrics::RouteMetrics;
use crate::telemetry::requests;
use crate::telemetry::traces::{Outcome, Trace};
use crate::time;

/// The code of a request whose client left before it had its answer (nginx's word for it).
const CLIENT_LEFT: u16 = 499;

/// Whose end it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Request,
    /// A try of a job, whose request was counted when it was accepted.
    Job,
    /// Work for several clients, each of which is counted for itself.
    Work,
}

/// Counts one request when it is dropped. Unless it was told that the client got its answer, the client had left.
#[derive(Debug)]
pub struct Ending {
    exchange: Arc<Exchange>,
    metrics: Arc<RouteMetrics>,
    code: u16,
    whose: Whose,
    on_the_roll: Option<RollEntry>,
}

impl Ending {
    #[must_use]
    pub fn new(exchange: Arc<Exchange>, metrics: Arc<RouteMetrics>, entry: RollEntry) -> Self {
        Self::of(Whose::Request, exchange, metrics, entry)
    }

    fn of(whose: Whose, exchange: Arc<Exchange>, metrics: Arc<RouteMetrics>, entry: RollEntry) -> Self {
        Self { exchange, metrics, code: CLIENT_LEFT, whose, on_the_roll: Some(entry) }
    }

    /// For work that is done for several clients, who have endings of their own. It is counted nowhere.
    #[must_use]
    pub fn of_work(exchange: Arc<Exchange>, metrics: Arc<RouteMetrics>, entry: RollEntry) -> Self {
        Self::of(Whose::Work, exchange, metrics, entry)
    }

    /// For one try of a job. It is counted nowhere, and has a span of its own.
    #[must_use]
    pub fn of_job(exchange: Arc<Exchange>, metrics: Arc<RouteMetrics>, entry: RollEntry) -> Self {
        Self::of(Whose::Job, exchange, metrics, entry)
    }

    /// What is noted of the request that ends with this.
    fn story(&self) -> Option<&Story> {
        self.exchange.story().filter(|_| self.whose != Whose::Work).map(|story| &**story)
    }

    #[must_use]
    pub fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    /// The exchange's line on the roll, until its permit takes it over.
    pub fn on_the_roll(&mut self) -> &mut Option<RollEntry> {
        &mut self.on_the_roll
    }

    #[must_use]
    pub fn metrics(&self) -> &Arc<RouteMetrics> {
        &self.metrics
    }

    /// The gateway has answered with `status` itself, and why.
    pub fn refused(&mut self, status: u16, reason: &'static str, ended_by: Option<EndedBy>) {
        self.answered(status);
        if let Some(story) = self.story() {
            story.refused(reason);
        }
        if self.whose == Whose::Request {
            self.metrics.rejected(reason);
            ended_by.into_iter().for_each(|by| self.metrics.interrupted(by.word()));
        }
    }

    /// The gateway has answered with `status` itself, as it was asked to.
    pub fn answered_itself(&mut self, status: u16) {
        self.answered(status);
        if let Some(story) = self.story() {
            story.answered_itself();
        }
    }

    /// A piece of the answer's body goes out.
    pub fn sent(&self, bytes: usize) {
        if let Some(story) = self.story() {
            story.sent(bytes as u64);
        }
    }

    /// The answer breaks off.
    pub fn cut(&mut self, status: u16, why: &'static str) {
        if let Some(story) = self.story() {
            story.cut(why);
        }
        self.answered(status);
    }

    /// The client got an answer with `status`, to its last byte or to where the upstream broke it off.
    pub fn answered(&mut self, status: u16) {
        // One that has been told to wait aloud was given its status then.
        self.code = if self.exchange.waits_aloud() { 200 } else { status };
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let took = time::now().saturating_duration_since(self.exchange.arrived);
        if self.whose == Whose::Request {
            self.metrics.ended(&self.exchange.method, self.code);
            self.metrics.duration.observe(took.as_secs_f64());
        }
        let Some(story) = self.story() else { return };
        let ended_by = ended_by(story, self.code);
        if story.is_logged() && requests::tells(self.code, story.why_cut().is_none()) {
            tell(&self.exchange, story, self.code, ended_by, took);
        }
        if let Some(trace) = story.trace() {
            end_trace(&self.exchange, story, trace, self.code, ended_by, took);
        }
    }
}

/// Who ended it, in one word.
fn ended_by(story: &Story, status: u16) -> &'static str {
    match story.why_cut() {
        Some(why) => why,
        None if story.is_own() => "gateway",
        None if status == CLIENT_LEFT => "client",
        None => "upstream",
    }
}

fn end_trace(exchange: &Exchange, story: &Story, trace: &Trace, status: u16, ended_by: &'static str, took: Duration) {
    // The spans of a server's work stand in the trace of the first who wanted its answer.
    if let Some(work) = exchange.work().story()
        && !std::ptr::eq(&**work, story)
        && let Some(other) = work.trace()
    {
        trace.shares(other);
    }
    let outcome = Outcome {
        status,
        reason: story.reason(),
        ended_by,
        is_cut: story.why_cut().is_some(),
        session: story.session(),
        request_id: exchange.request_id.as_str(),
    };
    trace.end(outcome, took);
}

/// The line of one request in the log. No path, no field and no key of it: they may hold secrets.
fn tell(exchange: &Exchange, story: &Story, status: u16, ended_by: &str, took: Duration) {
    let millis = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    let (mut turn, mut rate, mut place, mut server) = (None, None, None, None);
    for stay in story.stays() {
        let total = match stay.queue {
            "turn" => &mut turn,
            "rate" => &mut rate,
            "place" => &mut place,
            _ => &mut server,
        };
        *total = Some(total.unwrap_or(0.0) + millis(stay.took));
    }
    let (received, sent) = story.bytes();
    tracing::info!(
        request_id = %exchange.request_id,
        route = %exchange.route,
        method = %exchange.method,
        status,
        reason = story.reason(),
        ended_by,
        session = story.session(),
        client = %exchange.client,
        server = story.server(),
        total_ms = millis(took),
        turn_ms = turn,
        rate_ms = rate,
        place_ms = place,
        server_ms = server,
        upstream_ms = Some(exchange.work().upstream_took()).filter(|took| !took.is_zero()).map(millis),
        bytes_received = received,
        bytes_sent = sent,
        trace_id = story.trace().map(Trace::id),
        "request"
    );
}
