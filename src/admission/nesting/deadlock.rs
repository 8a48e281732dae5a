//! Whether nested requests wait for one another for ever.
//!
//! Who waits for whom can be read from the lines. A nested request gets its turn when fewer than the line's width of
//! those before it are stuck. Whoever stands in a line is stuck
//!
//! - while something nested in it cannot get its turn, because a turn lasts until everything nested in it has ended;
//! - or, if it needs a place and has none yet, while all places it could get are held by those who are stuck.
//!
//! All others end by themselves: a server answers, or a timeout does. So the answer is a least fixed point: begin with
//! nobody certain to get its turn, and add those of whom it follows, until nothing changes (as detection of deadlocks by
//! reduction of the graph of waits does: Holt, "Some deadlock properties of computer systems", 1972).
//!
//! Only the arrival of a nested request can close a circle: whoever comes to a line later stands behind those who are
//! in it, and whoever ends frees something. Nested arrivals are looked at one at a time, under one lock.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{MOST_WAITING, Nest, Nesting, WaitsNested};
use crate::admission::{LaneKey, Member, Rejection, SessionTurn, Sessions};
use crate::limit::gate::Gate;
use crate::limit::places::Scope;
use crate::request::exchange::Phase;

/// How many may run at once, and who stands there, with whether it has its turn.
type Line = (usize, Vec<(bool, Member)>);

impl Nesting {
    /// Stands in a line by `arrive`, unless what `nest` is nested in would then wait for itself. `replaces`: it puts those out
    /// who wait there, so it must be known before whether it may.
    ///
    /// # Errors
    /// Those of `arrive`, [`Rejection::TurnDeadlock`], and [`Rejection::SessionQueueFull`] when too many nested requests wait;
    /// it stands in no line then.
    pub(in crate::admission) fn wait_in_line(
        self: &Arc<Self>,
        nest: &Arc<Nest>,
        sessions: &Sessions,
        gate: &Gate,
        replaces: bool,
        arrive: impl FnOnce() -> Result<SessionTurn, Rejection>,
    ) -> Result<(SessionTurn, Option<WaitsNested>), Rejection> {
        let mut waiting = self.waiting.lock();
        waiting.push(nest.clone());
        let arrived = if replaces && !Look::at(&waiting, sessions, gate).would_end(nest) {
            Err(Rejection::TurnDeadlock)
        } else {
            arrive()
        };
        let arrived = arrived.and_then(|turn| {
            if turn.is_granted() {
                Ok((turn, false))
            } else if waiting.len() > MOST_WAITING as usize {
                Err(Rejection::SessionQueueFull { waiting: MOST_WAITING, retry_after: Duration::ZERO })
            } else if Look::at(&waiting, sessions, gate).ends(nest) {
                Ok((turn, true))
            } else {
                Err(Rejection::TurnDeadlock)
            }
        });
        if !matches!(arrived, Ok((_, true))) {
            waiting.pop();
        }
        drop(waiting);
        let (turn, waits) = arrived?;
        Ok((turn, waits.then(|| WaitsNested { nesting: self.clone(), nest: nest.clone() })))
    }
}

/// The lines as they were a moment ago, with those nested requests that wait in them.
struct Look<'w> {
    waiting: &'w [Arc<Nest>],
    lines: HashMap<&'w LaneKey, Line>,
    gate: &'w Gate,
    /// For each of those who wait, whether it is certain to get its turn.
    gets: Vec<bool>,
    /// One that stands in no line yet.
    newcomer: Option<*const Nest>,
    /// How many wait in it, itself included, that are not certain to get their turns.
    inside: HashMap<*const Nest, usize>,
}

impl<'w> Look<'w> {
    fn at(waiting: &'w [Arc<Nest>], sessions: &Sessions, gate: &'w Gate) -> Self {
        let mut lines = HashMap::new();
        let mut inside = HashMap::new();
        for nest in waiting {
            if let Some(lane) = &nest.lane {
                lines.entry(lane).or_insert_with(|| sessions.line(lane).unwrap_or_default());
            }
            for outer in nest.chain() {
                *inside.entry(std::ptr::from_ref(outer)).or_default() += 1;
            }
        }
        Self { waiting, lines, gate, gets: vec![false; waiting.len()], newcomer: None, inside }
    }

    /// Whether `nest`, which waits, will get its turn.
    fn ends(mut self, nest: &Arc<Nest>) -> bool {
        self.settle();
        self.waiting.iter().zip(&self.gets).any(|(one, gets)| *gets && Arc::ptr_eq(one, nest))
    }

    /// Whether `nest`, which stands in no line yet, would get its turn if it put those out who wait before it.
    fn would_end(mut self, nest: &Arc<Nest>) -> bool {
        if let Some(lane) = &nest.lane
            && let Some((_, members)) = self.lines.get_mut(lane)
        {
            members.retain(|(granted, _)| *granted);
        }
        self.newcomer = Some(Arc::as_ptr(nest));
        self.ends(nest)
    }

    /// Adds those who are certain to get their turns until nothing changes.
    fn settle(&mut self) {
        loop {
            let places = self.stuck_places();
            let found: Vec<usize> =
                (0..self.waiting.len()).filter(|one| !self.gets[*one] && self.gets_turn(*one, &places)).collect();
            for one in &found {
                self.gets[*one] = true;
                for outer in self.waiting[*one].chain() {
                    *self.inside.entry(outer).or_insert(1) -= 1;
                }
            }
            if found.is_empty() {
                return;
            }
        }
    }

    fn gets_turn(&self, one: usize, places: &StuckPlaces) -> bool {
        let nest = &self.waiting[one];
        let Some((width, members)) = nest.lane.as_ref().and_then(|lane| self.lines.get(lane)) else { return true };
        if nest.ended_by().is_some() {
            return true;
        }
        let mut stuck = 0;
        for (granted, member) in members {
            if std::ptr::eq(&raw const *member.exchange, &raw const *nest.exchange) {
                return *granted || stuck < *width;
            }
            stuck += usize::from(self.is_stuck(member, places));
        }
        // It comes behind all of them; or it has left meanwhile, or was put out.
        self.newcomer != Some(Arc::as_ptr(nest)) || stuck < *width
    }

    fn is_stuck(&self, member: &Member, places: &StuckPlaces) -> bool {
        // What was ended goes by itself, with all that is nested in it.
        if member.exchange.ended_by().is_some() {
            return false;
        }
        let nest = member.nest.as_ref().map(Weak::as_ptr);
        let waits_inside = nest.is_some_and(|nest| self.inside.get(&nest).is_some_and(|waiting| *waiting > 0));
        let needs_place = member.exchange.phase() < Phase::Server;
        waits_inside || (needs_place && member.scopes.is_some_and(|scopes| places.fill(scopes, self.gate)))
    }

    fn stuck_places(&self) -> StuckPlaces {
        let mut stuck = StuckPlaces::default();
        let mut roots = HashSet::new();
        for (one, _) in self.waiting.iter().zip(&self.gets).filter(|(one, gets)| !**gets && one.ended_by().is_none()) {
            let root = one.root();
            if roots.insert(std::ptr::from_ref(root)) {
                stuck.add(root.scopes);
            }
        }
        stuck
    }
}

/// Places held by those who are stuck.
#[derive(Default)]
struct StuckPlaces {
    all: usize,
    by_scope: HashMap<Scope, usize>,
}

impl StuckPlaces {
    fn add(&mut self, scopes: Option<(Scope, Scope)>) {
        let Some((route, upstream)) = scopes else { return };
        self.all += 1;
        *self.by_scope.entry(route).or_default() += 1;
        *self.by_scope.entry(upstream).or_default() += 1;
    }

    /// Whether they leave no place in these scopes.
    fn fill(&self, (route, upstream): (Scope, Scope), gate: &Gate) -> bool {
        let fills = |scope: Scope| self.by_scope.get(&scope).is_some_and(|held| *held >= gate.limit_of(scope));
        self.all > 0 && (self.all >= gate.limit() || fills(route) || fills(upstream))
    }
}
