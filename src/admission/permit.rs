//! The proof that a request was let in, and all that it holds.

use std::sync::Arc;
use std::time::Instant;

use crate::admission::{Admission, Quota, RollEntry, RouteGates, SessionTurn, tokens::Tokens};
use crate::limit::gate::Place;
use crate::request::exchange::{Exchange, Phase};
use crate::time;

/// Lets one request go to an upstream. It is given back by its drop, when the exchange is over to the last byte.
#[derive(Debug)]
#[must_use = "dropping it gives turn and place back"]
pub struct Permit {
    exchange: Arc<Exchange>,
    gates: Arc<RouteGates>,
    admission: Arc<Admission>,
    tokens: Tokens,
    since: Instant,
    // The place goes back before the turn: the session's next request then finds it free.
    place: Option<Place>,
    turn: Option<SessionTurn>,
    _on_the_roll: Arc<RollEntry>,
}

impl Permit {
    pub(super) fn new(
        admission: Arc<Admission>,
        gates: Arc<RouteGates>,
        exchange: Arc<Exchange>,
        tokens: Tokens,
        turn: Option<SessionTurn>,
        place: Option<Place>,
        on_the_roll: Arc<RollEntry>,
    ) -> Self {
        gates.metrics.in_flight.inc();
        exchange.enter(Phase::Connecting);
        Self { exchange, gates, admission, tokens, since: time::now(), place, turn, _on_the_roll: on_the_roll }
    }

    #[must_use]
    pub fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    #[must_use]
    pub fn gates(&self) -> &Arc<RouteGates> {
        &self.gates
    }

    /// When it was given.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The tightest rate limit that it passed.
    #[must_use]
    pub fn quota(&self) -> Option<&Quota> {
        self.tokens.tightest()
    }

    /// Gives the tokens back: the gateway refuses the request after all, and no server has seen it.
    pub fn give_tokens_back(&mut self) {
        self.tokens.give_back();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gates.metrics.in_flight.dec();
        self.admission.pace.permit_came_back(time::now().saturating_duration_since(self.since));
        drop(self.place.take());
        drop(self.turn.take());
    }
}
