//! `turnwise serve`: from the policy file to the exit code.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt;
use prometheus::IntCounterVec;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing_appender::non_blocking::ErrorCounter;

use super::notify;
use super::workers::{self, Listening};
use crate::admin;
use crate::admission::{Leak, Ledger};
use crate::config::Problems;
use crate::control::Control;
use crate::control::drain::Drained;
use crate::policy::{Listener, compile};
use crate::server::accept::{Door, listen};
use crate::server::descriptors::raise_limit;
use crate::telemetry::traces::{self, Spans, Traces};
use crate::time;
use crate::upstream::connect::Tcp;

/// How often some of the keys that say nothing any more are forgotten.
const SWEEP: Duration = Duration::from_secs(1);

/// Why the gateway did not start.
#[derive(Debug)]
pub enum StartError {
    Policy(Problems),
    Listen { what: &'static str, address: SocketAddr, error: io::Error },
    System(io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Policy(problems) => write!(f, "{problems}"),
            Self::Listen { what, address, error } => write!(f, "{what} {address}: {error}"),
            Self::System(error) => write!(f, "the gateway cannot start: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// How the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Drained(Drained),
    /// By a second signal.
    AtOnce,
}

/// Runs the gateway until it has drained.
///
/// # Errors
/// [`StartError`]; nothing listens then.
pub fn serve(file: PathBuf, dropped_lines: ErrorCounter, traces: Option<Traces>) -> Result<Ended, StartError> {
    let compiled = compile::load(&file).map_err(StartError::Policy)?;
    raise_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(run(file, compiled, dropped_lines, traces));
    runtime.shutdown_background();
    ended
}

async fn run(
    file: PathBuf,
    compiled: compile::Compiled,
    dropped_lines: ErrorCounter,
    traces: Option<Traces>,
) -> Result<Ended, StartError> {
    let policy = compiled.policy.clone();
    let bound = |listener: &Listener| Ok((bind(listener.address, "listen")?, listener.clone()));
    let public = policy.listen.iter().map(bound).collect::<Result<Vec<_>, StartError>>()?;
    let admin = bind(policy.admin.listen, "admin.listen")?;
    let control = Control::new(file, compiled, Arc::new(Tcp)).map_err(StartError::Policy)?;
    let public: Vec<_> = public.into_iter().map(|(socket, listener)| listening(&control, socket, &listener)).collect();
    let mut signals = Signals::new()?;

    let (closing, is_closing) = watch::channel(false);
    let (ended, has_ended) = watch::channel(false);
    let mut threads = Vec::new();
    for number in 0..policy.server.workers {
        let sockets = public.iter().map(Listening::share).collect::<io::Result<_>>()?;
        threads.push(workers::start(number, control.clone(), sockets, is_closing.clone(), has_ended.clone())?);
    }
    let mut jobs = tokio::spawn(start_jobs(control.clone(), has_ended.clone()));
    for listening in &public {
        tracing::info!(address = %listening.socket.local_addr()?, "listening");
    }
    drop(public);
    tracing::info!(address = %admin.local_addr()?, "the admin port is listening");
    tokio::spawn(admin::serve(control.clone(), TcpListener::from_std(admin)?));
    tokio::spawn(control.clone().check_health());
    tokio::spawn(sweep(control.clone(), dropped_lines));
    super::watch_file::watch(control.clone())?;
    tokio::spawn(notify::live(control.clone()));
    notify::ready();

    let outcome = until_drained(&control, &mut signals, &closing).await;
    ended.send_replace(true);
    if outcome == Ended::AtOnce {
        // They would be sent to their end.
        std::mem::forget(traces);
    } else {
        // Where it has not started by now, there is nothing for it to do.
        threads.extend((&mut jobs).now_or_never().and_then(|started| started.ok().flatten()));
        for thread in threads {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        if let Some(jobs) = control.jobs.get().cloned() {
            let _ = tokio::task::spawn_blocking(move || jobs.close()).await;
        }
        if let Some(traces) = traces {
            let sending = tokio::task::spawn_blocking(move || drop(traces));
            tokio::select! {
                _ = sending => {}
                // All that clients are owed is done: the exit code stays what it is.
                () = signals.second() => {}
            }
        }
    }
    Ok(outcome)
}

/// The thread that runs jobs. Without it they wait on disk, and the gateway does the rest of its work.
async fn start_jobs(control: Arc<Control>, ended: watch::Receiver<bool>) -> Option<JoinHandle<()>> {
    let started = workers::start_jobs(control, ended).await;
    started.inspect_err(|error| tracing::error!(%error, "no thread for jobs: they are kept, but not run")).ok()
}

fn bind(address: SocketAddr, what: &'static str) -> Result<std::net::TcpListener, StartError> {
    listen(address).map_err(|error| StartError::Listen { what, address, error })
}

fn listening(control: &Control, socket: std::net::TcpListener, listener: &Listener) -> Listening {
    let label = listener.address.to_string();
    let door = Door {
        proxy_protocol: listener.proxy_protocol,
        tls: listener.tls.as_ref().and_then(|tls| control.tls.incoming(tls)),
        turned_away: control.metrics.connections_turned_away.with_label_values(&[&label]),
    };
    Listening { socket, label, door }
}

impl Listening {
    fn share(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, label: self.label.clone(), door: self.door.clone() })
    }
}

/// Serves until it is told to end, and then drains; a second signal ends it at once.
async fn until_drained(control: &Arc<Control>, signals: &mut Signals, closing: &watch::Sender<bool>) -> Ended {
    // Asking the admin port and then sending a signal, as a preStop hook and the kubelet do, is asking once.
    let mut signalled = false;
    loop {
        tokio::select! {
            told = signals.next() => match told {
                Told::End => {
                    signalled = true;
                    control.ask_to_drain();
                }
                Told::Reload => reload(control),
            },
            () = control.drain.asked() => break,
        }
    }
    notify::draining();
    let draining = control.drain(|| {
        closing.send_replace(true);
    });
    tokio::pin!(draining);
    loop {
        tokio::select! {
            drained = &mut draining => return Ended::Drained(drained),
            told = signals.next() => match told {
                Told::End if signalled => return Ended::AtOnce,
                Told::End => signalled = true,
                Told::Reload => reload(control),
            },
        }
    }
}

fn reload(control: &Arc<Control>) {
    let control = control.clone();
    // Reading a file may block. What is wrong with it is logged and counted.
    notify::reloading();
    tokio::task::spawn_blocking(move || {
        let _ = control.reload();
        if control.drain.is_asked() {
            notify::draining();
        } else {
            notify::ready();
        }
    });
}

async fn sweep(control: Arc<Control>, dropped_lines: ErrorCounter) {
    let mut ticks = tokio::time::interval(SWEEP);
    let mut ledger = Ledger::default();
    loop {
        ticks.tick().await;
        control.admission.sweep_in_parts();
        control.answers.sweep(time::now());
        let dropped = &control.metrics.log_lines_dropped;
        dropped.inc_by((dropped_lines.dropped_lines() as u64).saturating_sub(dropped.get()));
        note_spans(&control.metrics.trace_spans);
        for leak in ledger.audit(&control.admission) {
            control.metrics.permit_leaks.inc_by(leak.count as u64);
            let Leak { what, route, request_id, count } = leak;
            tracing::error!(what, %route, request_id, count, "nobody holds what is taken: this is a fault of the gateway");
        }
    }
}

/// What became of spans so far. Where there are no traces, there is nothing of them in the metrics.
fn note_spans(counters: &IntCounterVec) {
    let Spans { exported, failed, dropped } = traces::spans();
    if exported + failed + dropped > 0 {
        for (outcome, count) in [("exported", exported), ("failed", failed), ("dropped", dropped)] {
            let counter = counters.with_label_values(&[outcome]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }
}

/// What a signal means.
enum Told {
    End,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for another one that means the end. Cancel safe.
    async fn second(&mut self) {
        while !matches!(self.next().await, Told::End) {}
    }

    /// Cancel safe.
    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::End,
            _ = self.interrupt.recv() => Told::End,
            _ = self.hang_up.recv() => Told::Reload,
        }
    }
}
