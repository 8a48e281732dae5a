//! The proof that a request was let in, and all that it holds.

use std::sync::Arc;
use std::time::Instant;

use crate::admission::{Quota, RollEntry, RouteGates, SessionTurn, tokens::Tokens};
use crate::limit::gate::Place;
use crate::request::exchange::{Exchange, Phase};
use crate::time;

/// Lets one request go to an upstream. It is given back by its drop, when the exchange is over to the last byte.
#[derive(Debug)]
#[must_use = "dropping it gives turn and place back"]
pub struct Permit {
    exchange: Arc<Exchange>,
    gates: Arc<RouteGates>,
    tokens: Tokens,
    since: Instant,
    // The place goes back before the turn: the session's next request then finds it free.
    place: Option<Place>,
    turn: Option<SessionTurn>,
    _on_the_roll: Option<RollEntry>,
}

impl Permit {
    pub(super) fn new(
        gates: Arc<RouteGates>,
        exchange: Arc<Exchange>,
        tokens: Tokens,
        turn: Option<SessionTurn>,
        place: Option<Place>,
        on_the_roll: Option<RollEntry>,
    ) -> Self {
        gates.metrics.in_flight.inc();
        exchange.enter(Phase::Connecting);
        Self { exchange, gates, tokens, since: time::now(), place, turn, _on_the_roll: on_the_roll }
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
        self.tokens.give_back(&self.gates);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gates.metrics.in_flight.dec();
        self.gates.pace.permit_came_back(self.since, time::now());
        drop(self.place.take());
        drop(self.turn.take());
    }
}
