//! What polls hyper, and keeps the deadlines that hyper does not know of.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::server::conn::http1::{Builder, UpgradeableConnection};
use hyper_util::rt::TokioIo;

use super::requests::Requests;
use super::{Line, Stage, rest};
use crate::request::exchange::Exchange;
use crate::response::refusal::Refusal;
use crate::server::departure::{Departure, Presence, Said};
use crate::server::state::Waits;
use crate::server::wire::Wire;
use crate::server::{Downstream, GOODBYE};
use crate::time;

/// hyper's least buffer that makes sense. Heads are bounded by the inspector.
const MIN_BUFFER: usize = 16 * 1024;

/// How long a client that sends no more is taken to listen still, where it cannot be found out.
const LISTENS_STILL: Duration = Duration::from_secs(5);

/// How the driver ends.
pub(super) enum End {
    /// There is nothing more to do: what is left is to close the connection, if hyper has not.
    Closed,
    /// The connection is to end with this answer.
    Refused(Refusal),
    /// Nothing has happened for a while: hyper is of no use until something does.
    Rests,
}

/// hyper's connection with what looks after it.
pub(super) struct Driver<S: Downstream> {
    http: Option<UpgradeableConnection<TokioIo<Wire<S>>, Requests>>,
    /// What the client has said since hyper read it last.
    said: Said,
    departure: Option<Departure>,
    told_to_end: bool,
    /// The exchange that is on the connection, and the [turn](crate::server::state::Connection::turns) that it is of.
    exchange: Option<Arc<Exchange>>,
    turn: usize,
    /// Whom interim responses of the exchange wake.
    interim_wakes: Option<Waker>,
    /// Since when the gateway closes what is left, if a head was half there then.
    closing_since: Option<Instant>,
    /// A connection rests once after each exchange, lest it waken for an empty line and rest again for ever.
    may_rest: bool,
}

impl<S: Downstream> Driver<S> {
    pub(super) fn new(line: &Line, wire: Wire<S>) -> Self {
        let http = Builder::new()
            .max_buf_size((line.limits.max_header_bytes * 2).max(MIN_BUFFER))
            // Whoever can be watched is not read while its request is answered.
            .half_close(line.connection.watchable.is_some())
            // hyper's deadline would also end connections that rest between two requests.
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(wire), Requests::new(line))
            .with_upgrades();
        Self {
            http: Some(http),
            said: Said::Nothing,
            departure: None,
            told_to_end: false,
            exchange: None,
            turn: line.connection.turns(),
            interim_wakes: None,
            closing_since: None,
            may_rest: false,
        }
    }

    /// The wire without hyper, and what hyper has read and not understood; none if it was upgraded, or is closed.
    pub(super) fn into_wire(self) -> Option<(Wire<S>, Bytes)> {
        let parts = self.http.and_then(UpgradeableConnection::into_parts)?;
        Some((parts.io.into_inner(), parts.read_buf))
    }

    pub(super) fn poll(&mut self, line: &mut Line, cx: &mut Context<'_>) -> Poll<End> {
        let _step = time::hold();
        // Before hyper is, so that an answer which comes in the moment in which its client leaves finds it gone.
        self.listen(line, cx);
        // Twice at the most: once as it was woken, and once more where that left it something to be told.
        for _ in 0..2 {
            line.connection.set_reading(false);
            let Some(http) = &mut self.http else {
                return Poll::Ready(End::Closed);
            };
            if Pin::new(http).poll(cx).is_ready() {
                self.http = None;
                return Poll::Ready(End::Closed);
            }
            if line.connection.is_head_too_large() && !line.connection.is_in_exchange() {
                let limit = line.limits.max_header_bytes;
                return Poll::Ready(End::Refused(Refusal::HeadTooLarge { limit }));
            }
            if !line.connection.owes_end() && !self.begin_to_end(line, cx) {
                break;
            }
        }
        self.look_after_interim(line, cx);
        if self.said == Said::Octets {
            // hyper may have read them.
            self.listen(line, cx);
        }
        if self.is_left_over(line, cx) {
            return Poll::Ready(End::Closed);
        }
        let exchange = self.exchange.as_deref();
        if line.connection.is_broken() || line.connection.is_interrupted(exchange, cx) || self.client_has_gone(line, cx)
        {
            return Poll::Ready(End::Closed);
        }
        self.poll_deadline(line, cx)
    }

    /// Once the gateway drains, or where it is not known any more where requests begin, asks hyper to end the connection after the request that is on it.
    fn begin_to_end(&mut self, line: &mut Line, cx: &mut Context<'_>) -> bool {
        if self.told_to_end {
            return false;
        }
        let stage = line.stage.poll(cx);
        let lost = line.connection.is_lost();
        if !lost && (stage == Stage::Serving || (stage == Stage::Ending && !line.connection.is_in_exchange())) {
            return false;
        }
        self.told_to_end = true;
        if let Some(http) = &mut self.http {
            Pin::new(http).graceful_shutdown();
        }
        true
    }

    /// Whether nothing is on it while the gateway closes what is left. hyper does not end a connection on which an empty
    /// line has come, taking it for the beginning of a request.
    fn is_left_over(&mut self, line: &mut Line, cx: &mut Context<'_>) -> bool {
        self.told_to_end && line.connection.has_nothing_on_it() && line.stage.poll(cx) >= Stage::Closing
    }

    /// Finds out which exchange is on the connection now, and passes its interim responses on.
    fn look_after_interim(&mut self, line: &Line, cx: &Context<'_>) {
        let turn = line.connection.turns();
        if turn != self.turn {
            self.turn = turn;
            self.said = Said::Octets;
            self.exchange = line.connection.current.lock().clone();
            self.interim_wakes = None;
            self.may_rest = true;
        }
        let Some(exchange) = &self.exchange else { return };
        if !self.interim_wakes.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            exchange.watch_interim(cx);
            self.interim_wakes = Some(cx.waker().clone());
        }
        // Leaving one has used the registration up.
        while line.connection.pass_on_interim(exchange) {
            exchange.watch_interim(cx);
        }
    }

    /// Listens for what a client says while hyper does not read.
    fn listen(&mut self, line: &Line, cx: &mut Context<'_>) {
        self.said = Said::Nothing;
        if let Some(watchable) = &line.connection.watchable
            && line.connection.is_to_be_watched()
            && !line.connection.has_ended()
        {
            self.said = watchable.poll_said(cx);
            if self.said == Said::End {
                line.connection.end_is_seen();
            }
        }
    }

    /// Looks after a client whose departure hyper would not see, because it does not read now or must not be told.
    fn client_has_gone(&mut self, line: &Line, cx: &mut Context<'_>) -> bool {
        if !line.connection.is_to_be_watched() {
            self.departure = None;
            return false;
        }
        let Some(watchable) = &line.connection.watchable else {
            // The end of what it sends is all that such a connection tells.
            return line.connection.has_ended();
        };
        if !line.connection.has_ended() {
            match self.said {
                Said::Reset => return true,
                // Under TLS octets may be its good-bye.
                Said::Octets if watchable.is_sealed() || line.connection.hides_departure(self.exchange.as_deref()) => {}
                Said::Octets | Said::Nothing | Said::End => {
                    self.departure = None;
                    return false;
                }
            }
        }
        if self.departure.is_none() {
            self.departure = watchable.watch().ok();
        }
        let Some(departure) = &mut self.departure else {
            return false;
        };
        loop {
            match departure.poll_presence(cx) {
                Presence::Gone => return true,
                Presence::Here => return false,
                Presence::Shut => match line.connection.probe() {
                    Some(probe) if departure.send(probe) => line.connection.probed(),
                    _ => return false,
                },
            }
        }
    }

    fn poll_deadline(&mut self, line: &mut Line, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let now = time::now();
            let waits = line.connection.waits(self.exchange.as_deref());
            let deadline = match waits {
                Waits::Head(_) => deadline(waits, line, now).min(self.head_is_due(line, cx, now)),
                waits => deadline(waits, line, now),
            };
            if deadline <= now {
                return Poll::Ready(match waits {
                    Waits::Head(_) if self.closing_since.is_some() => End::Refused(Refusal::Draining),
                    Waits::Head(_) => End::Refused(Refusal::HeadTimeout),
                    _ => End::Closed,
                });
            }
            // Read after hyper was polled, and with it the service and its body, which set the alarm.
            let alarm = self.exchange.as_deref().and_then(|exchange| {
                if exchange.rings() {
                    // It was set for an instant that has come already, or nobody was there who could be polled.
                    cx.waker().wake_by_ref();
                }
                exchange.alarm()
            });
            let rest = self.rests_at(line, waits);
            if rest.is_some_and(|rest| rest <= now) {
                return Poll::Ready(End::Rests);
            }
            let next = [alarm, rest].into_iter().flatten().fold(deadline, Instant::min);
            if line.timer.poll_until(next, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// By when half a head must be whole once the gateway closes what is left.
    fn head_is_due(&mut self, line: &mut Line, cx: &mut Context<'_>, now: Instant) -> Instant {
        if line.stage.poll(cx) >= Stage::Closing {
            let since = *self.closing_since.get_or_insert(now);
            return time::after(since, GOODBYE);
        }
        time::after(now, line.limits.header_timeout)
    }

    fn rests_at(&self, line: &Line, waits: Waits) -> Option<Instant> {
        match waits {
            Waits::Request(since) if self.may_rest && !self.told_to_end && line.connection.is_at_rest() => {
                Some(time::after(since, rest::AFTER))
            }
            _ => None,
        }
    }
}

/// By when a connection must have gone on.
fn deadline(waits: Waits, line: &Line, now: Instant) -> Instant {
    match waits {
        Waits::Head(since) => time::after(since, line.limits.header_timeout),
        Waits::Request(since) | Waits::Reader(since) => time::after(since, line.limits.keep_alive_timeout),
        Waits::Taker(deadline) => deadline,
        Waits::Ended(since) => time::after(since, LISTENS_STILL),
        Waits::Nothing => time::after(now, line.limits.keep_alive_timeout),
    }
}
