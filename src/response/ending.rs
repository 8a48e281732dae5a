//! The end of a request, told to the metrics once, however it comes.

use std::sync::Arc;
use std::time::Duration;

use crate::admission::RollEntry;
use crate::request::exchange::{EndedBy, Exchange};
use crate::request::story::Story;
use crate::telemetry::metrics::RouteMetrics;
use crate::telemetry::requests;
use crate::time;

/// The code of a request whose client left before it had its answer (nginx's word for it).
const CLIENT_LEFT: u16 = 499;

/// Counts one request when it is dropped. Unless it was told that the client got its answer, the client had left.
#[derive(Debug)]
pub struct Ending {
    exchange: Arc<Exchange>,
    metrics: Arc<RouteMetrics>,
    code: u16,
    /// The work that several clients share is no request of its own: each of them is counted.
    counts: bool,
    on_the_roll: Option<RollEntry>,
}

impl Ending {
    #[must_use]
    pub fn new(exchange: Arc<Exchange>, metrics: Arc<RouteMetrics>, entry: RollEntry) -> Self {
        Self { exchange, metrics, code: CLIENT_LEFT, counts: true, on_the_roll: Some(entry) }
    }

    /// For work that is done for others, who have endings of their own.
    #[must_use]
    pub fn uncounted(exchange: Arc<Exchange>, metrics: Arc<RouteMetrics>, entry: RollEntry) -> Self {
        let mut ending = Self::new(exchange, metrics, entry);
        ending.counts = false;
        ending
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
        if self.counts {
            if let Some(story) = self.exchange.story() {
                story.refused(reason);
            }
            self.metrics.rejected(reason);
            ended_by.into_iter().for_each(|by| self.metrics.interrupted(by.word()));
        }
    }

    /// A piece of the answer's body goes out.
    pub fn sent(&self, bytes: usize) {
        if let Some(story) = self.exchange.story() {
            story.sent(bytes as u64);
        }
    }

    /// The answer breaks off.
    pub fn cut(&mut self, status: u16, why: &'static str) {
        if let Some(story) = self.exchange.story() {
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
        if !self.counts {
            return;
        }
        self.metrics.ended(&self.exchange.method, self.code);
        let took = time::now().saturating_duration_since(self.exchange.arrived);
        self.metrics.duration.observe(took.as_secs_f64());
        if let Some(story) = self.exchange.story()
            && requests::tells(self.code, story.why_cut().is_none())
        {
            tell(&self.exchange, story, self.code, took);
        }
    }
}

/// The line of one request in the log. No path, no field and no key of it: they may hold secrets.
fn tell(exchange: &Exchange, story: &Story, status: u16, took: Duration) {
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
    let ended_by = match (story.why_cut(), story.reason()) {
        (Some(why), _) => why,
        (None, Some(_)) => "gateway",
        (None, None) if status == CLIENT_LEFT => "client",
        (None, None) => "upstream",
    };
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
        upstream_ms = millis(exchange.work().upstream_took()),
        bytes_received = received,
        bytes_sent = sent,
        "request"
    );
}
