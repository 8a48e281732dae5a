//! The proof that a request was let in, and all that it holds.

use std::sync::Arc;
use std::time::Instant;

use http::HeaderValue;

use super::line::Standing;
use super::nesting::Nest;
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
    /// Holds place and turn in its stead where others may be nested in it.
    nest: Option<Arc<Nest>>,
    has_gone_back: bool,
    _on_the_roll: Option<RollEntry>,
}

impl Permit {
    pub(super) fn new(
        gates: Arc<RouteGates>,
        exchange: Arc<Exchange>,
        tokens: Tokens,
        standing: Standing,
        mut place: Option<Place>,
        on_the_roll: Option<RollEntry>,
    ) -> Self {
        gates.metrics.in_flight.inc();
        exchange.enter(Phase::Connecting);
        let Standing { mut turn, nest, waits_nested: _ } = standing;
        if let Some(nest) = &nest {
            nest.hold(place.take(), turn.take());
        }
        if place.is_some() {
            exchange.hold_place(true);
        }
        let since = time::now();
        Self { exchange, gates, tokens, since, place, turn, nest, has_gone_back: false, _on_the_roll: on_the_roll }
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

    /// What its request tells the server, so that others can be nested in it: `Turnwise-Turn`.
    #[must_use]
    pub fn turn_token(&self) -> Option<HeaderValue> {
        self.nest.as_ref().map(|nest| nest.token().value())
    }

    /// Whether it takes no place, and waits for no server: what it is nested in holds one.
    #[must_use]
    pub fn is_nested(&self) -> bool {
        self.nest.as_ref().is_some_and(|nest| nest.parent().is_some())
    }

    /// Gives the tokens back: the gateway refuses the request after all, and no server has seen it.
    pub fn give_tokens_back(&mut self) {
        self.tokens.give_back(&self.gates);
    }

    /// Gives place and turn back, and says whether the turn went to one who waited for it.
    pub fn give_back(mut self) -> bool {
        self.go_back()
    }

    fn go_back(&mut self) -> bool {
        self.has_gone_back = true;
        self.gates.metrics.in_flight.dec();
        self.gates.pace.permit_came_back(self.since, time::now());
        if let Some(place) = self.place.take() {
            drop(place);
            self.exchange.hold_place(false);
        }
        self.turn.take().is_some_and(SessionTurn::pass_on)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.has_gone_back {
            self.go_back();
        }
        // The last of all that are nested in one another gives their place and turn back.
        drop(self.nest.take());
    }
}
