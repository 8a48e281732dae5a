//! What the parts of one HTTP/1 connection know of each other: the wire that moves octets, the service that answers
//! requests, and the driver that keeps the deadlines. All of them run in one task: see [`cells`].

mod cells;
mod verdicts;

use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use crate::request::exchange::Exchange;
use crate::server::departure::{FIRST_OCTET, Watchable};
use crate::sync::Mutex;
use crate::time;
use cells::{Count, Flag, Moment};
use verdicts::Verdicts;

/// The shared state of one connection.
#[derive(Debug)]
pub struct Connection {
    begin: Instant,
    /// The exchange that was called last. The driver looks only when [`turns`](Self::turns) says that it is another.
    pub current: Arc<Mutex<Option<Arc<Exchange>>>>,
    /// How often an exchange has begun or ended.
    turns: Count,
    pub watchable: Option<Watchable>,
    verdicts: Verdicts,
    head_too_large: Flag,
    /// Since when a head is being read.
    head_since: Moment,
    /// Since when there is no request; none while there is one.
    idle_since: Moment,
    /// Whether the answer's head was handed to hyper.
    answering: Flag,
    /// The client will send no more.
    ended: Flag,
    /// Since when that is known, or since when it was written to last.
    ended_since: Moment,
    /// The answer goes out in chunks.
    chunked: Flag,
    /// An octet was sent to find out whether the client still listens.
    probed: Flag,
    /// Since when hyper waits for the socket to take more.
    blocked_since: Moment,
    /// Everything that hyper has written was taken by the socket.
    flushed: Flag,
    /// What hyper has to write waits until others have been polled.
    gives_way: Flag,
    /// Whether hyper waits for the socket to have more; it would then notice an end by itself.
    reading: Flag,
    /// Whether all octets that were read belong to requests that are complete.
    between_requests: Flag,
    /// Octets of the next answer that were sent ahead of it.
    sent_ahead: Count,
    upgraded: Flag,
    /// It is not known where the next head begins.
    lost: Flag,
    /// What was written makes no sense any more.
    broken: Flag,
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
    pub fn new(begin: Instant, watchable: Option<Watchable>) -> Self {
        let since = || {
            let moment = Moment::default();
            moment.set(begin, begin);
            moment
        };
        Self {
            begin,
            current: Arc::default(),
            turns: Count::default(),
            watchable,
            verdicts: Verdicts::default(),
            head_too_large: Flag::default(),
            head_since: since(),
            idle_since: since(),
            answering: Flag::default(),
            ended: Flag::default(),
            ended_since: Moment::default(),
            chunked: Flag::default(),
            probed: Flag::default(),
            blocked_since: Moment::default(),
            flushed: Flag::new(true),
            gives_way: Flag::default(),
            reading: Flag::default(),
            between_requests: Flag::default(),
            sent_ahead: Count::default(),
            upgraded: Flag::default(),
            lost: Flag::default(),
            broken: Flag::default(),
        }
    }

    // The wire's side.

    pub fn head_began(&self) {
        self.head_since.set_once(self.begin);
    }

    pub fn head_ended(&self, bad: Option<&'static str>) {
        self.head_since.clear();
        self.verdicts.push(bad);
    }

    pub fn head_is_too_large(&self) {
        self.head_too_large.set(true);
    }

    pub fn lose_track(&self) {
        self.lost.set(true);
    }

    /// Whether nothing that comes after this exchange can be trusted to be a request.
    pub fn is_lost(&self) -> bool {
        self.lost.get()
    }

    pub fn set_between_requests(&self, between: bool) {
        self.between_requests.set(between);
    }

    /// Notes that the client will send no more. Whether hyper is to be told: not while a whole request is being
    /// answered, since it would take that for the client's departure; nor before all that was written has gone out.
    pub fn end_is_due(&self, between_requests: bool) -> bool {
        self.ended.set(true);
        if self.upgraded.get() {
            return true;
        }
        self.ended_since.set_once(self.begin);
        let answering = self.is_in_exchange() && between_requests;
        !answering && (self.flushed.get() || !between_requests)
    }

    pub fn has_ended(&self) -> bool {
        self.ended.get()
    }

    pub fn set_reading(&self, reading: bool) {
        self.reading.set(reading);
    }

    /// Notes what became of a write.
    pub fn wrote(&self, blocked: bool) {
        self.flushed.set(false);
        if blocked {
            self.blocked_since.set_once(self.begin);
            return;
        }
        self.blocked_since.clear();
        // Every write finds out whether the client still listens.
        if self.ended_since.is_set() {
            self.ended_since.set(self.begin, time::now());
        }
    }

    /// Whether the next write is to wait until those have been polled who were woken before it. True once.
    pub fn gives_way(&self) -> bool {
        let gives_way = self.gives_way.get();
        if gives_way {
            self.gives_way.set(false);
            self.flushed.set(false);
        }
        gives_way
    }

    pub fn flushed(&self) {
        self.flushed.set(true);
        self.blocked_since.clear();
    }

    /// How many octets of what is written now have been sent already.
    pub fn sent_ahead(&self) -> usize {
        self.sent_ahead.get()
    }

    pub fn skipped_ahead(&self) {
        self.sent_ahead.set(0);
    }

    pub fn is_upgraded(&self) -> bool {
        self.upgraded.get()
    }

    // The service's side.

    /// Begins an exchange; with it comes what is wrong with its head.
    pub fn begin(self: &Arc<Self>) -> (InExchange, Option<&'static str>) {
        self.turns.set(self.turns.get().wrapping_add(1));
        self.idle_since.clear();
        self.answering.set(false);
        self.probed.set(false);
        // A head that was not seen to end is one that was lost sight of.
        let verdict = self.verdicts.pop().unwrap_or(Some(LOST));
        (InExchange(self.clone()), verdict)
    }

    /// Has the next write wait until those have been polled who were woken before it: the next turn of a session begins at
    /// the server before the last octets of this one have gone out to its client.
    pub fn give_way(&self) {
        self.gives_way.set(true);
    }

    pub fn answering(&self, how: Answering) {
        self.answering.set(true);
        self.upgraded.set(how == Answering::Upgraded);
        self.chunked.set(how == Answering::Chunked);
    }

    /// Writes interim responses past hyper. What cannot be sent now is not sent: they are optional. If only a part could
    /// be, nothing sensible can follow, and the connection is broken.
    ///
    /// Whether there were any.
    pub fn pass_on_interim(&self, exchange: &Exchange) -> bool {
        let interim = exchange.take_interim();
        if interim.is_empty() {
            return false;
        }
        if self.may_write_past() {
            let sent = self.watchable.as_ref().map_or(0, |watchable| watchable.send(&interim));
            self.broken.set(self.broken.get() || (sent != 0 && sent != interim.len()));
        }
        true
    }

    /// Whether octets may be written past hyper: nothing of an answer is on its way.
    fn may_write_past(&self) -> bool {
        self.flushed.get() && !self.answering.get() && self.is_in_exchange() && self.sent_ahead.get() == 0
    }

    // The driver's side.

    /// How often an exchange has begun or ended: while it stays the same, so does [`current`](Self::current).
    pub fn turns(&self) -> usize {
        self.turns.get()
    }

    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }

    pub fn is_head_too_large(&self) -> bool {
        self.head_too_large.get()
    }

    /// Whether a request is on it.
    pub fn is_in_exchange(&self) -> bool {
        !self.idle_since.is_set()
    }

    /// Whether hyper must be asked to read again, to be told of an end that was kept from it.
    pub fn owes_end(&self) -> bool {
        self.ended.get() && !self.is_in_exchange() && self.flushed.get()
    }

    /// Whether the client's departure is to be looked for, since hyper would not see it.
    pub fn is_to_be_watched(&self) -> bool {
        self.is_in_exchange() && !self.upgraded.get()
    }

    /// Notes that the client will send no more, and that all it has sent was read.
    pub fn end_is_seen(&self) {
        self.end_is_due(true);
    }

    /// Whether octets that nobody reads now could hide its departure.
    pub fn hides_departure(&self, exchange: Option<&Exchange>) -> bool {
        exchange.is_some_and(|exchange| {
            let unanswered = !self.answering.get() || exchange.waits_aloud();
            unanswered && exchange.work().phase().waiting_for().is_some()
        })
    }

    /// The octet by which to find out whether a client that sends no more still listens; `None` when there is none, or
    /// it was sent.
    pub fn probe(&self) -> Option<&'static [u8]> {
        if self.probed.get() || !self.flushed.get() || !self.is_in_exchange() {
            return None;
        }
        match (self.answering.get(), self.chunked.get()) {
            (false, _) => Some(FIRST_OCTET),
            // A chunk's size may have leading zeros (RFC 9112, section 7.1), and a chunk's size is what comes next.
            (true, true) => Some(b"0"),
            (true, false) => None,
        }
    }

    /// Notes that the [`probe`](Self::probe) was sent.
    pub fn probed(&self) {
        self.probed.set(true);
        // The zero needs not be left out of what follows, the beginning of the answer does.
        if !self.answering.get() {
            self.sent_ahead.set(FIRST_OCTET.len());
        }
    }

    /// Whether an operator ended a request whose reader takes nothing: nobody looks at the body then, which would hear
    /// of it.
    pub fn is_interrupted(&self, exchange: Option<&Exchange>, cx: &Context<'_>) -> bool {
        let stalled = exchange.filter(|exchange| exchange.reader_deadline().is_some());
        stalled.is_some_and(|exchange| exchange.poll_ended_beside(cx).is_ready())
    }

    /// What the connection waits for, and since when.
    pub fn waits(&self, exchange: Option<&Exchange>) -> Waits {
        let idle_since = self.idle_since.get(self.begin);
        if let (Some(since), Some(_)) = (self.blocked_since.get(self.begin), idle_since) {
            return Waits::Reader(since);
        }
        if let (Some(since), None, false) = (self.ended_since.get(self.begin), idle_since, self.upgraded.get())
            && self.answering.get()
            && !self.chunked.get()
        {
            return Waits::Ended(since);
        }
        match (idle_since, self.head_since.get(self.begin)) {
            (Some(_), Some(since)) => Waits::Head(since),
            (Some(since), None) => Waits::Request(since),
            (None, _) => exchange.and_then(Exchange::reader_deadline).map_or(Waits::Nothing, Waits::Taker),
        }
    }

    /// Whether it has no request, not even a part of one, and nothing is left to be sent.
    pub fn has_nothing_on_it(&self) -> bool {
        !self.is_in_exchange() && self.flushed.get() && self.between_requests.get() && !self.head_since.is_set()
    }

    /// Whether there is nothing on it: no request, no octet that was read and not understood or written and not sent,
    /// and hyper waits for nothing but the next request.
    pub fn is_at_rest(&self) -> bool {
        !self.is_in_exchange()
            && self.reading.get()
            && self.between_requests.get()
            && self.flushed.get()
            && self.verdicts.is_empty()
            && self.sent_ahead.get() == 0
            && !(self.ended.get() || self.upgraded.get() || self.head_too_large.get() || self.broken.get())
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

impl InExchange {
    /// The connection that it is on.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.0
    }
}

impl Drop for InExchange {
    fn drop(&mut self) {
        let connection = &self.0;
        connection.turns.set(connection.turns.get().wrapping_add(1));
        connection.idle_since.set(connection.begin, time::now());
        connection.answering.set(false);
        *connection.current.lock() = None;
    }
}
