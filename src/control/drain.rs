//! The way out: not ready, no new requests, everything that runs or waits gets its time, then the end.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Control;
use crate::request::exchange::EndedBy;
use crate::server::Stage;
use crate::time;

/// How often it is looked whether all have gone.
const LOOK: Duration = Duration::from_millis(10);

/// However short the drain timeout is, connections without a request have so long to part: those that still wait then have
/// an answer that their client does not take.
const PARTING: Duration = Duration::from_millis(2500);

/// How long requests that still wait when the time is over have to be refused.
const REFUSING: Duration = Duration::from_secs(1);

/// Whether the gateway is to end.
#[derive(Debug)]
pub struct Drain {
    asked: watch::Sender<bool>,
    asked_at: OnceLock<Instant>,
}

impl Default for Drain {
    fn default() -> Self {
        Self { asked: watch::Sender::new(false), asked_at: OnceLock::new() }
    }
}

impl Drain {
    fn ask(&self) {
        self.asked_at.get_or_init(time::now);
        self.asked.send_replace(true);
    }

    #[must_use]
    pub fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }

    /// When that was asked for first.
    #[must_use]
    pub fn asked_at(&self) -> Option<Instant> {
        self.asked_at.get().copied()
    }

    /// Waits until it was asked for. Cancel safe.
    pub async fn asked(&self) {
        let mut asked = self.asked.subscribe();
        // The sender lives as long as we do.
        let _ = asked.wait_for(|asked| *asked).await;
    }
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Everything finished.
    Clean,
    /// `drain_timeout` cut so many requests, or answers that were on their way to their clients.
    Cut(usize),
}

impl Control {
    /// Begins to drain; asking again changes nothing. Without a delay no new request is taken from here on.
    pub fn ask_to_drain(&self) {
        if self.edition.load().policy.server.drain_delay.is_zero() {
            self.lifecycle.refuse_requests();
        }
        self.drain.ask();
    }

    /// Ends serving, step by step. `close_listeners` is told when no more connections are to be taken.
    pub async fn drain(&self, close_listeners: impl FnOnce()) -> Drained {
        let server = self.edition.load().policy.server.clone();
        tracing::info!("draining");
        // Readiness has fallen already; load balancers need a while to notice.
        if !server.drain_delay.is_zero() {
            tokio::time::sleep(server.drain_delay).await;
        }
        close_listeners();
        self.lifecycle.refuse_requests();
        self.stage.send_replace(Stage::Ending);
        if let Some(jobs) = self.jobs.get() {
            jobs.drain();
        }
        let deadline = time::after(time::now(), server.drain_timeout);
        let jobs_rest = || self.jobs.get().is_none_or(|jobs| jobs.is_at_rest());
        while !(self.admission.roll.is_empty() && jobs_rest()) {
            if time::now() >= deadline {
                let left = self.admission.roll.len();
                tracing::warn!(requests = left, "the drain timeout is over; what still runs is cut");
                self.refuse_who_waits().await;
                return Drained::Cut(left);
            }
            tokio::time::sleep(LOOK).await;
        }
        self.stage.send_replace(Stage::Closing);
        let left = self.last_octets(deadline.max(time::after(time::now(), PARTING))).await;
        if left > 0 {
            tracing::warn!(
                connections = left,
                "the drain timeout is over; answers that their clients have not taken are cut"
            );
            return Drained::Cut(left);
        }
        tracing::info!("drained");
        Drained::Clean
    }

    /// Tells those whose requests no server has that they are to come back, elsewhere: they have nothing to lose by it.
    async fn refuse_who_waits(&self) {
        let mut waiting = Vec::new();
        self.admission.roll.for_each(|exchange| waiting.push(exchange.clone()));
        let before = self.admission.roll.len();
        let refused = waiting.iter().filter(|exchange| exchange.end_unless_begun(EndedBy::Drain)).count();
        drop(waiting);
        let connections = self.open_connections().saturating_sub(i64::try_from(refused).unwrap_or(0)).max(0);
        let deadline = time::after(time::now(), REFUSING);
        // Whoever shares a connection with others has had its answer when it is struck off the roll, or soon after.
        while refused > 0 && time::now() < deadline {
            tokio::time::sleep(LOOK).await;
            if self.admission.roll.len() + refused <= before && self.open_connections() <= connections {
                return;
            }
        }
    }

    /// Gives clients the time to take the last octets of their answers. How many have not.
    async fn last_octets(&self, deadline: Instant) -> usize {
        loop {
            let open = usize::try_from(self.open_connections()).unwrap_or(0);
            if open == 0 || time::now() >= deadline {
                return open;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Client connections open now.
    #[must_use]
    pub fn open_connections(&self) -> i64 {
        let listen = &self.first.listen;
        listen
            .iter()
            .map(|listener| self.metrics.connections.with_label_values(&[&listener.address.to_string()]).get())
            .sum()
    }
}
