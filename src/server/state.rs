//! What the parts of one HTTP/1 connection know of each other: the wire that moves octets, the service that answers
//! requests, and the driver that keeps the deadlines. All of them run in one task, so the lock is never contended.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use crate::request::exchange::Exchange;
use crate::server::departure::FIRST_OCTET;
use crate::sync::Mutex;
use crate::time;

/// The shared state of one connection.
#[derive(Debug)]
pub struct Connection {
    state: Mutex<State>,
    /// The exchange that was called last.
    pub current: Arc<Mutex<Option<Arc<Exchange>>>>,
}

#[derive(Debug)]
struct State {
    /// One for each head that was read and not called yet: why it must be refused, if it must.
    verdicts: VecDeque<Option<&'static str>>,
    head_too_large: bool,
    /// Since when a head is being read.
    head_since: Option<Instant>,
    /// Since when there is no request; `None` while there is one.
    idle_since: Option<Instant>,
    /// Whether the answer's head was handed to hyper.
    answering: bool,
    /// The client will send no more.
    ended: bool,
    /// Since when that is known, or since when it was written to last.
    ended_since: Option<Instant>,
    /// The answer goes out in chunks.
    chunked: bool,
    /// An octet was sent to find out whether the client still listens.
    probed: bool,
    /// Since when hyper waits for the socket to take more.
    blocked_since: Option<Instant>,
    /// Everything that hyper has written was taken by the socket.
    flushed: bool,
    /// Whether hyper waits for the socket to have more; it would then notice an end by itself.
    reading: bool,
    /// Octets of the next answer that were sent ahead of it.
    sent_ahead: usize,
    upgraded: bool,
    /// What was written makes no sense any more.
    broken: bool,
}

/// How an answer goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    Chunked,
    /// With a length, or to the end of the connection.
    Otherwise,
    /// The connection speaks another protocol from now on.
    Upgraded,
}

/// Why a request is refused whose head was not followed.
const LOST: &str = "an earlier request of this connection does not clearly end";

/// Marks one exchange's time on its connection; its drop marks the end.
#[derive(Debug)]
pub struct InExchange(Arc<Connection>);

impl Connection {
    #[must_use]
    pub fn new(since: Instant) -> Self {
        Self {
            state: Mutex::new(State {
                verdicts: VecDeque::new(),
                head_too_large: false,
                head_since: Some(since),
                idle_since: Some(since),
                answering: false,
                ended: false,
                ended_since: None,
                chunked: false,
                probed: false,
                blocked_since: None,
                flushed: true,
                reading: false,
                sent_ahead: 0,
                upgraded: false,
                broken: false,
            }),
            current: Arc::default(),
        }
    }

    // The wire's side.

    pub fn head_began(&self) {
        let mut state = self.state.lock();
        state.head_since.get_or_insert_with(time::now);
    }

    pub fn head_ended(&self, bad: Option<&'static str>) {
        let mut state = self.state.lock();
        state.head_since = None;
        state.verdicts.push_back(bad);
    }

    pub fn head_is_too_large(&self) {
        self.state.lock().head_too_large = true;
    }

    /// Notes that the client will send no more. Whether hyper is to be told: not while a whole request is being
    /// answered, since it would take that for the client's departure; nor before all that was written has gone out.
    pub fn end_is_due(&self, between_requests: bool) -> bool {
        let mut state = self.state.lock();
        state.ended = true;
        if state.upgraded {
            return true;
        }
        state.ended_since.get_or_insert_with(time::now);
        let answering = state.idle_since.is_none() && between_requests;
        !answering && (state.flushed || !between_requests)
    }

    pub fn has_ended(&self) -> bool {
        self.state.lock().ended
    }

    pub fn set_reading(&self, reading: bool) {
        self.state.lock().reading = reading;
    }

    /// Notes what became of a write.
    pub fn wrote(&self, blocked: bool) {
        let mut state = self.state.lock();
        state.flushed = false;
        // Every write finds out whether the client still listens.
        if state.ended_since.is_some() && !blocked {
            state.ended_since = Some(time::now());
        }
        if blocked {
            state.blocked_since.get_or_insert_with(time::now);
        } else {
            state.blocked_since = None;
        }
    }

    pub fn flushed(&self) {
        let mut state = self.state.lock();
        state.flushed = true;
        state.blocked_since = None;
    }

    /// How many octets of what is written now have been sent already.
    pub fn sent_ahead(&self) -> usize {
        self.state.lock().sent_ahead
    }

    pub fn skipped_ahead(&self) {
        self.state.lock().sent_ahead = 0;
    }

    pub fn is_upgraded(&self) -> bool {
        self.state.lock().upgraded
    }

    // The service's side.

    /// Begins an exchange; with it comes what is wrong with its head.
    pub fn begin(self: &Arc<Self>) -> (InExchange, Option<&'static str>) {
        let mut state = self.state.lock();
        state.idle_since = None;
        state.answering = false;
        state.probed = false;
        // A head that was not seen to end is one that was lost sight of.
        let verdict = state.verdicts.pop_front().unwrap_or(Some(LOST));
        (InExchange(self.clone()), verdict)
    }

    pub fn answering(&self, how: Answering) {
        let mut state = self.state.lock();
        state.answering = true;
        state.upgraded = how == Answering::Upgraded;
        state.chunked = how == Answering::Chunked;
    }

    /// Notes that what was written makes no sense any more.
    pub fn broke(&self) {
        self.state.lock().broken = true;
    }

    // The driver's side.

    pub fn is_broken(&self) -> bool {
        self.state.lock().broken
    }

    pub fn is_head_too_large(&self) -> bool {
        self.state.lock().head_too_large
    }

    /// Whether a request is on it.
    pub fn is_in_exchange(&self) -> bool {
        self.state.lock().idle_since.is_none()
    }

    /// Whether hyper must be asked to read again, to be told of an end that was kept from it.
    pub fn owes_end(&self) -> bool {
        let state = self.state.lock();
        state.ended && state.idle_since.is_some() && state.flushed
    }

    /// Whether the client's departure would go unseen by hyper.
    pub fn needs_watch(&self) -> bool {
        let state = self.state.lock();
        if state.idle_since.is_some() || state.upgraded {
            return false;
        }
        state.ended || (!state.answering && !state.reading && self.is_waiting())
    }

    fn is_waiting(&self) -> bool {
        self.current.lock().as_ref().is_some_and(|exchange| exchange.phase().waiting_for().is_some())
    }

    /// Whether octets may be written past hyper: nothing of an answer is on its way.
    pub fn may_write_past(&self) -> bool {
        let state = self.state.lock();
        state.flushed && !state.answering && state.idle_since.is_none() && state.sent_ahead == 0
    }

    /// The octet by which to find out whether a client that sends no more still listens; `None` when there is none, or
    /// it was sent.
    pub fn probe(&self) -> Option<&'static [u8]> {
        let state = self.state.lock();
        if state.probed || !state.flushed || state.idle_since.is_some() {
            return None;
        }
        match (state.answering, state.chunked) {
            (false, _) => Some(FIRST_OCTET),
            // A chunk's size may have leading zeros (RFC 9112, section 7.1), and a chunk's size is what comes next.
            (true, true) => Some(b"0"),
            (true, false) => None,
        }
    }

    /// Notes that the [`probe`](Self::probe) was sent.
    pub fn probed(&self) {
        let mut state = self.state.lock();
        state.probed = true;
        // The zero needs not be left out of what follows, the beginning of the answer does.
        if !state.answering {
            state.sent_ahead = FIRST_OCTET.len();
        }
    }

    /// Whether an operator ended a request whose reader takes nothing: nobody looks at the body then, which would hear
    /// of it.
    pub fn is_interrupted(&self, cx: &Context<'_>) -> bool {
        let current = self.current.lock();
        let stalled = current.as_ref().filter(|exchange| exchange.reader_deadline().is_some());
        stalled.is_some_and(|exchange| exchange.poll_interrupted(cx).is_ready())
    }

    /// What the connection waits for, and since when.
    pub fn waits(&self) -> Waits {
        let state = self.state.lock();
        if let (Some(since), Some(_)) = (state.blocked_since, state.idle_since) {
            return Waits::Reader(since);
        }
        if let (Some(since), None, false) = (state.ended_since, state.idle_since, state.upgraded)
            && state.answering
            && !state.chunked
        {
            return Waits::Ended(since);
        }
        match (state.idle_since, state.head_since) {
            (Some(_), Some(since)) => Waits::Head(since),
            (Some(since), None) => Waits::Request(since),
            (None, _) => {
                let current = self.current.lock();
                let deadline = current.as_ref().and_then(|exchange| exchange.reader_deadline());
                deadline.map_or(Waits::Nothing, Waits::Taker)
            }
        }
    }
}

/// Whom a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// The rest of a request head.
    Head(Instant),
    /// The next request.
    Request(Instant),
    /// The client, to take the next piece of its answer by then.
    Taker(Instant),
    /// The client, to take the last octets of an answer.
    Reader(Instant),
    /// A client that sends no more, and that cannot be asked whether it listens.
    Ended(Instant),
    /// Nobody who has a deadline here.
    Nothing,
}

impl Drop for InExchange {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.idle_since = Some(time::now());
        state.answering = false;
        *self.0.current.lock() = None;
    }
}
