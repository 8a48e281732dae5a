//! Those who wait for the same route and the same upstream.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use super::{CLASSES, FairKey, PlaceId, RISE_AFTER, Standing};

/// The rank of a waiter among all; the least is served first: class, position of its key in the round, arrival.
pub(super) type Rank = (usize, u64, PlaceId);

/// Waiters by class.
#[derive(Debug, Default)]
pub(super) struct Group {
    classes: [Class; CLASSES],
}

#[derive(Debug, Default)]
struct Class {
    /// By key. No empty ones.
    flows: HashMap<FairKey, Flow>,
    /// The keys of `flows` by the position in the round that each flow has heard of.
    ring: BTreeSet<(u64, FairKey)>,
    /// When each one rises to the class above. Empty in the highest class.
    rises: BTreeSet<(Instant, PlaceId, FairKey)>,
}

/// Waiters of one key in order of arrival, each with when it rises.
#[derive(Debug)]
struct Flow {
    heard: u64,
    line: VecDeque<(PlaceId, Option<Instant>)>,
}

impl Group {
    pub(super) fn insert(&mut self, id: PlaceId, class: usize, key: FairKey, position: u64, now: Instant) {
        let rises = (class > 0).then(|| now + RISE_AFTER);
        self.classes[class].insert(id, key, position, rises);
    }

    pub(super) fn remove(&mut self, id: PlaceId, key: FairKey) {
        for class in &mut self.classes {
            if class.remove(id, key) {
                return;
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.classes.iter().all(|class| class.flows.is_empty())
    }

    /// Lifts everyone whose time has come.
    pub(super) fn rise(&mut self, now: Instant, round: &HashMap<FairKey, Standing>) {
        for from in (1..CLASSES).rev() {
            while let Some(&(due, id, key)) = self.classes[from].rises.first().filter(|(due, ..)| *due <= now) {
                self.classes[from].remove(id, key);
                let position = round.get(&key).map_or(0, |standing| standing.position);
                let next = (from > 1).then(|| due + RISE_AFTER);
                self.classes[from - 1].insert(id, key, position, next);
            }
        }
    }

    /// The rank of the one to be served first here.
    pub(super) fn first(&mut self, round: &HashMap<FairKey, Standing>) -> Option<Rank> {
        self.classes.iter_mut().enumerate().find_map(|(class, waiters)| {
            let (position, _, id) = waiters.first(round)?;
            Some((class, position, id))
        })
    }

    /// Takes out the one to be served first.
    pub(super) fn take_first(&mut self, round: &HashMap<FairKey, Standing>) -> Option<(PlaceId, FairKey)> {
        self.classes.iter_mut().find_map(|class| {
            let (_, key, id) = class.first(round)?;
            class.remove(id, key);
            Some((id, key))
        })
    }
}

impl Class {
    fn insert(&mut self, id: PlaceId, key: FairKey, position: u64, rises: Option<Instant>) {
        let ring = &mut self.ring;
        let flow = self.flows.entry(key).or_insert_with(|| {
            ring.insert((position, key));
            Flow { heard: position, line: VecDeque::new() }
        });
        // One that rose from a lower class may have come before those who are here.
        let place = flow.line.partition_point(|(other, _)| *other < id);
        flow.line.insert(place, (id, rises));
        self.rises.extend(rises.map(|due| (due, id, key)));
    }

    fn remove(&mut self, id: PlaceId, key: FairKey) -> bool {
        let Some(flow) = self.flows.get_mut(&key) else {
            return false;
        };
        let Ok(place) = flow.line.binary_search_by_key(&id, |(other, _)| *other) else {
            return false;
        };
        if let Some((_, Some(due))) = flow.line.remove(place) {
            self.rises.remove(&(due, id, key));
        }
        if flow.line.is_empty() {
            self.ring.remove(&(flow.heard, key));
            self.flows.remove(&key);
        }
        true
    }

    /// Position, key and id of the first in the round. Brings the ring up to date on the way: a key that was served
    /// elsewhere meanwhile stands further back than this class had heard.
    fn first(&mut self, round: &HashMap<FairKey, Standing>) -> Option<(u64, FairKey, PlaceId)> {
        loop {
            let &(heard, key) = self.ring.first()?;
            let flow = self.flows.get_mut(&key)?;
            let position = round.get(&key).map_or(heard, |standing| standing.position);
            if position > heard {
                self.ring.remove(&(heard, key));
                self.ring.insert((position, key));
                flow.heard = position;
                continue;
            }
            return Some((heard, key, flow.line.front()?.0));
        }
    }
}
