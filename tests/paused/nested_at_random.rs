//! Agents that call themselves and one another at random: chains, fan-outs, other sessions, clients that leave.
//!
//! The gates are driven without HTTP. Every wait may last an hour, and all work together takes minutes: whoever is
//! refused for having waited too long was deadlocked. Where places are ample and turns come one at a time, a second,
//! plainer judge says whether a refusal for a deadlock was right: it looks for a circle in who waits for whom.
//! `TURNWISE_SEED=n` replays one run.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use turnwise::admission::nesting::{Nest, Token};
use turnwise::admission::{Admission, Permit, Rejection, RouteGates, Visitor};
use turnwise::limit::places::FairKey;
use turnwise::policy::{Policy, WhenBusy, compile};
use turnwise::request::exchange::{EndedBy, Exchange, Phase};
use turnwise::request::{RequestId, SessionKey, Tenant};
use turnwise::telemetry::metrics::Metrics;

use crate::harness::dice::Dice;
use crate::harness::{later, paused};

const SEED: &str = "TURNWISE_SEED";
const SEEDS: u64 = 2000;
const THREADS: usize = 4;
const SESSIONS: [&str; 4] = ["a", "b", "c", "d"];

struct World {
    admission: Admission,
    policy: Policy,
    gates: Vec<Arc<RouteGates>>,
    dice: RefCell<Dice>,
    width: usize,
    /// Whether places never run out.
    ample: bool,
    interrupts: bool,
    judge: RefCell<Judge>,
}

/// Who stands in which line, in order of arrival, and who is nested in whom.
#[derive(Default)]
struct Judge {
    next: usize,
    parents: HashMap<usize, Option<usize>>,
    lines: HashMap<&'static str, Vec<usize>>,
    has_turn: Vec<usize>,
    running: usize,
    roots: usize,
}

impl Judge {
    fn is_in(&self, mut one: usize, outer: usize) -> bool {
        while one != outer {
            let Some(parent) = self.parents.get(&one).copied().flatten() else { return false };
            one = parent;
        }
        true
    }

    /// Whether `parent` would wait for itself if something nested in it stood at the end of the line of `session`.
    fn closes_circle(&self, parent: usize, session: &str) -> bool {
        let mut looked = Vec::new();
        let mut to_look: Vec<usize> = self.lines.get(session).cloned().unwrap_or_default();
        while let Some(one) = to_look.pop() {
            if self.is_in(parent, one) {
                return true;
            }
            if looked.contains(&one) {
                continue;
            }
            looked.push(one);
            // What is nested in it and waits, waits for all before it in its line.
            for line in self.lines.values() {
                for (place, waits) in line.iter().enumerate() {
                    if !self.has_turn.contains(waits) && self.is_in(*waits, one) {
                        to_look.extend(&line[..place]);
                    }
                }
            }
        }
        false
    }
}

/// Strikes one out of the judge's lists, however it ends.
struct Listed<'w>(&'w World, usize);

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        let mut judge = self.0.judge.borrow_mut();
        judge.lines.values_mut().for_each(|line| line.retain(|one| *one != self.1));
        judge.has_turn.retain(|one| *one != self.1);
    }
}

type Call<'w> = Pin<Box<dyn Future<Output = ()> + 'w>>;

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let ample = dice.chance(50);
        let places = if ample { 1000 } else { 1 + dice.roll(4) };
        let width = if dice.chance(70) { 1 } else { 2 };
        let upstream = if ample || dice.chance(50) { "null".into() } else { (1 + dice.roll(3)).to_string() };
        let text = format!(
            "limits: {{concurrency: {places}, queue_timeout: 1h}}\n\
             upstreams: {{one: {{servers: ['http://a:80'], concurrency: {upstream}}}, two: {{servers: ['http://b:80']}}}}\n\
             defaults: {{session: {{key: [{{header: X}}], lane: l, concurrency: {width}, queue: 1000, queue_timeout: 1h}}}}\n\
             routes: [{{name: r, match: {{path: /r}}, upstream: one, session: {{reentrant: true}}}}, \
                      {{name: p, match: {{path: /p}}, upstream: one}}, \
                      {{name: q, match: {{path: /q}}, upstream: two, session: {{reentrant: true}}}}]\n"
        );
        let policy = compile::compile("p", text.as_bytes(), &|_| None).expect("a good policy").policy;
        let admission = Admission::new(&policy, Arc::new(Metrics::new()));
        let gates = admission.reconcile(&policy);
        let interrupts = dice.chance(30);
        Self { admission, policy, gates, dice: dice.into(), width, ample, interrupts, judge: RefCell::default() }
    }

    fn roll(&self, sides: usize) -> usize {
        self.dice.borrow_mut().roll(sides)
    }

    /// One request, and all that it makes.
    fn call(self: &Rc<Self>, parent: Option<(Arc<Nest>, usize)>) -> Call<'_> {
        let world = self.clone();
        let work = async move {
            // Some do not wait for their answer.
            let patience = if world.roll(10) == 0 { world.roll(40) as f64 } else { 100_000.0 };
            let _ = tokio::time::timeout(Duration::from_secs_f64(patience), world.serve(parent)).await;
        };
        Box::pin(work)
    }

    async fn serve(self: &Rc<Self>, parent: Option<(Arc<Nest>, usize)>) {
        let session = SESSIONS[self.roll(SESSIONS.len())];
        // Only of re-entrant routes does anything come that is nested.
        let gates = &self.gates[self.roll(self.gates.len())];
        let key = SessionKey::named(session, &Tenant::default());
        let exchange =
            Exchange::new(RequestId::of(&HeaderMap::new()), "r".into(), Method::GET, Ipv4Addr::LOCALHOST.into());
        let exchange = Arc::new(exchange);
        let (outer, outer_number) = parent.unzip();
        let when_busy = if self.interrupts && self.roll(4) == 0 { WhenBusy::Interrupt } else { WhenBusy::Wait };
        let number = {
            let mut judge = self.judge.borrow_mut();
            judge.next += 1;
            let number = judge.next;
            judge.parents.insert(number, outer_number);
            number
        };
        let inside = outer.as_ref().is_some_and(|outer| {
            outer.is_inside(&turnwise::admission::LaneKey { lane: "l".into(), session: key.clone() })
        });
        let busy = self.judge.borrow().lines.get(session).is_some_and(|line| !line.is_empty());
        let circle = outer_number.is_some_and(|outer| !inside && self.judge.borrow().closes_circle(outer, session));
        let headers = HeaderMap::new();
        let visitor = Visitor {
            session: Some(&key),
            client: Ipv4Addr::LOCALHOST.into(),
            fair: FairKey(self.roll(3) as u64),
            headers: &headers,
            held: None,
            when_busy,
            nested_in: outer.clone(),
            tenant: Tenant::default(),
        };
        let listed = Listed(self, number);
        let arrived = self.admission.arrive(gates, visitor, &exchange, &self.policy.limits);
        if self.ample && self.width == 1 && !self.interrupts {
            match &arrived {
                Err(Rejection::NestedTooDeep { .. }) => {}
                arrived => {
                    let refused = matches!(arrived, Err(Rejection::TurnDeadlock));
                    assert_eq!(refused, busy && circle, "{number} of {session}");
                }
            }
        }
        let arrival = match arrived {
            Ok(arrival) => arrival,
            Err(Rejection::TurnDeadlock | Rejection::NestedTooDeep { .. } | Rejection::Interrupted(_)) => return,
            Err(other) => panic!("{other:?}"),
        };
        if !inside {
            let mut judge = self.judge.borrow_mut();
            judge.lines.entry(session).or_default().push(number);
            if !busy {
                judge.has_turn.push(number);
            }
        }
        let permit = match arrival.at_once(&self.admission, &mut None) {
            Ok(permit) => permit,
            Err(waiting) => waiting.admitted(&self.admission, &mut None).await,
        };
        let permit = match permit {
            Ok(permit) => permit,
            Err(Rejection::Interrupted(_)) => return,
            Err(other) => panic!("{number} of {session} has waited for ever: {other:?}"),
        };
        if !exchange.begin() {
            return;
        }
        exchange.enter(Phase::Running);
        let _running = self.begin(number, inside, outer.is_none());
        self.at_the_server(&permit, &exchange, number).await;
        drop((permit, listed));
    }

    fn begin(&self, number: usize, inside: bool, root: bool) -> impl Drop {
        struct Running<'w>(&'w World, bool);
        impl Drop for Running<'_> {
            fn drop(&mut self) {
                let mut judge = self.0.judge.borrow_mut();
                judge.running -= 1;
                judge.roots -= usize::from(self.1);
            }
        }
        let mut judge = self.judge.borrow_mut();
        judge.running += 1;
        judge.roots += usize::from(root);
        assert!(judge.roots <= self.policy.limits.concurrency as usize, "more than there are places");
        if !inside && !judge.has_turn.contains(&number) {
            judge.has_turn.push(number);
        }
        for line in judge.lines.values() {
            let held = line.iter().filter(|one| judge.has_turn.contains(one)).count();
            assert!(held <= self.width, "{held} turns of one session at once");
            let first = line.iter().take(held).filter(|one| judge.has_turn.contains(one)).count();
            assert!(self.interrupts || self.width > 1 || first == held, "one was overtaken");
        }
        Running(self, root)
    }

    async fn at_the_server(self: &Rc<Self>, permit: &Permit, exchange: &Exchange, number: usize) {
        let work = async {
            later(self.roll(20) as f64 / 10.0).await;
            let nest =
                permit.turn_token().as_ref().and_then(Token::read).and_then(|token| self.admission.nesting.find(token));
            let Some(nest) = nest else { return };
            let many = [0, 0, 1, 1, 2, 3][self.roll(6)];
            let calls = (0..many).map(|_| self.call(Some((nest.clone(), number))));
            if self.roll(2) == 0 {
                futures_util::future::join_all(calls).await;
            } else {
                for call in calls {
                    call.await;
                }
            }
            later(self.roll(10) as f64 / 10.0).await;
        };
        tokio::select! {
            () = work => {}
            by = exchange.ended() => assert_eq!(by, EndedBy::Interrupt),
        }
    }
}

async fn run(seed: u64) {
    let world = Rc::new(World::new(seed));
    let roots = (0..12).map(|_| async {
        later(world.roll(50) as f64 / 10.0).await;
        world.call(None).await;
    });
    let took = tokio::time::Instant::now();
    futures_util::future::join_all(roots).await;
    assert!(took.elapsed() < Duration::from_secs(3600), "it took {:?}", took.elapsed());
    let admission = &world.admission;
    assert_eq!((admission.gate.in_use(), admission.gate.waiting()), (0, 0), "places");
    assert_eq!((admission.sessions.active(), admission.sessions.waiting()), (0, 0), "turns");
    assert!(!admission.nesting.is_open() && admission.nesting.all().is_empty(), "tokens");
}

fn simulate(seed: u64) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| paused(run(seed)))) {
        eprintln!("replay with {SEED}={seed}");
        resume_unwind(panic);
    }
}

#[test]
fn nested_requests_never_wait_for_ever_and_are_refused_only_where_they_would() {
    match std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => simulate(seed),
        None => std::thread::scope(|scope| {
            for part in 0..THREADS {
                scope.spawn(move || (part as u64..SEEDS).step_by(THREADS).for_each(simulate));
            }
        }),
    }
}
