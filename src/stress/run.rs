//! A run: threads of clients that send what the plan says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};

use crate::stress::client::{Client, NoAnswer};
use crate::stress::plan::{Plan, Test, mixed};
use crate::stress::process::{Taken, Watch};
use crate::stress::tally::{Failure, Sent, Tally, Went};
use crate::stress::{Amount, Load};
use crate::sync::Mutex;
use crate::time;

/// Between two messages of one session, so that they arrive in the order in which they are sent.
pub const GAP: Duration = Duration::from_millis(10);
/// Messages a second to one session.
const MOST_RATE: f64 = 90.0;
/// Sessions of one run.
pub const MOST_SESSIONS: u64 = 1_000_000;

/// What a run has come to.
#[derive(Debug)]
pub struct Ran {
    pub tally: Tally,
    pub took: Duration,
    pub taken: Option<Taken>,
    /// Ended before its time by Ctrl-C.
    pub interrupted: bool,
    /// Requests that were due in an open loop by time and never began.
    pub unsent: u64,
    /// Most of the time messages were there that waited for the one before to be [`GAP`] ago.
    pub spaced: bool,
}

struct Shared {
    plan: Plan,
    load: Load,
    start: Instant,
    next: AtomicU64,
    /// Requests that clients have taken on.
    taken: AtomicU64,
    ended: AtomicU64,
    failed: AtomicU64,
    running: AtomicU64,
    /// Messages that waited to be [`GAP`] behind the one before.
    waited: AtomicU64,
    /// One for each session whose messages keep their order.
    gates: Vec<Gate>,
}

/// Lets the messages of one session out one after another.
#[derive(Default)]
struct Gate {
    next: AtomicU64,
    passed: Notify,
}

impl Gate {
    /// Whether it had to wait.
    async fn enter(&self, number: u64) -> bool {
        let mut has_waited = false;
        loop {
            let passed = self.passed.notified();
            tokio::pin!(passed);
            passed.as_mut().enable();
            if self.next.load(Relaxed) >= number {
                return has_waited;
            }
            has_waited = true;
            passed.await;
        }
    }

    fn leave(&self, number: u64) {
        self.next.fetch_max(number + 1, Relaxed);
        self.passed.notify_waiters();
    }
}

/// Whether the plan makes requests, and the load is one that its sessions can take.
///
/// # Errors
/// In a sentence.
pub fn check(plan: &Plan, load: &Load) -> Result<(), String> {
    // What is wrong with the plan is wrong with its first request.
    plan.request(0)?;
    let sessions = gated(plan);
    if let Some(rate) = load.rate.filter(|rate| sessions > 0 && *rate > sessions as f64 * MOST_RATE) {
        return Err(format!(
            "{rate} a second to {sessions} sessions is too much: messages of one session are sent {GAP:?} apart, to keep their order"
        ));
    }
    Ok(())
}

/// Sessions whose messages keep their order.
fn gated(plan: &Plan) -> u64 {
    match &plan.test {
        Test::SessionQueue { sessions, .. } => *sessions,
        Test::Custom(custom) if custom.session_in.is_some() => custom.sessions,
        _ => 0,
    }
}

/// Runs the plan to its end, or until Ctrl-C. `watched`: a process to look at meanwhile.
///
/// # Errors
/// In a sentence: see [`check`], or threads or runtimes cannot be had.
pub fn run(plan: Plan, load: Load, mut watched: Option<Watch>) -> Result<Ran, String> {
    check(&plan, &load)?;
    let sessions = gated(&plan);
    let shared = Arc::new(Shared {
        plan,
        start: time::now(),
        next: AtomicU64::new(0),
        taken: AtomicU64::new(0),
        ended: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        running: AtomicU64::new(0),
        waited: AtomicU64::new(0),
        gates: (0..sessions.min(MOST_SESSIONS)).map(|_| Gate::default()).collect(),
        load,
    });
    let (stop, stopped) = watch::channel(false);
    let (done, mut tallies) = mpsc::unbounded_channel();
    let threads = shared.load.threads.min(shared.load.concurrency).max(1);
    for thread in 0..threads {
        let clients = shared.load.concurrency / threads + usize::from(thread < shared.load.concurrency % threads);
        let (shared, stopped, done) = (shared.clone(), stopped.clone(), done.clone());
        let runtime = runtime()?;
        let work = move || {
            let tally = runtime.block_on(serve(shared, clients, stopped));
            // Nobody takes it only if the run itself has failed.
            let _ = done.send(tally);
        };
        let named = std::thread::Builder::new().name(format!("stress-{thread}"));
        named.spawn(work).map_err(|error| format!("no thread can be had: {error}"))?;
    }
    drop(done);
    let (tally, interrupted) = runtime()?.block_on(async {
        let mut all = Ok(Tally::default());
        let mut interrupted = false;
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.tick().await;
        loop {
            tokio::select! {
                tally = tallies.recv() => match tally {
                    Some(Some(tally)) => all.iter_mut().for_each(|all| all.add(tally.clone())),
                    Some(None) => all = Err("a client has failed; that is a bug of this program".to_owned()),
                    None => {
                        shared.tell();
                        return (all, interrupted);
                    }
                },
                _ = tokio::signal::ctrl_c(), if !interrupted => {
                    interrupted = true;
                    stop.send_replace(true);
                }
                _ = tick.tick() => {
                    watched.iter_mut().for_each(Watch::look);
                    shared.tell();
                }
            }
        }
    });
    let took = time::now().saturating_duration_since(shared.start);
    let due = match (shared.load.rate, shared.load.amount) {
        (Some(rate), Amount::Time(most)) if !interrupted => (rate * most.as_secs_f64()).ceil() as u64,
        _ => 0,
    };
    let unsent = due.saturating_sub(shared.taken.load(Relaxed));
    // Of the sessions that had any message.
    let sessions = sessions.min(shared.taken.load(Relaxed)) as f64;
    let waited = shared.waited.load(Relaxed) as f64 * GAP.as_secs_f64();
    let spaced = waited > 0.0 && waited >= sessions * took.as_secs_f64() / 2.0;
    Ok(Ran { tally: tally?, took, taken: watched.map(Watch::taken), interrupted, unsent, spaced })
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("no runtime can be had: {error}"))
}

/// The clients of one thread.
async fn serve(shared: Arc<Shared>, clients: usize, stopped: watch::Receiver<bool>) -> Option<Tally> {
    // One for all of them: a histogram for each client and second would be gigabytes.
    let tally: Arc<Mutex<Tally>> = Arc::default();
    let client = || tokio::spawn(shared.clone().be_client(stopped.clone(), tally.clone()));
    let clients: Vec<_> = (0..clients).map(|_| client()).collect();
    for client in clients {
        client.await.ok()?;
    }
    Some(std::mem::take(&mut *tally.lock()))
}

impl Shared {
    /// Tells how far it is.
    fn tell(&self) {
        if !self.load.progress {
            return;
        }
        let seconds = time::now().saturating_duration_since(self.start).as_secs();
        let (ended, failed) = (self.ended.load(Relaxed), self.failed.load(Relaxed));
        let running = self.running.load(Relaxed);
        eprintln!(
            "{seconds:>5} s  {ended} ended, {failed} failed, {running} running, {:.0} a second",
            ended as f64 / (seconds as f64).max(1.0)
        );
    }

    /// The number of the next request, when it is to be sent. `None`: there is none.
    async fn next(&self) -> Option<(u64, Instant)> {
        let number = self.next.fetch_add(1, Relaxed);
        let length = self.plan.length();
        let is_over = match (length, self.load.amount) {
            (Some(length), _) => number >= length,
            (None, Amount::Requests(most)) => number >= most,
            (None, Amount::Time(most)) => self.intended(number) >= self.start + most,
        };
        let is_over = is_over || self.is_late();
        if is_over {
            // By count nothing comes after the last one; by time some may, which wait for this one.
            if length.is_none() && matches!(self.load.amount, Amount::Time(_)) {
                self.pass(number).await;
            }
            return None;
        }
        self.taken.fetch_add(1, Relaxed);
        let intended = self.intended(number);
        if self.load.rate.is_some() {
            time::sleep_until(intended).await;
        }
        Some((number, intended))
    }

    /// Whether the time of a run by time is over.
    fn is_late(&self) -> bool {
        matches!(self.load.amount, Amount::Time(most) if time::now() >= self.start + most)
    }

    /// Lets those go on that wait for a message which is not sent after all, in its turn.
    async fn pass(&self, number: u64) {
        if let Some(turn) = self.plan.turn(number)
            && let Some(gate) = self.gate(turn.session)
        {
            gate.enter(turn.number).await;
            gate.leave(turn.number);
        }
    }

    fn gate(&self, session: u64) -> Option<&Gate> {
        self.gates.get(usize::try_from(session).ok()?)
    }

    /// In a closed loop: now.
    fn intended(&self, number: u64) -> Instant {
        match self.load.rate {
            Some(rate) => self.start + Duration::from_secs_f64(number as f64 / rate),
            None => time::now(),
        }
    }

    async fn be_client(self: Arc<Self>, mut stopped: watch::Receiver<bool>, tally: Arc<Mutex<Tally>>) {
        let mut client = Client::new(self.plan.target.address);
        loop {
            let one = async {
                let Some((number, intended)) = self.next().await else { return false };
                self.running.fetch_add(1, Relaxed);
                self.send(number, intended, &mut client, &tally).await;
                true
            };
            let went_on = tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => false,
                went_on = one => went_on,
            };
            if !went_on {
                return;
            }
            self.running.fetch_sub(1, Relaxed);
        }
    }

    async fn send(&self, number: u64, intended: Instant, client: &mut Client, tally: &Mutex<Tally>) {
        let planned = match self.plan.request(number) {
            Ok(planned) => planned,
            Err(error) => {
                self.pass(number).await;
                self.count(tally, intended, time::now(), None, Some(Failure { kind: error, said: String::new() }));
                return;
            }
        };
        let gate = planned.turn.as_ref().and_then(|turn| self.gate(turn.session));
        if let (Some(gate), Some(turn)) = (gate, &planned.turn) {
            // With a connection at hand, so that a message is on its way when it is its turn to be. What is wrong with it is
            // told when it is used.
            let _ = tokio::time::timeout(self.load.timeout, client.connect()).await;
            let has_waited = gate.enter(turn.number).await;
            self.waited.fetch_add(u64::from(has_waited), Relaxed);
        }
        client.look().await;
        let begun = time::now();
        let dice = mixed(self.load.seed ^ 0xA5A5, number);
        let leaves = (dice % 100_000) as f64 / 1000.0 < self.load.leave;
        let mut sent = 1;
        let exchange = async {
            let answered = client.exchange(planned.request, self.load.timeout).await;
            match answered {
                Err(NoAnswer::Stale) => sent += 1,
                Err(NoAnswer::Unsent) => {}
                answered => return answered,
            }
            let rest = self.load.timeout.saturating_sub(time::now().saturating_duration_since(begun));
            match self.plan.request(number) {
                Ok(again) => client.exchange(again.request, rest).await,
                Err(why) => Err(NoAnswer::Broken(why)),
            }
        };
        let answered = async {
            if leaves {
                tokio::time::timeout(Duration::from_millis(20 + dice / 100_000 % 200), exchange).await
            } else {
                Ok(exchange.await)
            }
        };
        let (answered, ended) = if let (Some(gate), Some(turn)) = (gate, &planned.turn) {
            let pass_on = async {
                tokio::time::sleep(GAP).await;
                gate.leave(turn.number);
            };
            tokio::join!(timed(answered), pass_on).0
        } else {
            timed(answered).await
        };
        // In a closed loop the wait for its turn to be sent is no latency of the server's.
        let since = if self.load.rate.is_some() { intended } else { begun };
        let went = match answered {
            Err(_) => {
                *client = Client::new(self.plan.target.address);
                tally.lock().left += 1;
                Went::Left
            }
            Ok(Ok(answer)) if answer.status.is_success() => {
                self.count(tally, since, ended, Some(answer.status.as_u16()), None);
                Went::Succeeded
            }
            Ok(Ok(answer)) => {
                let failure = Failure { kind: answer.status.to_string(), said: answer.sample };
                self.count(tally, since, ended, Some(answer.status.as_u16()), Some(failure));
                Went::Failed
            }
            Ok(Err(no_answer)) => {
                let kind = match no_answer {
                    NoAnswer::Timeout => format!("no answer within {:?}", self.load.timeout),
                    NoAnswer::Unsent | NoAnswer::Stale => {
                        "no answer: each connection was closed when it was used".to_owned()
                    }
                    NoAnswer::Broken(why) => why,
                };
                self.count(tally, since, ended, None, Some(Failure { kind, said: String::new() }));
                Went::Failed
            }
        };
        let mut tally = tally.lock();
        tally.resent += sent - 1;
        if let Some(turn) = planned.turn {
            let at = begun.saturating_duration_since(self.start);
            tally.sent(Sent { turn, at, went, sent });
        }
    }

    fn count(&self, tally: &Mutex<Tally>, since: Instant, now: Instant, status: Option<u16>, error: Option<Failure>) {
        self.ended.fetch_add(1, Relaxed);
        self.failed.fetch_add(u64::from(error.is_some()), Relaxed);
        let at = now.saturating_duration_since(self.start);
        tally.lock().ended(at, now.saturating_duration_since(since), status, error);
    }
}

/// What comes of a future, and when.
async fn timed<T>(future: impl Future<Output = T>) -> (T, Instant) {
    let value = future.await;
    (value, time::now())
}
