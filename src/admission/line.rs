//! Standing in a session's line.

use std::sync::Arc;

use super::nesting::{Nest, Nested, WaitsNested};
use crate::admission::{Admission, LaneKey, Member, Rejection, RouteGates, SessionTurn, Visitor};
use crate::limit::lanes::{Before, LaneRefused, Newcomer};
use crate::policy::{Session, WhenBusy};
use crate::request::exchange::{EndedBy, Exchange, Phase};

/// What a request has of turns: a place in a line or a turn, and what it is nested in or others in it.
#[derive(Debug, Default)]
pub(super) struct Standing {
    // Before the turn: while it is on the list it stands in the line.
    pub waits_nested: Option<WaitsNested>,
    pub turn: Option<SessionTurn>,
    pub nest: Option<Arc<Nest>>,
}

impl Standing {
    pub(super) fn is_nested(&self) -> bool {
        self.nest.as_ref().is_some_and(|nest| nest.parent().is_some())
    }
}

impl Admission {
    /// Whoever is nested in a turn of the session already stands in no line, and neither does one without a session.
    pub(super) fn stand_in_line(
        &self,
        gates: &Arc<RouteGates>,
        visitor: &mut Visitor<'_>,
        exchange: &Arc<Exchange>,
    ) -> Result<Standing, Rejection> {
        let session = gates.policy.session.as_ref().filter(|_| !gates.policy.exempt);
        let line = session
            .zip(visitor.session)
            .map(|(session, key)| (session, LaneKey { lane: session.lane.clone(), session: key.clone() }));
        let parent = visitor.nested_in.take();
        if parent.is_none() && !session.is_some_and(|session| session.reentrant) {
            let turn =
                line.map(|(session, lane)| self.line_up(gates, session, lane, visitor.when_busy, exchange, None));
            return Ok(Standing { turn: turn.transpose()?, ..Standing::default() });
        }
        let line = line.filter(|(_, lane)| !parent.as_ref().is_some_and(|parent| parent.is_inside(lane)));
        let is_nested = parent.is_some();
        let nest = self.nesting.begin(Nested {
            exchange: exchange.clone(),
            gates: gates.clone(),
            lane: line.as_ref().map(|(_, lane)| lane.clone()),
            scopes: (!is_nested).then(|| gates.scopes()).flatten(),
            tenant: std::mem::take(&mut visitor.tenant),
            parent,
        })?;
        if is_nested {
            gates.metrics.nested();
        }
        let Some((session, lane)) = line else {
            return Ok(Standing { nest: Some(nest), ..Standing::default() });
        };
        let arrive = || self.line_up(gates, session, lane, visitor.when_busy, exchange, Some(&nest));
        let (turn, waits_nested) = if is_nested {
            let replaces = visitor.when_busy == WhenBusy::Replace;
            self.nesting.wait_in_line(&nest, &self.sessions, &self.gate, replaces, arrive)?
        } else {
            (arrive()?, None)
        };
        Ok(Standing { waits_nested, turn: Some(turn), nest: Some(nest) })
    }

    /// How many, itself included, come before what a request waits for is its own: in its session's line by order, before
    /// a place by order of arrival there. 0: it does not wait.
    #[must_use]
    pub fn position(&self, lane: Option<&LaneKey>, exchange: &Exchange) -> usize {
        let is_it = |other: &Exchange| std::ptr::eq(other, exchange);
        match exchange.phase() {
            Phase::Turn => {
                let line = lane.and_then(|lane| self.sessions.members(lane)).unwrap_or_default();
                let mut waiting = line.iter().filter(|(granted, _)| !granted);
                waiting.position(|(_, member)| is_it(&member.exchange)).map_or(1, |before| before + 1)
            }
            phase if phase.waiting_for().is_some() => {
                let since = exchange.phase_since();
                let mut before = 0;
                self.roll.for_each(|other| {
                    before += usize::from(!is_it(other) && other.phase() == phase && other.phase_since() < since);
                });
                before + 1
            }
            _ => 0,
        }
    }

    fn line_up(
        &self,
        gates: &RouteGates,
        session: &Session,
        lane: LaneKey,
        when_busy: WhenBusy,
        exchange: &Arc<Exchange>,
        nest: Option<&Arc<Nest>>,
    ) -> Result<SessionTurn, Rejection> {
        let (width, depth) = (session.concurrency.get() as usize, session.queue as usize);
        let newcomer = match when_busy {
            WhenBusy::Wait => Newcomer::Waits,
            WhenBusy::Reject => Newcomer::Leaves,
            WhenBusy::Replace => Newcomer::Replaces,
            WhenBusy::Interrupt => Newcomer::Interrupts,
        };
        let is_nested = nest.is_some_and(|nest| nest.parent().is_some());
        let member = Member {
            exchange: exchange.clone(),
            scopes: (!is_nested).then(|| gates.scopes()).flatten(),
            nest: nest.map(Arc::downgrade),
        };
        let arrive = || self.sessions.arrive_as(newcomer, lane.clone(), width, depth, member.clone());
        let arrived = arrive().or_else(|refused| {
            if refused != LaneRefused::Keys {
                return Err(refused);
            }
            self.make_room();
            arrive()
        });
        let refused = match arrived {
            Ok((turn, before)) => {
                end_those(before);
                if !turn.is_granted() {
                    exchange.enter(Phase::Turn);
                }
                return Ok(turn);
            }
            Err(refused) => refused,
        };
        Err(match refused {
            LaneRefused::Full => {
                gates.metrics.turn.wait.observe(0.0);
                Rejection::SessionQueueFull { waiting: session.queue, retry_after: self.pace.turn_time(1) }
            }
            LaneRefused::Busy => {
                gates.metrics.turn.wait.observe(0.0);
                Rejection::SessionBusy
            }
            LaneRefused::Keys => Rejection::KeyTableFull { retry_after: self.pace.gate_time(1) },
        })
    }
}

/// Those who have their turn and wait for something else are not at a server yet: whoever replaces those who wait
/// replaces them too.
fn end_those(before: Before<Member>) {
    for holder in &before.holders {
        holder.end_unless_begun(EndedBy::Replace);
    }
    if let Some(running) = before.interrupted {
        running.end(EndedBy::Interrupt);
    }
}
