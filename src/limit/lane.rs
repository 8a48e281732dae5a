//! The ordered path of one key: exact FIFO, resizable, under cancellation.
//!
//! All who are here stand in one line in order of arrival, and the first `running` of them hold a turn. Turns are
//! granted from the front and the line is never reordered, so those who run always form its head, also after one in
//! the middle has left and after the width was lowered. That one number is therefore the whole state.
//!
//! ```text
//!   line:    a  b | c  d  e          width 2: a and b run, c waits first
//!   leave(a) ──▶   b | c  d  e  ── advance ──▶  b  c | d  e
//!   leave(d) ──▶   b  c | e         a waiting one goes; nobody moves
//! ```

use std::collections::VecDeque;

/// Names one arrival within one lane. Never reused while the lane lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// The line is as long as it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneFull;

/// The line of one key; `T` is what the shell keeps for each who stands in it.
#[derive(Debug)]
pub struct Lane<T> {
    /// In order of arrival, so also in order of tickets.
    line: VecDeque<(Ticket, T)>,
    /// How many at the front hold a turn.
    running: usize,
    /// How many may hold one.
    width: usize,
    next: u64,
}

impl<T> Lane<T> {
    /// An empty lane in which `width` may run at once. A width of 0 counts as 1: a lane without turns would hold its
    /// waiters for ever.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { line: VecDeque::new(), running: 0, width: width.max(1), next: 0 }
    }

    /// Makes an empty lane one of `width`, as if it were new; what its line holds of memory is kept.
    pub fn begin_anew(&mut self, width: usize) {
        debug_assert!(self.is_empty(), "somebody stands in it");
        self.resize(width);
    }

    /// How many can stand in it without more memory.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.line.capacity()
    }

    /// Joins the end of the line. Granted at once only if nobody waits and a turn is free.
    ///
    /// # Errors
    /// [`LaneFull`] when it would have to wait and `depth` others do already; the lane is unchanged.
    pub fn arrive(&mut self, depth: usize, value: T) -> Result<Ticket, LaneFull> {
        let must_wait = self.is_busy();
        if must_wait && self.waiting() >= depth {
            return Err(LaneFull);
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.line.push_back((ticket, value));
        if !must_wait {
            self.running += 1;
        }
        Ok(ticket)
    }

    /// Takes one out, whether it waited or ran. `None` if it is not here.
    ///
    /// Call [`advance`](Self::advance) afterwards: a turn may have become free.
    pub fn leave(&mut self, ticket: Ticket) -> Option<T> {
        let place = self.place_of(ticket)?;
        if place < self.running {
            self.running -= 1;
        }
        self.line.remove(place).map(|(_, value)| value)
    }

    /// Takes all out who wait, in order of arrival.
    pub fn put_out_waiting(&mut self) -> impl Iterator<Item = T> {
        self.line.drain(self.running..).map(|(_, value)| value)
    }

    /// Those who hold a turn, in order of arrival.
    pub fn running_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.line.iter_mut().take(self.running).map(|(_, value)| value)
    }

    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Grants the next free turn, if there is one and somebody waits for it. Call until it returns `None`.
    pub fn advance(&mut self) -> Option<&mut T> {
        if self.running >= self.width || self.waiting() == 0 {
            return None;
        }
        self.running += 1;
        self.line.get_mut(self.running - 1).map(|(_, value)| value)
    }

    /// Lets `width` run at once from now on. Those who run too many keep their turns until they end.
    pub fn resize(&mut self, width: usize) {
        self.width = width.max(1);
    }

    /// What is kept for one, and whether it holds a turn.
    pub fn get_mut(&mut self, ticket: Ticket) -> Option<(bool, &mut T)> {
        let place = self.place_of(ticket)?;
        let granted = place < self.running;
        self.line.get_mut(place).map(|(_, value)| (granted, value))
    }

    /// Everyone in order, with whether it holds a turn.
    pub fn iter(&self) -> impl Iterator<Item = (bool, &T)> {
        self.line.iter().enumerate().map(|(place, (_, value))| (place < self.running, value))
    }

    /// Whether one who comes now has to wait.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.running >= self.width || self.waiting() > 0
    }

    #[must_use]
    pub fn running(&self) -> usize {
        self.running
    }

    #[must_use]
    pub fn waiting(&self) -> usize {
        self.line.len() - self.running
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    fn place_of(&self, ticket: Ticket) -> Option<usize> {
        self.line.binary_search_by_key(&ticket, |(t, _)| *t).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_runs_and_the_others_wait_in_order() {
        let mut lane = Lane::new(1);
        let a = lane.arrive(9, 'a').expect("room");
        let b = lane.arrive(9, 'b').expect("room");
        let c = lane.arrive(9, 'c').expect("room");
        assert_eq!((lane.running(), lane.waiting()), (1, 2));
        assert_eq!(lane.leave(b), Some('b'));
        assert_eq!(lane.advance(), None, "b only waited, so no turn became free");
        assert_eq!(lane.leave(a), Some('a'));
        assert_eq!(lane.advance(), Some(&mut 'c'));
        assert_eq!(lane.leave(c), Some('c'));
        assert!(lane.is_empty());
    }

    #[test]
    fn a_full_line_refuses_and_stays_as_it_was() {
        let mut lane = Lane::new(1);
        lane.arrive(0, 1).expect("a free turn needs no room in the line");
        assert_eq!(lane.arrive(0, 2), Err(LaneFull));
        assert_eq!((lane.running(), lane.waiting()), (1, 0));
    }

    #[test]
    fn a_newcomer_does_not_overtake_after_the_lane_was_widened() {
        let mut lane = Lane::new(1);
        lane.arrive(9, 'a').expect("room");
        let b = lane.arrive(9, 'b').expect("room");
        lane.resize(2);
        let c = lane.arrive(9, 'c').expect("room");
        assert_eq!(lane.get_mut(c), Some((false, &mut 'c')), "b was first");
        assert_eq!(lane.advance(), Some(&mut 'b'));
        assert_eq!(lane.get_mut(b), Some((true, &mut 'b')));
        assert_eq!(lane.advance(), None);
    }

    #[test]
    fn a_narrowed_lane_drains_before_it_grants_again() {
        let mut lane = Lane::new(2);
        let a = lane.arrive(9, 'a').expect("room");
        let b = lane.arrive(9, 'b').expect("room");
        lane.arrive(9, 'c').expect("room");
        lane.resize(1);
        lane.leave(a);
        assert_eq!(lane.advance(), None, "b still fills the narrower lane");
        lane.leave(b);
        assert_eq!(lane.advance(), Some(&mut 'c'));
    }

    proptest! {
        /// The lane against a model that keeps two plain lists.
        #[test]
        fn it_does_what_two_plain_lists_do(width in 1usize..4, steps in prop::collection::vec((0u8..5, 0usize..12), 1..200)) {
            let mut lane = Lane::new(width);
            let mut width = width;
            let mut tickets = std::collections::HashMap::new();
            let (mut running, mut waiting): (Vec<u32>, Vec<u32>) = (vec![], vec![]);
            let mut id = 0;
            for (step, n) in steps {
                match step {
                    0 | 1 => {
                        id += 1;
                        let free = running.len() < width && waiting.is_empty();
                        match lane.arrive(6, id) {
                            Ok(ticket) => {
                                tickets.insert(id, ticket);
                                if free { running.push(id) } else { waiting.push(id) }
                            }
                            Err(LaneFull) => prop_assert!(!free && waiting.len() >= 6),
                        }
                    }
                    2 => {
                        let all: Vec<u32> = running.iter().chain(&waiting).copied().collect();
                        if let Some(&gone) = all.get(n) {
                            prop_assert_eq!(lane.leave(tickets[&gone]), Some(gone));
                            prop_assert_eq!(lane.leave(tickets[&gone]), None);
                            running.retain(|&x| x != gone);
                            waiting.retain(|&x| x != gone);
                        }
                    }
                    3 => { width = n % 4 + 1; lane.resize(width); }
                    _ => {
                        let out: Vec<u32> = lane.put_out_waiting().collect();
                        prop_assert_eq!(&out, &waiting);
                        waiting.clear();
                    }
                }
                while running.len() < width && !waiting.is_empty() {
                    let next = waiting.remove(0);
                    running.push(next);
                    prop_assert_eq!(lane.advance().copied(), Some(next));
                }
                prop_assert_eq!(lane.advance(), None);
                let seen: Vec<(bool, u32)> = lane.iter().map(|(g, v)| (g, *v)).collect();
                let mut want: Vec<(bool, u32)> = running.iter().map(|v| (true, *v)).chain(waiting.iter().map(|v| (false, *v))).collect();
                want.sort_by_key(|(_, v)| *v);
                prop_assert_eq!(seen, want);
            }
        }
    }
}
