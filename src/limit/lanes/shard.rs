//! One of the parts that the table of lanes is cut into.

use hashbrown::HashTable;

use crate::limit::lane::Lane;

/// The table is shrunk when it is this much larger than what is in it.
const SLACK: usize = 8;
const KEPT_CAPACITY: usize = 64;
/// Lanes that nobody stands in, kept for the next key: a request alone in its lane then allocates nothing.
const SPARE_LANES: usize = 8;
/// The longest line that is kept so.
const SPARE_CAPACITY: usize = 4;

/// Lanes by key, in which `T` stand.
#[derive(Debug)]
pub(super) struct Shard<K, T> {
    lanes: HashTable<Keyed<K, T>>,
    spare: Vec<Lane<T>>,
    next: u64,
}

/// One key's lane.
#[derive(Debug)]
pub(super) struct Keyed<K, T> {
    pub(super) key: K,
    hash: u64,
    /// Names the lane among all that its shard ever had: whoever stands in it need not know its key.
    pub(super) id: u64,
    pub(super) lane: Lane<T>,
}

impl<K, T> Shard<K, T> {
    pub(super) fn new() -> Self {
        Self { lanes: HashTable::new(), spare: Vec::new(), next: 0 }
    }

    /// Lanes with somebody in them.
    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Keyed<K, T>> {
        self.lanes.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Keyed<K, T>> {
        self.lanes.iter_mut()
    }

    pub(super) fn find(&mut self, hash: u64, id: u64) -> Option<&mut Keyed<K, T>> {
        self.lanes.find_mut(hash, |keyed| keyed.id == id)
    }

    pub(super) fn of_key(&mut self, hash: u64, key: &K) -> Option<&mut Keyed<K, T>>
    where
        K: Eq,
    {
        self.lanes.find_mut(hash, |keyed| keyed.key == *key)
    }

    /// A lane for a key that has none.
    pub(super) fn begin(&mut self, key: K, hash: u64, width: usize) -> &mut Keyed<K, T> {
        let mut lane = self.spare.pop().unwrap_or_else(|| Lane::new(width));
        lane.begin_anew(width);
        self.next += 1;
        let keyed = Keyed { key, hash, id: self.next, lane };
        self.lanes.insert_unique(hash, keyed, |keyed| keyed.hash).into_mut()
    }

    /// Takes a lane out in which nobody stands any more.
    pub(super) fn forget(&mut self, hash: u64, id: u64) {
        let Ok(found) = self.lanes.find_entry(hash, |keyed| keyed.id == id) else {
            return;
        };
        let (Keyed { lane, .. }, _) = found.remove();
        if self.spare.len() < SPARE_LANES && lane.capacity() <= SPARE_CAPACITY {
            self.spare.push(lane);
        }
        if self.lanes.capacity() > KEPT_CAPACITY && self.lanes.len() < self.lanes.capacity() / SLACK {
            let keep = self.lanes.len() * 2;
            self.lanes.shrink_to(keep.max(KEPT_CAPACITY / 2), |keyed| keyed.hash);
        }
    }
}
