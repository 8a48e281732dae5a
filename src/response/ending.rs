//! The end of a request, told to the metrics once, however it comes.

use std::sync::Arc;

use crate::admission::RollEntry;
use crate::request::exchange::{EndedBy, Exchange};
use crate::telemetry::metrics::RouteMetrics;
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
            self.metrics.rejected(reason);
            ended_by.into_iter().for_each(|by| self.metrics.interrupted(by.word()));
        }
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
    }
}
