//! From standing in line to the permit.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;

use super::line::Standing;
use super::nesting::Nest;
use super::tokens::Tokens;
use crate::admission::{Admission, Permit, QueueScope, Quota, RateKey, Rejection, RollEntry, RouteGates};
use crate::limit::gate::Place;
use crate::limit::held_bytes::HeldBody;
use crate::limit::lanes::{LaneRefused, PutOut};
use crate::limit::places::{FairKey, QueueFull, Wish};
use crate::limit::rate::NotTaken;
use crate::policy::{Limits, Priority, WhenBusy, WhenExceeded};
use crate::request::Tenant;
use crate::request::exchange::{EndedBy, Exchange, Phase};
use crate::request::session_key::SessionKey;
use crate::request::story::Stay;
use crate::telemetry::metrics::QueueMetrics;
use crate::time;

/// Who asks to be let in.
#[derive(Debug)]
pub struct Visitor<'a> {
    /// `None`: it waits for no other request, and counts by its client's address.
    pub session: Option<&'a SessionKey>,
    pub client: IpAddr,
    pub fair: FairKey,
    pub headers: &'a HeaderMap,
    /// The body, if it was read for the session key.
    pub held: Option<HeldBody>,
    /// What it does if its session is busy.
    pub when_busy: WhenBusy,
    /// The turn whose token it brings.
    pub nested_in: Option<Arc<Nest>>,
    /// Whose it is; only looked at where others may be nested in it.
    pub tenant: Tenant,
}

/// A request that stands in its session's line.
#[derive(Debug)]
pub struct Arrival {
    gates: Arc<RouteGates>,
    exchange: Arc<Exchange>,
    tokens: Tokens,
    standing: Standing,
    /// The buckets of the rate limits that wait, by their place among the route's limits.
    waits: Vec<(usize, RateKey)>,
    fair: FairKey,
    queue_timeout: Duration,
    held: Option<HeldBody>,
}

/// What a request has to wait for first.
#[derive(Debug)]
enum Waits {
    Turn,
    Rate,
    Place(Place),
}

/// The place of a request that was let in; exempt routes take none.
type Passed = Result<Option<Place>, Rejection>;

/// An arrival that waits for the first of what it needs.
#[derive(Debug)]
pub struct Waiting {
    arrival: Arrival,
    waits: Waits,
}

impl Waiting {
    /// The tightest rate limit that it has passed.
    #[must_use]
    pub fn quota(&self) -> Option<&Quota> {
        self.arrival.tokens.tightest()
    }

    /// Waits for the turn, for the rate limits that wait, and for a place. The permit takes over the line on the roll.
    ///
    /// Cancel safe in the one way that counts: dropped at any point, it leaves every line that it stands in. Its tokens
    /// stay spent.
    ///
    /// # Errors
    /// A [`Rejection`]; every token has been given back.
    pub async fn admitted(
        self: Box<Self>,
        admission: &Admission,
        on_the_roll: &mut Option<RollEntry>,
    ) -> Result<Permit, Rejection> {
        let Self { mut arrival, waits } = *self;
        let exchange = arrival.exchange.clone();
        let passed = tokio::select! {
            biased;
            passed = arrival.pass(admission, waits) => passed,
            by = exchange.ended() => Err(Rejection::Interrupted(by)),
        };
        arrival.decided(passed, on_the_roll)
    }
}

/// A request that has passed the rate limits that reject.
#[derive(Debug)]
pub struct Rated {
    tokens: Tokens,
    /// The buckets of the rate limits that wait, by their place among the route's limits.
    waits: Vec<(usize, RateKey)>,
}

impl Rated {
    /// Gives every token back: the request is refused.
    pub fn give_back(mut self, gates: &RouteGates) {
        self.tokens.give_back(gates);
    }

    /// The tightest rate limit that it has passed.
    #[must_use]
    pub fn quota(&self) -> Option<&Quota> {
        self.tokens.tightest()
    }
}

impl Admission {
    /// Checks the rate limits that reject, and stands in the session's line. Synchronous: the order of the calls is the
    /// order of arrival.
    ///
    /// # Errors
    /// A [`Rejection`]; every token that was taken on the way has been given back.
    pub fn arrive(
        &self,
        gates: &Arc<RouteGates>,
        visitor: Visitor<'_>,
        exchange: &Arc<Exchange>,
        limits: &Limits,
    ) -> Result<Arrival, Rejection> {
        let rated = self.rate(gates, &visitor)?;
        self.stand(rated, gates, visitor, exchange, limits)
    }

    /// Checks the rate limits that reject.
    ///
    /// # Errors
    /// As [`arrive`](Self::arrive).
    pub fn rate(&self, gates: &RouteGates, visitor: &Visitor<'_>) -> Result<Rated, Rejection> {
        let mut tokens = Tokens::default();
        let mut waits = Vec::new();
        for (place, limiter) in gates.rates.iter().enumerate() {
            let key = || RateKey::of(&limiter.policy.per, visitor.session, visitor.client, visitor.headers);
            match limiter.policy.when_exceeded {
                WhenExceeded::Wait { .. } => waits.push((place, key())),
                WhenExceeded::Reject => {
                    let taken = tokens.take(gates, place, &limiter.state, key()).or_else(|not_taken| match not_taken {
                        NotTaken::Wait(_) => Err(not_taken),
                        NotTaken::Keys => {
                            self.make_room();
                            tokens.take(gates, place, &limiter.state, key())
                        }
                    });
                    if let Err(not_taken) = taken {
                        tokens.give_back(gates);
                        return Err(limiter.state.rejection(not_taken));
                    }
                }
            }
        }
        Ok(Rated { tokens, waits })
    }

    /// Stands in the session's line.
    ///
    /// # Errors
    /// As [`arrive`](Self::arrive).
    pub fn stand(
        &self,
        rated: Rated,
        gates: &Arc<RouteGates>,
        mut visitor: Visitor<'_>,
        exchange: &Arc<Exchange>,
        limits: &Limits,
    ) -> Result<Arrival, Rejection> {
        let Rated { mut tokens, waits } = rated;
        let standing = self.stand_in_line(gates, &mut visitor, exchange).inspect_err(|_| tokens.give_back(gates))?;
        Ok(Arrival {
            gates: gates.clone(),
            exchange: exchange.clone(),
            tokens,
            standing,
            waits,
            fair: visitor.fair,
            queue_timeout: limits.queue_timeout,
            held: visitor.held,
        })
    }
}

impl Arrival {
    /// Whether it is let in, where there is nothing to wait for. The permit takes over the line on the roll.
    ///
    /// # Errors
    /// The one who waits, with all that it stands in.
    pub fn at_once(
        mut self,
        admission: &Admission,
        on_the_roll: &mut Option<RollEntry>,
    ) -> Result<Result<Permit, Rejection>, Box<Waiting>> {
        match self.pass_at_once(admission) {
            Ok(passed) => Ok(self.decided(passed, on_the_roll)),
            Err(waits) => Err(Box::new(Waiting { arrival: self, waits })),
        }
    }

    fn decided(mut self, passed: Passed, on_the_roll: &mut Option<RollEntry>) -> Result<Permit, Rejection> {
        match passed {
            Ok(place) => {
                Ok(Permit::new(self.gates, self.exchange, self.tokens, self.standing, place, on_the_roll.take()))
            }
            Err(rejection) => {
                self.tokens.give_back(&self.gates);
                Err(rejection)
            }
        }
    }

    /// As far as it comes without waiting.
    fn pass_at_once(&mut self, admission: &Admission) -> Result<Passed, Waits> {
        match &self.standing.turn {
            Some(turn) if !turn.is_granted() => return Err(Waits::Turn),
            Some(_) => self.gates.metrics.turn.wait.observe(0.0),
            None => {}
        }
        if !self.waits.is_empty() {
            return Err(Waits::Rate);
        }
        self.place_at_once(admission).map_err(Waits::Place)
    }

    /// A place, if there is one or none is needed; otherwise one in the line.
    fn place_at_once(&mut self, admission: &Admission) -> Result<Passed, Place> {
        let passed = if self.gates.policy.exempt || self.standing.is_nested() {
            Ok(None)
        } else {
            let arrived = match self.ask_for_place(admission) {
                Ok(place) if !place.is_granted() => return Err(place),
                arrived => arrived,
            };
            self.gates.metrics.place.wait.observe(0.0);
            arrived.map(Some)
        };
        self.held = None;
        Ok(passed)
    }

    fn ask_for_place(&self, admission: &Admission) -> Result<Place, Rejection> {
        let class = match self.gates.policy.priority {
            Priority::High => 0,
            Priority::Normal => 1,
            Priority::Low => 2,
        };
        let wish = Wish { route: self.gates.scope, upstream: self.gates.upstream, class, key: self.fair };
        admission.gate.arrive(wish).map_err(|full| Rejection::QueueFull {
            scope: match full {
                QueueFull::Limit => QueueScope::Requests,
                QueueFull::Share => QueueScope::RequestsShare,
            },
            // There is room as soon as one of them has a place.
            retry_after: admission.pace.gate_time(1),
        })
    }

    async fn pass(&mut self, admission: &Admission, waits: Waits) -> Passed {
        let place = match waits {
            Waits::Place(place) => place,
            first @ (Waits::Turn | Waits::Rate) => {
                if matches!(first, Waits::Turn) {
                    self.wait_for_turn(admission).await?;
                }
                for (place, key) in std::mem::take(&mut self.waits) {
                    self.wait_for_rate(admission, place, key).await?;
                }
                match self.place_at_once(admission) {
                    Ok(passed) => return passed,
                    Err(place) => place,
                }
            }
        };
        let place = self.wait_for_place(admission, place).await?;
        self.held = None;
        Ok(Some(place))
    }

    async fn wait_for_turn(&mut self, admission: &Admission) -> Result<(), Rejection> {
        let (Some(turn), Some(session)) = (&mut self.standing.turn, &self.gates.policy.session) else {
            return Ok(());
        };
        let queueing = Queueing::new(&self.gates.metrics.turn, &self.exchange).waits(Phase::Turn);
        match within(session.queue_timeout, queueing.since, turn.granted()).await {
            Some(Ok(())) => {
                self.standing.waits_nested = None;
                Ok(())
            }
            Some(Err(PutOut)) => Err(Rejection::Interrupted(EndedBy::Replace)),
            None => Err(Rejection::SessionQueueTimeout {
                waited: session.queue_timeout,
                retry_after: admission.pace.turn_time(1),
            }),
        }
    }

    /// Under whatever the policy in force says of the limit; the deadline is that of the arrival.
    async fn wait_for_rate(&mut self, admission: &Admission, place: usize, key: RateKey) -> Result<(), Rejection> {
        let gates = &self.gates;
        let limiter = &gates.rates[place];
        let (WhenExceeded::Wait { queue, queue_timeout }, Some(state)) = (limiter.policy.when_exceeded, limiter.now())
        else {
            return Ok(());
        };
        let queueing = Queueing::new(&gates.metrics.rate, &self.exchange);
        // First come, first served before each bucket: the head of a line of its own sleeps until its token is there.
        // That head waits as well, so one less may stand behind it.
        let behind = queue.saturating_sub(1) as usize;
        let mut line = match admission.rate_lines.arrive((limiter.in_force.id, key.clone()), 1, behind, ()) {
            Ok(line) => line,
            Err(LaneRefused::Full | LaneRefused::Busy) => {
                // There is room as soon as the first of them has its token.
                return Err(limiter.rejection(NotTaken::Wait(state.table.until_full(&key).min(state.table.interval()))));
            }
            Err(LaneRefused::Keys) => return Err(limiter.rejection(NotTaken::Keys)),
        };
        let tokens = &mut self.tokens;
        if line.is_granted() && tokens.take(gates, place, &state, key.clone()).is_ok() {
            return Ok(());
        }
        let queueing = queueing.waits(Phase::Rate);
        let mut there_at = time::after(time::now(), state.table.interval());
        let taken = within(queue_timeout, queueing.since, async {
            // Nobody is put out of such a line.
            let _ = line.granted().await;
            limiter.token(tokens, gates, place, &key, &mut there_at).await
        });
        match taken.await {
            Some(taken) => taken.map_err(|not_taken| limiter.rejection(not_taken)),
            None => Err(limiter.rejection(NotTaken::Wait(there_at.saturating_duration_since(time::now())))),
        }
    }

    async fn wait_for_place(&mut self, admission: &Admission, mut place: Place) -> Result<Place, Rejection> {
        let queueing = Queueing::new(&self.gates.metrics.place, &self.exchange).waits(Phase::Place);
        match within(self.queue_timeout, queueing.since, place.granted()).await {
            Some(()) => Ok(place),
            None => Err(Rejection::QueueTimeout {
                waited: self.queue_timeout,
                retry_after: admission.pace.gate_time(admission.gate.waiting()),
            }),
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
        if let Some(story) = self.exchange.story() {
            story.stayed(Stay { queue: self.metrics.queue, since: self.since, took: waited });
        }
    }
}
