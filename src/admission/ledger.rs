//! The books: whether all places and turns that are taken are held by somebody.
//!
//! A place or a turn goes back by the drop of what holds it, so none can be lost while the gates count right and everybody
//! who holds one is dropped. Should that ever not be so, the gateway would serve fewer requests at once than it may, until
//! it is restarted, and nothing would tell why. So the books are looked through once a second:
//!
//! - *Turns.* Whoever stands in a session's line is on the roll, or holds it for requests that are nested in it and are.
//! - *Places.* As many are taken as are held: by permits on the roll, by those in whom others are nested, and by those who
//!   were granted one and have not seen it yet.
//!
//! Nothing is stopped meanwhile, so one look may see a request between two books. A turn counts as lost when it is found so
//! [`LOOKS`] times in a row; places, which have no names, by the least difference in [`PLACE_LOOKS`] looks.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

use super::nesting::Nest;
use super::{Admission, LaneKey};
use crate::request::exchange::Exchange;

/// How often a turn must be found lost.
const LOOKS: u32 = 3;
/// Looks of which the least difference counts. While requests come and go, each look is wrong by a few in either direction.
const PLACE_LOOKS: u32 = 60;
/// Turns that are suspected at once; more are found when these are settled.
const MOST_SUSPECTS: usize = 1000;

/// What has been found so far.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Which part of the lines is looked at next.
    part: usize,
    suspects: Vec<Suspect>,
    /// Differences of places by route, in the looks of this round.
    places: HashMap<Arc<str>, usize>,
    looks: u32,
    /// Places that were told to be lost, by route.
    told: HashMap<Arc<str>, usize>,
}

/// One who stands in a line and seems not to be here.
#[derive(Debug)]
struct Suspect {
    lane: LaneKey,
    exchange: Weak<Exchange>,
    found: u32,
}

/// A place or a turn that nobody holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    pub what: &'static str,
    pub route: Arc<str>,
    /// The request that had it; places have no names.
    pub request_id: Option<String>,
    pub count: usize,
}

impl Ledger {
    /// Looks once, and says what has been lost that was not told before. Call it every second.
    pub fn audit(&mut self, admission: &Admission) -> Vec<Leak> {
        let mut leaks = self.audit_turns(admission);
        leaks.extend(self.audit_places(admission));
        leaks
    }

    fn audit_turns(&mut self, admission: &Admission) -> Vec<Leak> {
        if self.suspects.len() < MOST_SUSPECTS {
            let standing = lost_turns(admission, self.part);
            self.part = self.part.wrapping_add(1);
            let known: HashSet<*const Exchange> = self.suspects.iter().map(|one| one.exchange.as_ptr()).collect();
            self.suspects.extend(standing.into_values().filter(|one| !known.contains(&one.exchange.as_ptr())));
        }
        let mut standing: HashMap<*const Exchange, Suspect> = HashMap::new();
        for suspect in self.suspects.drain(..) {
            let line = admission.sessions.members(&suspect.lane).unwrap_or_default();
            if line.iter().any(|(_, member)| Arc::as_ptr(&member.exchange) == suspect.exchange.as_ptr()) {
                standing.insert(suspect.exchange.as_ptr(), suspect);
            }
        }
        strike_out_those_who_are_here(admission, &mut standing);
        let mut lost = Vec::new();
        for (_, mut suspect) in standing {
            suspect.found = suspect.found.saturating_add(1);
            if suspect.found == LOOKS
                && let Some(exchange) = suspect.exchange.upgrade()
            {
                lost.push(Leak {
                    what: "turn",
                    route: exchange.route.clone(),
                    request_id: Some(exchange.request_id.to_string()),
                    count: 1,
                });
            }
            self.suspects.push(suspect);
        }
        lost
    }

    fn audit_places(&mut self, admission: &Admission) -> Vec<Leak> {
        let first = self.looks == 0;
        for (route, lost) in lost_places(admission) {
            let least = self.places.entry(route).or_insert(lost);
            *least = if first { lost } else { (*least).min(lost) };
        }
        self.looks += 1;
        if self.looks < PLACE_LOOKS {
            return Vec::new();
        }
        self.looks = 0;
        let mut leaks = Vec::new();
        for (route, lost) in self.places.drain() {
            let told = self.told.entry(route.clone()).or_default();
            if lost > *told {
                leaks.push(Leak { what: "place", route, request_id: None, count: lost - *told });
            }
            *told = lost;
        }
        leaks
    }
}

/// Turns and places that nobody holds, in one look at all. Exact only while nothing moves.
#[must_use]
pub fn unaccounted(admission: &Admission) -> usize {
    let turns: usize = (0..crate::limit::lanes::SHARDS).map(|part| lost_turns(admission, part).len()).sum();
    turns + lost_places(admission).values().sum::<usize>()
}

/// Those in a part of the lines who are not here.
fn lost_turns(admission: &Admission, part: usize) -> HashMap<*const Exchange, Suspect> {
    let mut standing: HashMap<*const Exchange, Suspect> = HashMap::new();
    admission.sessions.for_each_of(part, |lane, line| {
        for (_, member) in line {
            let suspect = Suspect { lane: lane.clone(), exchange: Arc::downgrade(&member.exchange), found: 0 };
            standing.insert(Arc::as_ptr(&member.exchange), suspect);
        }
    });
    strike_out_those_who_are_here(admission, &mut standing);
    standing
}

/// By route, how many places more are taken than held.
fn lost_places(admission: &Admission) -> HashMap<Arc<str>, usize> {
    let taken = admission.places_taken();
    let mut held: HashMap<Arc<str>, usize> = HashMap::new();
    admission.roll.for_each(|exchange| {
        if exchange.holds_place() {
            *held.entry(exchange.route.clone()).or_default() += 1;
        }
    });
    for nest in nests_in_use(admission) {
        if nest.holds_place() {
            *held.entry(nest.exchange().route.clone()).or_default() += 1;
        }
    }
    let taken_since = admission.places_taken();
    let lost = taken.into_iter().map(|(route, before)| {
        let least = before.min(taken_since.get(&route).copied().unwrap_or(0));
        let lost = least.saturating_sub(held.get(&route).copied().unwrap_or(0));
        (route, lost)
    });
    lost.collect()
}

fn strike_out_those_who_are_here(admission: &Admission, standing: &mut HashMap<*const Exchange, Suspect>) {
    if standing.is_empty() {
        return;
    }
    for outer in nests_in_use(admission) {
        standing.remove(&Arc::as_ptr(outer.exchange()));
    }
    admission.roll.for_each(|exchange| drop(standing.remove(&Arc::as_ptr(exchange))));
}

/// Those in whom others are nested, and who are on the roll themselves or have somebody inside who is.
fn nests_in_use(admission: &Admission) -> Vec<Arc<Nest>> {
    let nests = admission.nesting.all();
    if nests.is_empty() {
        return nests;
    }
    let mut here = HashSet::new();
    admission.roll.for_each(|exchange| {
        here.insert(Arc::as_ptr(exchange));
    });
    let is_here = |nest: &&Arc<Nest>| here.contains(&Arc::as_ptr(nest.exchange()));
    let mut in_use: HashMap<*const Nest, Arc<Nest>> = HashMap::new();
    for nest in nests.iter().filter(is_here) {
        let outwards = std::iter::successors(Some(nest), |nest| nest.parent());
        in_use.extend(outwards.map(|nest| (Arc::as_ptr(nest), nest.clone())));
    }
    in_use.into_values().collect()
}

#[cfg(test)]
mod tests;
