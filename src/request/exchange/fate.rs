//! Whether a request goes on, and who ended it if not.
//!
//! ```text
//!   Waits ──begin──▶ Begun ──end──▶ Ended(by)
//!     └──end, end_unless_begun────────▲
//! ```
//!
//! One word that is changed by compare-and-swap: whoever ends only what still waits and the request that is about to
//! begin cannot both have their way.

use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

const WAITS: u8 = 0;
const BEGUN: u8 = 1;
const ENDED: u8 = 2;

/// Who ended a request before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum EndedBy {
    Operator,
    /// A newer request of its session that takes its stead.
    Replace,
    /// A newer request of its session that interrupts.
    Interrupt,
    /// Nobody has waited for it for `abandoned_limit`.
    Abandoned,
    /// It still waits, and the time to drain is over.
    Drain,
}

impl EndedBy {
    const ALL: [Self; 5] = [Self::Operator, Self::Replace, Self::Interrupt, Self::Abandoned, Self::Drain];

    /// The word for it in the metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Replace => "replace",
            Self::Interrupt => "interrupt",
            Self::Abandoned => "abandoned",
            Self::Drain => "drain",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Fate {
    word: AtomicU8,
    /// The task that serves it.
    waker: AtomicWaker,
    /// The client's connection, which looks while nobody else does and must not take the other's place.
    beside: AtomicWaker,
}

impl Fate {
    pub(super) fn begin(&self) -> bool {
        match self.word.compare_exchange(WAITS, BEGUN, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(word) => word == BEGUN,
        }
    }

    pub(super) fn end(&self, by: EndedBy) {
        let ended = |word| (word < ENDED).then_some(ENDED + by as u8);
        if self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, ended).is_ok() {
            self.wake();
        }
    }

    pub(super) fn end_unless_begun(&self, by: EndedBy) -> bool {
        match self.word.compare_exchange(WAITS, ENDED + by as u8, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                self.wake();
                true
            }
            Err(word) => word >= ENDED,
        }
    }

    pub(super) fn ended_by(&self) -> Option<EndedBy> {
        let word = self.word.load(Ordering::Acquire);
        word.checked_sub(ENDED).map(|by| EndedBy::ALL[usize::from(by) % EndedBy::ALL.len()])
    }

    pub(super) fn poll_ended(&self, cx: &Context<'_>) -> Poll<EndedBy> {
        self.poll_with(&self.waker, cx)
    }

    pub(super) fn poll_ended_beside(&self, cx: &Context<'_>) -> Poll<EndedBy> {
        self.poll_with(&self.beside, cx)
    }

    fn poll_with(&self, waker: &AtomicWaker, cx: &Context<'_>) -> Poll<EndedBy> {
        if let Some(by) = self.ended_by() {
            return Poll::Ready(by);
        }
        waker.register(cx.waker());
        self.ended_by().map_or(Poll::Pending, Poll::Ready)
    }

    fn wake(&self) {
        self.waker.wake();
        self.beside.wake();
    }
}
