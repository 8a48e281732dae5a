//! From standing in line to the permit.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;

use super::tokens::Tokens;
use crate::admission::{
    Admission, LaneKey, Permit, QueueScope, RateKey, RateLimiter, Rejection, RollEntry, RouteGates, SessionTurn,
};
use crate::limit::gate::Place;
use crate::limit::held_bytes::HeldBody;
use crate::limit::lanes::LaneRefused;
use crate::limit::places::{FairKey, QueueFull, Wish};
use crate::limit::rate::NotTaken;
use crate::policy::{Limits, Priority, WhenExceeded};
use crate::request::exchange::{Exchange, Phase};
use crate::request::session_key::SessionKey;
use crate::telemetry::metrics::QueueMetrics;
use crate::time;

/// Who asks to be let in.
#[derive(Debug)]
pub struct Visitor<'a> {
    /// `None`: it waits for no other request, and counts by its client's address.
    pub session: Option<SessionKey>,
    pub client: IpAddr,
    pub fair: FairKey,
    pub headers: &'a HeaderMap,
    /// Its line on the roll, which its permit keeps for as long as work goes on.
    pub on_the_roll: Arc<RollEntry>,
    /// The body, if it was read for the session key.
    pub held: Option<HeldBody>,
}

/// A request that stands in its session's line.
#[derive(Debug)]
pub struct Arrival {
    admission: Arc<Admission>,
    gates: Arc<RouteGates>,
    exchange: Arc<Exchange>,
    tokens: Tokens,
    turn: Option<SessionTurn>,
    /// The buckets of the rate limits that wait, by their place among the route's limits.
    waits: Vec<(usize, RateKey)>,
    fair: FairKey,
    queue_timeout: Duration,
    held: Option<HeldBody>,
    on_the_roll: Arc<RollEntry>,
}

impl Admission {
    /// Checks the rate limits that reject, and stands in the session's line. Synchronous: the order of the calls is the
    /// order of arrival.
    ///
    /// # Errors
    /// A [`Rejection`]; every token that was taken on the way has been given back.
    pub fn arrive(
        self: &Arc<Self>,
        gates: &Arc<RouteGates>,
        visitor: Visitor<'_>,
        exchange: &Arc<Exchange>,
        limits: &Limits,
    ) -> Result<Arrival, Rejection> {
        let mut tokens = Tokens::default();
        let mut waits = Vec::new();
        for (place, limiter) in gates.rates.iter().enumerate() {
            let key = RateKey::of(&limiter.policy.per, visitor.session.as_ref(), visitor.client, visitor.headers);
            match limiter.policy.when_exceeded {
                WhenExceeded::Wait { .. } => waits.push((place, key)),
                WhenExceeded::Reject => {
                    let taken = tokens.take(&limiter.state, &key).or_else(|not_taken| match not_taken {
                        NotTaken::Wait(_) => Err(not_taken),
                        NotTaken::Keys => {
                            self.make_room();
                            tokens.take(&limiter.state, &key)
                        }
                    });
                    if let Err(not_taken) = taken {
                        tokens.give_back();
                        return Err(limiter.rejection(not_taken));
                    }
                }
            }
        }
        let turn = match self.stand_in_line(gates, visitor.session, exchange) {
            Ok(turn) => turn,
            Err(rejection) => {
                tokens.give_back();
                return Err(rejection);
            }
        };
        Ok(Arrival {
            admission: self.clone(),
            gates: gates.clone(),
            exchange: exchange.clone(),
            tokens,
            turn,
            waits,
            fair: visitor.fair,
            queue_timeout: limits.queue_timeout,
            held: visitor.held,
            on_the_roll: visitor.on_the_roll,
        })
    }

    fn stand_in_line(
        &self,
        gates: &RouteGates,
        key: Option<SessionKey>,
        exchange: &Arc<Exchange>,
    ) -> Result<Option<SessionTurn>, Rejection> {
        let (Some(session), Some(key), false) = (&gates.policy.session, key, gates.policy.exempt) else {
            return Ok(None);
        };
        let width = session.concurrency.get() as usize;
        let key = LaneKey { lane: session.lane.clone(), session: key };
        let depth = session.queue as usize;
        let arrived = self.sessions.arrive(key.clone(), width, depth, exchange.clone()).or_else(|refused| {
            if refused == LaneRefused::Full {
                return Err(refused);
            }
            self.make_room();
            self.sessions.arrive(key, width, depth, exchange.clone())
        });
        match arrived {
            Ok(turn) => {
                if !turn.is_granted() {
                    exchange.enter(Phase::Turn);
                }
                Ok(Some(turn))
            }
            Err(LaneRefused::Full) => {
                gates.metrics.turn.wait.observe(0.0);
                let retry_after = self.pace.turn_time(1);
                Err(Rejection::SessionQueueFull { waiting: session.queue, retry_after })
            }
            Err(LaneRefused::Keys) => Err(Rejection::KeyTableFull { retry_after: self.pace.gate_time(1) }),
        }
    }
}

impl Arrival {
    /// Waits for the turn, for the rate limits that wait, and for a place.
    ///
    /// Cancel safe in the one way that counts: dropped at any point, it leaves every line that it stands in. Its tokens
    /// stay spent then, since the client left.
    ///
    /// # Errors
    /// A [`Rejection`]; every token has been given back.
    pub async fn admitted(mut self) -> Result<Permit, Rejection> {
        let exchange = self.exchange.clone();
        let passed = tokio::select! {
            biased;
            passed = self.pass() => passed,
            () = exchange.interrupted() => Err(Rejection::Interrupted),
        };
        match passed {
            Ok(place) => Ok(Permit::new(
                self.admission,
                self.gates,
                self.exchange,
                self.tokens,
                self.turn,
                place,
                self.on_the_roll,
            )),
            Err(rejection) => {
                self.tokens.give_back();
                Err(rejection)
            }
        }
    }

    async fn pass(&mut self) -> Result<Option<Place>, Rejection> {
        self.wait_for_turn().await?;
        for (place, key) in std::mem::take(&mut self.waits) {
            self.wait_for_rate(place, key).await?;
        }
        let place = if self.gates.policy.exempt { None } else { Some(self.wait_for_place().await?) };
        self.held = None;
        Ok(place)
    }

    async fn wait_for_turn(&mut self) -> Result<(), Rejection> {
        let (Some(turn), Some(session)) = (&mut self.turn, &self.gates.policy.session) else {
            return Ok(());
        };
        let queueing = Queueing::new(&self.gates.metrics.turn, &self.exchange);
        if turn.is_granted() {
            return Ok(());
        }
        let queueing = queueing.waits(Phase::Turn);
        if within(session.queue_timeout, queueing.since, turn.granted()).await.is_some() {
            return Ok(());
        }
        Err(Rejection::SessionQueueTimeout {
            waited: session.queue_timeout,
            retry_after: self.admission.pace.turn_time(1),
        })
    }

    async fn wait_for_rate(&mut self, place: usize, key: RateKey) -> Result<(), Rejection> {
        let limiter = &self.gates.rates[place];
        let WhenExceeded::Wait { queue, queue_timeout } = limiter.policy.when_exceeded else {
            return Ok(());
        };
        let queueing = Queueing::new(&self.gates.metrics.rate, &self.exchange);
        let state = &limiter.state;
        // First come, first served before each bucket: the head of a line of its own sleeps until its token is there.
        // That head waits as well, so one less may stand behind it.
        let behind = queue.saturating_sub(1) as usize;
        let mut line = match self.admission.rate_lines.arrive((state.id, key.clone()), 1, behind, ()) {
            Ok(line) => line,
            Err(LaneRefused::Full) => return Err(limiter.rejection(NotTaken::Wait(state.table.until_full(&key)))),
            Err(LaneRefused::Keys) => return Err(limiter.rejection(NotTaken::Keys)),
        };
        let tokens = &mut self.tokens;
        if line.is_granted() && tokens.take(state, &key).is_ok() {
            return Ok(());
        }
        let queueing = queueing.waits(Phase::Rate);
        let mut there_at = time::after(time::now(), state.table.interval());
        let taken = within(queue_timeout, queueing.since, async {
            line.granted().await;
            loop {
                match tokens.take(state, &key) {
                    Ok(()) => return Ok(()),
                    Err(NotTaken::Keys) => return Err(NotTaken::Keys),
                    Err(NotTaken::Wait(wait)) => {
                        there_at = time::after(time::now(), wait);
                        tokio::time::sleep(wait).await;
                    }
                }
            }
        });
        match taken.await {
            Some(taken) => taken.map_err(|not_taken| limiter.rejection(not_taken)),
            None => Err(limiter.rejection(NotTaken::Wait(there_at.saturating_duration_since(time::now())))),
        }
    }

    async fn wait_for_place(&mut self) -> Result<Place, Rejection> {
        let queueing = Queueing::new(&self.gates.metrics.place, &self.exchange);
        let class = match self.gates.policy.priority {
            Priority::High => 0,
            Priority::Normal => 1,
            Priority::Low => 2,
        };
        let wish = Wish { route: self.gates.scope, upstream: self.gates.upstream, class, key: self.fair };
        let pace = &self.admission.pace;
        let gate = &self.admission.gate;
        let mut place = gate.arrive(wish).map_err(|full| Rejection::QueueFull {
            scope: match full {
                QueueFull::Limit => QueueScope::Requests,
                QueueFull::Share => QueueScope::RequestsShare,
            },
            retry_after: pace.gate_time(gate.waiting() + 1),
        })?;
        if place.is_granted() {
            return Ok(place);
        }
        let queueing = queueing.waits(Phase::Place);
        match within(self.queue_timeout, queueing.since, place.granted()).await {
            Some(()) => Ok(place),
            None => {
                Err(Rejection::QueueTimeout { waited: self.queue_timeout, retry_after: pace.gate_time(gate.waiting()) })
            }
        }
    }
}

impl RateLimiter {
    fn rejection(&self, not_taken: NotTaken) -> Rejection {
        match not_taken {
            NotTaken::Wait(retry_after) => {
                Rejection::RateLimited { quota: self.state.quota_with(0, retry_after), retry_after }
            }
            // Room comes at the latest when one of the buckets is full again.
            NotTaken::Keys => Rejection::KeyTableFull { retry_after: self.state.table.interval() },
        }
    }
}

/// `future`, if it ends within `wait` of `since`.
async fn within<T>(wait: Duration, since: Instant, future: impl Future<Output = T>) -> Option<T> {
    let deadline = tokio::time::Instant::from_std(time::after(since, wait));
    tokio::time::timeout_at(deadline, future).await.ok()
}

/// The time in one queue; its end is told to the metrics however it comes.
struct Queueing<'a> {
    metrics: &'a QueueMetrics,
    exchange: &'a Exchange,
    since: Instant,
    waits: bool,
}

impl<'a> Queueing<'a> {
    fn new(metrics: &'a QueueMetrics, exchange: &'a Exchange) -> Self {
        Self { metrics, exchange, since: time::now(), waits: false }
    }

    /// It really has to wait.
    fn waits(mut self, phase: Phase) -> Self {
        self.exchange.enter(phase);
        self.metrics.waiting.inc();
        self.waits = true;
        self
    }
}

impl Drop for Queueing<'_> {
    fn drop(&mut self) {
        if !self.waits {
            self.metrics.wait.observe(0.0);
            return;
        }
        let waited = time::now().saturating_duration_since(self.since);
        self.metrics.waiting.dec();
        self.metrics.wait.observe(waited.as_secs_f64());
        self.exchange.add_queued(waited);
    }
}
