//! What is wrong with the heads that were read of a connection and not called yet.

use std::collections::VecDeque;

use super::cells::{Count, Flag};
use crate::sync::Mutex;

/// A queue, of which the good heads before the first bad one are only counted: most connections never have another.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    good: Count,
    /// Whether `others` has any.
    more: Flag,
    /// From the first bad head on.
    others: Mutex<VecDeque<Option<&'static str>>>,
}

impl Verdicts {
    pub(super) fn push(&self, bad: Option<&'static str>) {
        if bad.is_none() && !self.more.get() {
            self.good.set(self.good.get() + 1);
        } else {
            self.others.lock().push_back(bad);
            self.more.set(true);
        }
    }

    /// The verdict of the first head; `None` when there is no head.
    pub(super) fn pop(&self) -> Option<Option<&'static str>> {
        let good = self.good.get();
        if good > 0 {
            self.good.set(good - 1);
            return Some(None);
        }
        if !self.more.get() {
            return None;
        }
        let mut others = self.others.lock();
        let first = others.pop_front();
        self.more.set(!others.is_empty());
        first
    }

    pub(super) fn is_empty(&self) -> bool {
        self.good.get() == 0 && !self.more.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_come_out_as_they_went_in() {
        let verdicts = Verdicts::default();
        let heads = [None, None, Some("a"), None, Some("b"), None];
        for bad in heads {
            verdicts.push(bad);
        }
        for bad in heads {
            assert!(!verdicts.is_empty());
            assert_eq!(verdicts.pop(), Some(bad));
        }
        assert!(verdicts.is_empty());
        assert_eq!(verdicts.pop(), None);
        verdicts.push(None);
        assert_eq!(verdicts.pop(), Some(None));
    }
}
