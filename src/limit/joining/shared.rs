//! One answer with its readers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::{AHEAD, Lead, PIECE_BYTES, WINDOW, WINDOW_PIECES};
use crate::sync::Mutex;

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Whole,
    Cut,
}

/// The answer broke off, or its reader fell too far behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    BrokeOff,
    FellBehind,
}

#[derive(Debug)]
pub(super) struct Shared<W, H, P> {
    work: OnceLock<W>,
    /// What all answers that keep theirs have in bytes.
    bytes: Arc<AtomicU64>,
    state: Mutex<State<H, P>>,
}

#[derive(Debug)]
struct State<H, P> {
    head: Option<H>,
    /// Those that are still here, with their bytes.
    pieces: VecDeque<(P, u64)>,
    /// How many pieces, and bytes, came before them.
    dropped: u64,
    start: u64,
    /// Bytes of all pieces so far.
    total: u64,
    /// What they count for while they are all kept.
    weight: u64,
    end: Option<End>,
    readers: Slab<Reader>,
    writer: Option<Waker>,
    /// Nothing is dropped: it may be kept.
    keeps: bool,
}

#[derive(Debug)]
struct Reader {
    /// Of its next piece.
    number: u64,
    /// Bytes that it has read.
    read: u64,
    /// Bytes and pieces that it may be behind: a window, or what had come when it joined.
    may_lag: (u64, u64),
    is_cut: bool,
    waker: Option<Waker>,
}

impl<W, H, P> Shared<W, H, P> {
    pub(super) fn new(keeps: bool, bytes: Arc<AtomicU64>) -> Self {
        Self {
            work: OnceLock::new(),
            bytes,
            state: Mutex::new(State {
                head: None,
                pieces: VecDeque::new(),
                dropped: 0,
                start: 0,
                total: 0,
                weight: 0,
                end: None,
                readers: Slab::new(),
                writer: None,
                keeps,
            }),
        }
    }

    /// A new reader, if the answer can still be had from its beginning.
    pub(super) fn follow(self: &Arc<Self>) -> Option<Follower<W, H, P>> {
        let mut state = self.state.lock();
        if state.dropped > 0 || state.end == Some(End::Cut) {
            return None;
        }
        let may_lag = (WINDOW.max(state.total), WINDOW_PIECES.max(state.count()));
        let place = state.readers.insert(Reader { number: 0, read: 0, may_lag, is_cut: false, waker: None });
        // Who had stopped because nobody read goes on.
        let writer = state.writer.take();
        drop(state);
        writer.into_iter().for_each(Waker::wake);
        Some(Follower { shared: self.clone(), place })
    }

    pub(super) fn done_by(&self, work: W) {
        let _ = self.work.set(work);
    }

    pub(super) fn begin(&self, head: H, whole: bool) {
        self.change(|state| {
            state.head = Some(head);
            state.end = state.end.or(whole.then_some(End::Whole));
        });
    }

    pub(super) fn is_cut(&self) -> bool {
        self.state.lock().end == Some(End::Cut)
    }

    pub(super) fn keep_not(&self) {
        self.change(|state| {
            if std::mem::replace(&mut state.keeps, false) {
                self.bytes.fetch_sub(state.weight, Relaxed);
            }
            state.drop_old();
        });
    }

    pub(super) fn push(&self, piece: P, length: u64, last: bool) {
        self.change(|state| {
            state.pieces.push_back((piece, length));
            state.total += length;
            if state.keeps {
                state.weight += length + PIECE_BYTES;
                self.bytes.fetch_add(length + PIECE_BYTES, Relaxed);
            }
            state.end = state.end.or(last.then_some(End::Whole));
            state.cut_laggards();
            state.drop_old();
        });
    }

    pub(super) fn end(&self, end: End) {
        self.change(|state| {
            state.end.get_or_insert(end);
        });
    }

    /// Changes the answer, and wakes all who read it.
    fn change(&self, change: impl FnOnce(&mut State<H, P>)) {
        let mut state = self.state.lock();
        change(&mut state);
        let woken: Vec<Waker> = state.readers.iter_mut().filter_map(|(_, reader)| reader.waker.take()).collect();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }
}

impl<W, H, P> Drop for Shared<W, H, P> {
    fn drop(&mut self) {
        let state = self.state.lock();
        if state.keeps {
            self.bytes.fetch_sub(state.weight, Relaxed);
        }
    }
}

impl<H, P> State<H, P> {
    /// Whoever is too far behind is cut, also where its pieces are still there: it must not depend on what else is kept.
    fn cut_laggards(&mut self) {
        let fastest = self.readers.iter().map(|(_, reader)| reader.number).max().unwrap_or(0);
        let (total, count) = (self.total, self.count());
        for (_, reader) in &mut self.readers {
            let lags = total - reader.read > reader.may_lag.0 || count - reader.number > reader.may_lag.1;
            reader.is_cut |= lags && reader.number < fastest;
        }
    }

    /// Pieces that have come.
    fn count(&self) -> u64 {
        self.dropped + self.pieces.len() as u64
    }

    /// Drops what nobody may want any more: what lies too far back, and, since nobody joins then, what all have read.
    fn drop_old(&mut self) {
        if self.keeps || (self.total <= WINDOW && self.count() <= WINDOW_PIECES) {
            return;
        }
        let next = || self.readers.iter().map(|(_, reader)| reader.number);
        let (slowest, fastest) = (next().min().unwrap_or(u64::MAX), next().max().unwrap_or(u64::MAX));
        while let Some((_, length)) = self.pieces.front() {
            // However large a piece is, the fastest is not cut for it.
            let back = self.total - self.start > WINDOW || self.pieces.len() as u64 > WINDOW_PIECES;
            let too_far_back = back && self.dropped < fastest;
            let read_by_all = self.dropped > 0 && self.dropped < slowest;
            if !too_far_back && !read_by_all {
                break;
            }
            self.start += length;
            self.dropped += 1;
            self.pieces.pop_front();
        }
    }

    fn has_room(&self) -> bool {
        let fastest = self.readers.iter().map(|(_, reader)| reader.read).max();
        fastest.is_none_or(|read| self.total - read < AHEAD)
    }
}

impl<W, H, P> Lead<W, H, P> {
    /// Ready while one more piece may be added: the fastest reader is near enough, or nobody reads.
    pub fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.shared.state.lock();
        if state.has_room() {
            return Poll::Ready(());
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ends the answer if nobody reads, so that nobody joins it either. Whether it did.
    #[must_use]
    pub fn stop_if_deserted(&self) -> bool {
        let mut state = self.shared.state.lock();
        let stops = state.readers.is_empty();
        if stops {
            state.end.get_or_insert(End::Cut);
        }
        stops
    }

    /// Whether nobody reads. Has `cx` woken when that may have changed. There is one waker for this and
    /// [`poll_room`](Self::poll_room): both are for the task that writes.
    #[must_use]
    pub fn is_deserted(&self, cx: &Context<'_>) -> bool {
        let mut state = self.shared.state.lock();
        state.writer = Some(cx.waker().clone());
        state.readers.is_empty()
    }
}

/// The reading end of an answer. Dropping it is how a reader leaves.
#[derive(Debug)]
pub struct Follower<W, H, P> {
    shared: Arc<Shared<W, H, P>>,
    place: usize,
}

impl<W, H: Clone, P: Clone> Follower<W, H, P> {
    /// Who does the work, once that has been said.
    #[must_use]
    pub fn work(&self) -> Option<&W> {
        self.shared.work.get()
    }

    /// How the answer begins; `None`: it broke off before that.
    pub fn poll_head(&self, cx: &Context<'_>) -> Poll<Option<H>> {
        let mut state = self.shared.state.lock();
        if let Some(head) = &state.head {
            return Poll::Ready(Some(head.clone()));
        }
        if state.end.is_some() {
            return Poll::Ready(None);
        }
        state.readers[self.place].waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The next piece; `None`: the answer is whole.
    ///
    /// # Errors
    /// [`Cut`]: it does not come to its end.
    pub fn poll_piece(&self, cx: &Context<'_>) -> Poll<Option<Result<P, Cut>>> {
        let mut locked = self.shared.state.lock();
        let state = &mut *locked;
        let reader = &mut state.readers[self.place];
        let Some(place) = reader.number.checked_sub(state.dropped).filter(|_| !reader.is_cut) else {
            return Poll::Ready(Some(Err(Cut::FellBehind)));
        };
        let Some((piece, length)) = state.pieces.get(place as usize) else {
            return match state.end {
                Some(End::Whole) => Poll::Ready(None),
                Some(End::Cut) => Poll::Ready(Some(Err(Cut::BrokeOff))),
                None => {
                    reader.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        };
        let piece = piece.clone();
        reader.number += 1;
        reader.read += length;
        state.drop_old();
        let writer = if state.has_room() { state.writer.take() } else { None };
        drop(locked);
        writer.into_iter().for_each(Waker::wake);
        Poll::Ready(Some(Ok(piece)))
    }

    /// Whether all of a whole answer has been read.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let state = self.shared.state.lock();
        let reader = &state.readers[self.place];
        state.end == Some(End::Whole) && !reader.is_cut && reader.number == state.count()
    }
}

impl<W, H, P> Drop for Follower<W, H, P> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.readers.remove(self.place);
        state.drop_old();
        // The pace may be another one's now, or nobody's.
        let writer = state.writer.take();
        drop(state);
        writer.into_iter().for_each(Waker::wake);
    }
}
