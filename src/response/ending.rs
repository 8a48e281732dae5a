//! The end of a request, told to the metrics once, however it comes.

use std::sync::Arc;

use crate::admission::RollEntry;
use crate::request::exchange::Exchange;
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
    on_the_roll: Option<RollEntry>,
}

impl Ending {
    #[must_use]
    pub fn new(exchange: Arc<Exchange>, metrics: Arc<RouteMetrics>, entry: RollEntry) -> Self {
        Self { exchange, metrics, code: CLIENT_LEFT, on_the_roll: Some(entry) }
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

    /// The client got an answer with `status`, to its last byte or to where the upstream broke it off.
    pub fn answered(&mut self, status: u16) {
        self.code = status;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.metrics.ended(&self.exchange.method, self.code);
        let took = time::now().saturating_duration_since(self.exchange.arrived);
        self.metrics.duration.observe(took.as_secs_f64());
    }
}
