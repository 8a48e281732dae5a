//! Arrivals, departures, interrupts, equal and nested requests, jobs, failures and reloads at random, against a judge inside the
//! agent.
//!
//! The judge is a few lines: at no start may there be more at once than the policy in force allows, the starts of one
//! session come in the order of its arrivals, nothing starts twice, and of equal requests one. Nested requests take no place
//! and may run inside their turn, so they are not counted; how they wait for one another has a simulation of its own. At the end
//! everybody has one answer and the house is at rest. After every step the books are in order: each turn and each place that is
//! taken is held by somebody. `TURNWISE_SEED=n` replays one run, `TURNWISE_SEEDS=n` makes so many.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::harness::dice::Dice;
use crate::harness::{Asked, Door, House, later, paused, settle};

/// The variable that replays one run, with a word on every step.
const SEED: &str = "TURNWISE_SEED";
/// How many runs there are, from 0 on; fewer where the test is one of many.
const SEEDS: &str = "TURNWISE_SEEDS";
const FEW: u64 = 500;
/// Runs that once failed, whatever they found.
const REGRESSIONS: &[u64] = &[];
const THREADS: usize = 4;
const WIDEST: usize = 3;
const STEPS: usize = 40;
const SESSIONS: [&str; 4] = ["", "ann", "bob", "cid"];
/// Path, and the upstream behind it.
const ROUTES: [(&str, &str); 6] =
    [("/runs", "one"), ("/talks", "two"), ("/free", "two"), ("/rated", "one"), ("/joins", "one"), ("/later", "two")];
/// Jobs are numbered apart: they may begin more than once, and wait for workers while other requests of their session do not.
const JOBS: usize = 1_000_000;
/// How a request may want to deal with a busy session; most say nothing of it.
const CHOICES: [&str; 8] = ["", "", "", "", "wait", "reject", "replace", "interrupt"];
const HOSTS: [&str; 3] = ["a", "b", "c"];
/// How long after its permit a request may begin at the agent: a connection that does not come about, and its retry.
const DELAY: f64 = 5.0;

/// Everything that a reload changes.
#[derive(Debug, Clone, PartialEq)]
struct Terms {
    all: usize,
    one: usize,
    two: usize,
    runs: usize,
    free: usize,
    /// Whether lanes are ever wider than one.
    wide: bool,
    width: usize,
    depth: usize,
    queue: usize,
    rate: usize,
    fair: bool,
    wait: usize,
    abandoned: &'static str,
}

impl Terms {
    fn roll(dice: &mut Dice, wide: bool) -> Self {
        Self {
            all: 1 + dice.roll(6),
            one: 1 + dice.roll(4),
            two: 1 + dice.roll(4),
            runs: 1 + dice.roll(3),
            free: 1 + dice.roll(3),
            wide,
            width: if wide { 1 + dice.roll(WIDEST) } else { 1 },
            depth: 1 + dice.roll(8),
            queue: 1 + dice.roll(20),
            rate: 1 + dice.roll(3),
            fair: dice.chance(50),
            wait: 10 + dice.roll(100),
            abandoned: dice.one_of(&["finish", "finish", "auto", "cancel"]),
        }
    }

    fn policy(&self) -> String {
        let Self { all, one, two, runs, free, wide: _, width, depth, queue, rate, fair, wait, abandoned } = self;
        let fair = if *fair { "client_ip" } else { "null" };
        format!(
            "limits: {{concurrency: {all}, queue: {queue}, queue_timeout: {wait}s, fair_by: {fair}}}\n\
             upstreams:\n  one: {{servers: ['http://a:80', 'http://b:80'], concurrency: {one}}}\n\
             \x20 two: {{servers: ['http://c:80'], concurrency: {two}}}\n\
             defaults: {{abandoned: {abandoned}, abandoned_limit: 50s, timeouts: {{response: 30s, idle: 20s, total: 2m}}}}\n\
             background: {{workers: 2, queue: 8, attempts: 2, retry_delay: 2s}}\n\
             routes:\n\
             - {{name: later, match: {{path: /later}}, upstream: two, background: prefer, session: {{key: [{{header: X-Session-Id}}], \
               lane: s, concurrency: {width}, queue: {depth}, queue_timeout: {wait}s}}}}\n\
             - {{name: runs, match: {{path: /runs}}, upstream: one, concurrency: {runs}, session: {{key: [{{header: X-Session-Id}}], \
               lane: s, concurrency: {width}, queue: {depth}, queue_timeout: {wait}s, reentrant: true, \
               when_busy_choices: [wait, reject, replace, interrupt]}}}}\n\
             - {{name: joins, match: {{path: /joins}}, upstream: one, session: {{key: [{{header: X-Session-Id}}], \
               lane: s, concurrency: {width}, queue: {depth}, queue_timeout: {wait}s, duplicates: join, replay_for: 5s, \
               when_busy_choices: [wait, reject, replace, interrupt]}}}}\n\
             - {{name: talks, match: {{path: /talks}}, upstream: two, priority: low, session: {{key: [{{header: X-Session-Id}}], \
               lane: s, concurrency: {width}, queue: {depth}, queue_timeout: {wait}s, while_waiting: comments, \
               when_busy_choices: [wait, reject, replace, interrupt]}}}}\n\
             - {{name: free, match: {{path: /free}}, upstream: two, concurrency: {free}, priority: high}}\n\
             - {{name: rated, match: {{path: /rated}}, upstream: one, rate_limits: [{{per: client_ip, rate: {rate}/s, burst: 2, \
               when_exceeded: wait, queue_timeout: {wait}s}}]}}\n"
        )
    }

    fn allowed(&self) -> Vec<(String, usize)> {
        // A turn that was given in a wider lane waits for its place in the narrower one, so that there the widest counts.
        let width = if self.wide { WIDEST } else { 1 };
        let mut allowed = vec![
            ("all".into(), self.all),
            ("tag:one".into(), self.one),
            ("tag:two".into(), self.two),
            ("path:/runs".into(), self.runs),
            ("path:/free".into(), self.free),
        ];
        allowed.extend(SESSIONS[1..].iter().map(|session| (format!("session:{session}"), width)));
        allowed
    }
}

struct Arrived {
    number: usize,
    asked: Asked,
}

struct Run {
    dice: Dice,
    house: House,
    terms: Terms,
    asked: Vec<Arrived>,
    arrived: usize,
    /// Terms that were in force until so recently that a request may still begin under them.
    recent: Vec<(tokio::time::Instant, Terms)>,
    calm: bool,
    start: tokio::time::Instant,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let wide = dice.chance(30);
        let terms = Terms::roll(&mut dice, wide);
        let house = House::new(&terms.policy());
        let run = Self {
            dice,
            house,
            terms,
            asked: Vec::new(),
            arrived: 0,
            recent: Vec::new(),
            calm: true,
            start: tokio::time::Instant::now(),
        };
        run.allow();
        run
    }

    fn allow(&self) {
        let mut allowed: HashMap<String, usize> = HashMap::new();
        for (tag, most) in self.recent.iter().map(|(_, terms)| terms).chain([&self.terms]).flat_map(Terms::allowed) {
            let entry = allowed.entry(tag).or_default();
            *entry = most.max(*entry);
        }
        allowed.into_iter().for_each(|(tag, most)| self.house.agent.allow(&tag, most));
    }

    /// Tells what happens, in a replay.
    fn tell(&self, what: impl FnOnce() -> String) {
        if std::env::var_os(SEED).is_some() {
            eprintln!("{:9.3} {}", self.start.elapsed().as_secs_f64(), what());
        }
    }

    async fn step(&mut self) {
        let now = tokio::time::Instant::now();
        self.recent.retain(|(until, _)| *until > now);
        self.allow();
        match self.dice.roll(100) {
            0..47 => self.arrive(),
            47..55 => self.nest(),
            55..67 => self.leave(),
            67..75 => self.reload(),
            75..80 => self.door(),
            _ => {
                let seconds = self.dice.one_of(&[0.5, 1.0, 3.0, 10.0, 25.0]);
                later(seconds).await;
            }
        }
        settle().await;
        self.fully_used();
        assert_eq!(
            turnwise::admission::unaccounted(&self.house.control.admission),
            0,
            "turns and places that nobody holds"
        );
    }

    fn arrive(&mut self) {
        let (path, upstream) = self.dice.one_of(&ROUTES);
        // Only lanes know of sessions; elsewhere the agent would count what nobody promised.
        let session =
            if matches!(path, "/runs" | "/talks" | "/joins" | "/later") { self.dice.one_of(&SESSIONS) } else { "" };
        let think = self.dice.one_of(&[0, 0, 1, 5, 20, 45]);
        let pieces = self.dice.roll(4);
        let every = self.dice.one_of(&[0, 1, 5, 25]);
        let then = if self.dice.chance(85) { "end" } else { self.dice.one_of(&["hang", "break"]) };
        let mut target = format!("{path}?think={think}&pieces={pieces}&every={every}&then={then}");
        if path == "/joins" {
            // Few enough that many are equal.
            target = format!("{path}?think={}&pieces={}&every=1", [5, 20][self.dice.roll(2)], self.dice.roll(2));
        }
        let is_job = path == "/later" && self.dice.chance(80);
        let choice = if session.is_empty() || path == "/later" { "" } else { self.dice.one_of(&CHOICES) };
        let id = if is_job { JOBS + self.arrived } else { self.arrived };
        let mut fields = format!("X-Id: {id}\r\nX-Tag: {upstream}\r\n");
        if is_job {
            fields += self.dice.one_of(&["Prefer: respond-async\r\n", "Prefer: respond-async, wait=20\r\n"]);
        }
        for (name, value) in [("X-Session-Id", session), ("Turnwise-When-Busy", choice)] {
            if !value.is_empty() {
                fields += &format!("{name}: {value}\r\n");
            }
        }
        if path == "/talks" && self.dice.chance(50) {
            fields += "Accept: text/event-stream\r\n";
        }
        let client = 1 + self.dice.roll(3) as u8;
        self.tell(|| format!("{} arrives: {target} {fields:?}", self.arrived));
        let asked = self.house.ask_from(client, "GET", &target, &fields, "");
        self.asked.push(Arrived { number: self.arrived, asked });
        self.arrived += 1;
    }

    /// One of those at work makes a request of its own.
    fn nest(&mut self) {
        let at_work: Vec<String> = self.house.agent.tokens_at_work();
        if at_work.is_empty() {
            return;
        }
        let token = &at_work[self.dice.roll(at_work.len())];
        let path = self.dice.one_of(&["/runs", "/talks", "/free"]);
        let session = self.dice.one_of(&SESSIONS[1..]);
        let target = format!("{path}?think={}", self.dice.one_of(&[0, 1, 10]));
        let fields = format!(
            "X-Id: {}\r\nX-Uncounted: 1\r\nX-Session-Id: {session}\r\nTurnwise-Turn: {token}\r\n",
            self.arrived
        );
        self.tell(|| format!("{} is nested: {target} {session}", self.arrived));
        let asked = self.house.ask_from(9, "GET", &target, &fields, "");
        self.asked.push(Arrived { number: self.arrived, asked });
        self.arrived += 1;
    }

    fn leave(&mut self) {
        self.asked.retain(|one| !one.asked.is_answered());
        if !self.asked.is_empty() {
            let who = self.dice.roll(self.asked.len());
            let one = self.asked.swap_remove(who);
            self.tell(|| format!("{} leaves", one.number));
            one.asked.leave();
        }
    }

    fn reload(&mut self) {
        let terms = Terms::roll(&mut self.dice, self.terms.wide);
        let before = std::mem::replace(&mut self.terms, terms);
        self.tell(|| format!("reload: {:?}", self.terms));
        self.house.reload(&self.terms.policy());
        // With all doors open a request is at the agent in the moment in which it has its permit.
        if !self.calm {
            let until = tokio::time::Instant::now() + std::time::Duration::from_secs_f64(DELAY);
            self.recent.push((until, before));
        }
        self.allow();
    }

    fn door(&mut self) {
        let door = self.dice.one_of(&[Door::Open, Door::Open, Door::Refused, Door::Silent, Door::Swallows]);
        let host = self.dice.one_of(&HOSTS);
        self.tell(|| format!("the door of {host}: {door:?}"));
        self.house.agent.set_door(host, door);
        self.calm = self.calm && door == Door::Open;
    }

    /// Nobody waits for a place unless something is full. A place that is kept for what is nested in its request is one
    /// that the agent does not see.
    fn fully_used(&self) {
        let nests = self.house.control.admission.nesting.all();
        if nests.iter().any(|nest| nest.parent().is_some()) {
            return;
        }
        let gate = &self.house.control.admission.gate;
        if gate.waiting() > 0 && self.calm {
            let agent = &self.house.agent;
            let mut scopes = self.terms.allowed().into_iter().filter(|(tag, _)| !tag.starts_with("session:"));
            let full = scopes.any(|(tag, limit)| agent.now(&tag) >= limit);
            assert!(full, "{} wait though there is room: {:?}", gate.waiting(), self.terms);
        }
    }

    fn judge(&self) {
        let verdicts = self.house.agent.verdicts();
        assert!(verdicts.is_empty(), "{verdicts:#?}");
        let mut last: HashMap<String, usize> = HashMap::new();
        let mut all: Vec<usize> = Vec::new();
        let mut jobs: HashMap<String, usize> = HashMap::new();
        for seen in self.house.agent.seen() {
            let id: usize = seen.id.parse().expect("all have an id");
            if id >= JOBS {
                // One that is tried again holds its session's jobs back.
                let before =
                    jobs.insert(seen.session.clone(), id).filter(|_| !seen.session.is_empty() && !self.terms.wide);
                assert!(before.is_none_or(|before| before <= id), "{}: job {id} after {before:?}", seen.session);
                continue;
            }
            all.push(id);
            if seen.session.is_empty() || seen.uncounted || self.terms.wide {
                continue;
            }
            let before = last.insert(seen.session.clone(), id);
            assert!(before.is_none_or(|before| before < id), "{}: {id} began after {before:?}", seen.session);
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "something began twice");
    }

    async fn end(mut self) {
        for host in HOSTS {
            self.house.agent.set_door(host, Door::Open);
        }
        later(2000.0).await;
        self.judge();
        for one in self.asked.drain(..) {
            assert!(one.asked.is_answered(), "{} still waits", one.number);
            let answer = one.asked.answer().await;
            assert!([200, 202, 409, 429, 502, 503, 504].contains(&answer.status), "{answer:?}");
            if answer.status == 202 {
                let job = self.house.get(answer.field("location").expect("Location"), "").answer().await;
                let job: serde_json::Value = serde_json::from_slice(&job.body).expect("JSON");
                assert!(["succeeded", "failed"].iter().any(|word| job["status"] == *word), "it was accepted: {job}");
            }
        }
        self.house.at_rest().await;
    }
}

fn simulate(seed: u64) {
    let run = catch_unwind(AssertUnwindSafe(|| {
        paused(async {
            let mut run = Run::new(seed);
            for _ in 0..STEPS {
                run.step().await;
            }
            run.end().await;
        });
    }));
    if let Err(panic) = run {
        eprintln!("replay with {SEED}={seed}");
        resume_unwind(panic);
    }
}

#[test]
fn whatever_happens_limits_and_order_hold_and_nothing_is_left() {
    match std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => simulate(seed),
        None => std::thread::scope(|scope| {
            let seeds = std::env::var(SEEDS).ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(FEW);
            REGRESSIONS.iter().for_each(|seed| simulate(*seed));
            // Each run has a clock of its own.
            for part in 0..THREADS {
                scope.spawn(move || (part as u64..seeds).step_by(THREADS).for_each(simulate));
            }
        }),
    }
}
