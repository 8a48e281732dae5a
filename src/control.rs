//! What can be done with a running gateway, by whoever does it: a signal, the admin port, a changed file.
//!
//! A reload is compile, reconcile, publish: the file is compiled to a policy, the gates and the servers are brought in
//! line with it, and then new requests get it. A policy that does not hold changes nothing.

pub mod drain;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::admission::Admission;
use crate::background::{Jobs, Place};
use crate::config::{Fault, Position, Problem, Problems};
use crate::policy::compile::{self, Compiled};
use crate::policy::{Background, Policy, diff};
use crate::proxy::edition::Edition;
use crate::proxy::{JobRunner, Lifecycle, Proxy};
use crate::response::joined::Answers;
use crate::server::Stage;
use crate::server::accept::ConnectionSlots;
use crate::server::descriptors::{max_connections, tell_if_fewer};
use crate::sync::Mutex;
use crate::telemetry::metrics::{Metrics, NO_ROUTE};
use crate::time;
use crate::tls;
use crate::upstream::connect::Dial;
use crate::upstream::fields::KnownFields;
use crate::upstream::pool::Pools;
use crate::upstream::registry::Registry;

/// The wired parts of a gateway. Shared by workers, admin port and whoever reloads.
#[derive(Debug)]
pub struct Control {
    pub file: PathBuf,
    pub started: Instant,
    /// What was bound at the start.
    pub first: Arc<Policy>,
    pub edition: Arc<ArcSwap<Edition>>,
    pub admission: Arc<Admission>,
    pub metrics: Arc<Metrics>,
    pub lifecycle: Arc<Lifecycle>,
    pub answers: Arc<Answers>,
    pub slots: Arc<ConnectionSlots>,
    pub stage: watch::Sender<Stage>,
    pub drain: drain::Drain,
    /// One for each worker.
    pub pulses: Vec<Pulse>,
    pub tls: tls::Store,
    /// The durable queue, from the first policy on that has one.
    pub jobs: Arc<OnceLock<Arc<Jobs>>>,
    /// Where its jobs are kept, instead of where the policy says.
    place: Option<Place>,
    servers: Registry,
    dial: Arc<dyn Dial>,
    loaded: Mutex<Loaded>,
    reloading: Mutex<()>,
    /// The content of the file when it was last tried; `None`: it could not be read.
    tried: Mutex<Option<Vec<u8>>>,
    generation: AtomicU64,
    /// Told with every edition; the health checks follow it.
    published: watch::Sender<u64>,
}

/// When a worker came round last.
#[derive(Debug)]
pub struct Pulse {
    born: Instant,
    /// Milliseconds after `born`.
    last: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { born: time::now(), last: AtomicU64::new(0) }
    }
}

impl Pulse {
    pub fn beat(&self) {
        self.last.store(self.millis(time::now()), Ordering::Relaxed);
    }

    /// How long ago that was.
    #[must_use]
    pub fn since(&self, now: Instant) -> Duration {
        Duration::from_millis(self.millis(now).saturating_sub(self.last.load(Ordering::Relaxed)))
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.born).as_millis()).unwrap_or(u64::MAX)
    }
}

/// What is known of the policy in force, and of the last attempt to change it.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub at: SystemTime,
    /// Why the last reload changed nothing.
    pub last_error: Option<Problems>,
    /// When that was.
    pub failed_at: Option<SystemTime>,
    /// What the last reload could not apply without a restart.
    pub restart_needed: Vec<String>,
    /// The first line of `admin.token_file`.
    pub token: Option<Arc<str>>,
}

impl Control {
    /// Wires the parts for the first policy.
    ///
    /// # Errors
    /// When `admin.token_file`, or a certificate, cannot be read or used; or the job store.
    pub fn new(file: PathBuf, compiled: Compiled, dial: Arc<dyn Dial>) -> Result<Arc<Self>, Problems> {
        Self::with_store(file, compiled, dial, None)
    }

    /// As [`new`](Self::new), with the jobs kept in `place` instead of where a policy says.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_store(
        file: PathBuf,
        compiled: Compiled,
        dial: Arc<dyn Dial>,
        place: Option<Place>,
    ) -> Result<Arc<Self>, Problems> {
        let metrics = Arc::new(Metrics::new());
        let tls = tls::Store::new(folder_of(&file));
        let (compiled, token, prepared) = read_named(&file, compiled, &tls)?;
        let policy = Arc::new(compiled.policy);
        tls.commit(prepared, &policy);
        let jobs = policy.background.as_ref().map(|queue| open_jobs(&file, queue, place.clone(), &metrics));
        let jobs = jobs.transpose()?.map_or_else(OnceLock::new, OnceLock::from);
        let admission = Arc::new(Admission::new(&policy, metrics.clone()));
        let servers = Registry::new(metrics.clone());
        let edition = wire(1, &policy, &admission, &servers, &tls);
        show_limits(&metrics, &policy);
        compiled.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let connections = max_connections(&policy.server, policy.listen.len());
        tell_if_fewer(&policy.server, connections);
        let control = Self {
            started: time::now(),
            first: policy.clone(),
            edition: Arc::new(ArcSwap::from_pointee(edition)),
            admission,
            lifecycle: Arc::default(),
            answers: Arc::default(),
            slots: Arc::new(ConnectionSlots::new(connections)),
            stage: watch::Sender::new(Stage::Serving),
            drain: drain::Drain::default(),
            pulses: (0..policy.server.workers).map(|_| Pulse::default()).collect(),
            tls,
            jobs: Arc::new(jobs),
            place,
            servers,
            dial,
            reloading: Mutex::new(()),
            loaded: Mutex::new(Loaded {
                at: SystemTime::now(),
                last_error: None,
                failed_at: None,
                restart_needed: Vec::new(),
                token,
            }),
            tried: Mutex::new(Some(compiled.source)),
            generation: AtomicU64::new(1),
            published: watch::Sender::new(1),
            metrics,
            file,
        };
        control.metrics.config_successful.set(1);
        control.metrics.config_success_time.set(time::unix_seconds());
        control.metrics.config_generation.set(1);
        Ok(Arc::new(control))
    }

    /// Reads the policy file again, and applies it if it holds.
    ///
    /// # Errors
    /// Every problem of the file; then nothing has changed.
    pub fn reload(&self) -> Result<Vec<String>, Problems> {
        // One at a time, so that editions come in order. Reading may take as long as the file system likes; what is known
        // of the policy in force can be read meanwhile.
        let _reloading = self.reloading.lock();
        let content = compile::read(&self.file);
        *self.tried.lock() = content.as_ref().ok().cloned();
        let outcome = compile::from_content(&self.file, content)
            .and_then(|compiled| read_named(&self.file, compiled, &self.tls))
            // Last: whatever is found wrong, no store has been made for nothing.
            .and_then(|named| self.queue_jobs(&named.0.policy).map(|()| named));
        match outcome {
            Ok((compiled, token, tls)) => {
                self.metrics.config_reloads.with_label_values(&["success"]).inc();
                Ok(self.apply(compiled, token, tls))
            }
            Err(problems) => {
                self.metrics.config_reloads.with_label_values(&["failure"]).inc();
                self.metrics.config_successful.set(0);
                for problem in problems.as_slice() {
                    tracing::error!("the policy was not reloaded: {problem}");
                }
                let mut loaded = self.loaded.lock();
                loaded.last_error = Some(problems.clone());
                loaded.failed_at = Some(SystemTime::now());
                drop(loaded);
                Err(problems)
            }
        }
    }

    /// Opens the durable queue, if the policy is the first that has one.
    fn queue_jobs(&self, policy: &Policy) -> Result<(), Problems> {
        if let (Some(settings), None) = (&policy.background, self.jobs.get()) {
            let jobs = open_jobs(&self.file, settings, self.place.clone(), &self.metrics)?;
            self.jobs.get_or_init(|| jobs);
        }
        Ok(())
    }

    /// Whoever reads the log has been told at the start of what has not changed since.
    fn resize_connections(&self, policy: &Policy) {
        let connections = max_connections(&policy.server, self.first.listen.len());
        let asked = self.edition.load().policy.server.max_connections;
        if (connections, policy.server.max_connections) != (self.slots.limit(), asked) {
            tell_if_fewer(&policy.server, connections);
        }
        self.slots.resize(connections);
    }

    fn apply(&self, compiled: Compiled, token: Option<Arc<str>>, tls: tls::Prepared) -> Vec<String> {
        let policy = Arc::new(compiled.policy);
        self.tls.commit(tls, &self.first);
        // What was bound at the start is compared with, not what a later file asked for in vain.
        let store = self.jobs.get().map(|jobs| jobs.store_path());
        let restart_needed = diff::needs_restart(&self.first, &policy, store);
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let edition = wire(generation, &policy, &self.admission, &self.servers, &self.tls);
        show_limits(&self.metrics, &policy);
        self.resize_connections(&policy);
        self.edition.store(Arc::new(edition));
        if let (Some(jobs), Some(settings)) = (self.jobs.get(), &policy.background) {
            jobs.configure(settings);
        }
        self.published.send_replace(generation);
        self.metrics.config_successful.set(1);
        self.metrics.config_success_time.set(time::unix_seconds());
        self.metrics.config_generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        compiled.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        for key in &restart_needed {
            tracing::warn!("`{key}` changed in the policy; that needs a restart, the rest of the file is in force");
        }
        tracing::info!(generation, "the policy was reloaded");
        let mut loaded = self.loaded.lock();
        loaded.at = SystemTime::now();
        loaded.last_error = None;
        loaded.failed_at = None;
        loaded.restart_needed.clone_from(&restart_needed);
        loaded.token = token;
        restart_needed
    }

    /// Whether this is the content that was tried last.
    #[must_use]
    pub fn has_tried(&self, content: &Option<Vec<u8>>) -> bool {
        *self.tried.lock() == *content
    }

    /// What is known of the policy in force.
    #[must_use]
    pub fn loaded(&self) -> Loaded {
        self.loaded.lock().clone()
    }

    /// The proxy of one worker: its connections to the servers are its own.
    #[must_use]
    pub fn proxy(&self) -> Arc<Proxy> {
        Arc::new(Proxy {
            edition: self.edition.clone(),
            admission: self.admission.clone(),
            pools: Arc::new(Pools::new(self.dial.clone())),
            lifecycle: self.lifecycle.clone(),
            answers: self.answers.clone(),
            jobs: self.jobs.clone(),
            unrouted: Arc::new(self.metrics.route(NO_ROUTE)),
        })
    }

    /// The policy in force: the last one, but for what needs a restart.
    #[must_use]
    pub fn policy_in_force(&self) -> Policy {
        diff::in_force(&self.first, &self.edition.load().policy, self.jobs.get().map(|jobs| jobs.store_path()))
    }

    /// The durable queue, as soon as a policy has one. Cancel safe.
    pub async fn jobs_once_there(&self) -> Arc<Jobs> {
        let mut published = self.published.subscribe();
        loop {
            if let Some(jobs) = self.jobs.get() {
                return jobs.clone();
            }
            if published.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Runs jobs through `proxy`, in the runtime that calls this, once there is a queue of them. Never ends.
    pub async fn run_jobs(self: Arc<Self>, proxy: Arc<Proxy>) {
        self.jobs_once_there().await.work(Arc::new(JobRunner(proxy))).await;
    }

    /// Runs the health checks of whichever edition is in force. Never ends.
    pub async fn check_health(self: Arc<Self>) {
        let mut published = self.published.subscribe();
        loop {
            let upstreams = self.edition.load().upstreams.clone();
            let checks =
                upstreams.into_iter().map(|upstream| crate::upstream::health::check(upstream, self.dial.clone()));
            let checks = futures_util::future::join_all(checks);
            tokio::select! {
                changed = published.changed() => if changed.is_err() { return },
                () = async { checks.await; std::future::pending::<()>().await } => {}
            }
        }
    }
}

fn wire(generation: u64, policy: &Arc<Policy>, admission: &Admission, servers: &Registry, tls: &tls::Store) -> Edition {
    Edition {
        generation,
        policy: policy.clone(),
        gates: admission.reconcile(policy),
        upstreams: servers.reconcile(policy, |upstream| tls.outgoing(upstream)),
        known: KnownFields::of(policy),
    }
}

/// Shows the limits in force, and no others.
fn show_limits(metrics: &Metrics, policy: &Policy) {
    let limits = &metrics.concurrency_limit;
    limits.reset();
    limits.with_label_values(&["global"]).set(policy.limits.concurrency.into());
    for route in &policy.routes {
        if let Some(limit) = route.concurrency {
            limits.with_label_values(&[&format!("route:{}", route.name)]).set(limit.into());
        }
    }
    for upstream in &policy.upstreams {
        if let Some(limit) = upstream.effective_concurrency() {
            limits.with_label_values(&[&format!("upstream:{}", upstream.name)]).set(limit.into());
        }
    }
}

/// Reads the policy file and all files that it names, as a start would. One that cannot be read is a warning here: where
/// a policy is checked, its secrets often are not.
///
/// # Errors
/// Every problem of the file; and once it has none, every file that was read and is not what it should be.
pub fn check(file: &Path) -> Result<Compiled, Problems> {
    let mut compiled = compile::load(file)?;
    let name = file.to_string_lossy();
    let mut faulty = tls::Store::new(folder_of(file)).prepare(&compiled.policy, &name).err().unwrap_or_default();
    if let Err(error) = read_token(file, &compiled.policy) {
        let problem = token_problem(file, &compiled.policy, &error);
        if error.kind() == io::ErrorKind::InvalidData { &mut faulty.bad } else { &mut faulty.unread }.push(problem);
    }
    if !faulty.bad.is_empty() {
        return Err(Problems::new(faulty.bad));
    }
    compiled.warnings.extend(faulty.unread);
    Ok(compiled)
}

/// What paths in a policy file are relative to.
#[must_use]
pub fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

/// Opens the store at `place`, or where the policy says: as other files that it names, beside the policy file.
fn open_jobs(
    file: &Path,
    settings: &Background,
    place: Option<Place>,
    metrics: &Arc<Metrics>,
) -> Result<Arc<Jobs>, Problems> {
    let place = place.unwrap_or_else(|| Place::Folder(folder_of(file).join(&settings.store)));
    let shown = match &place {
        Place::Folder(folder) => folder.display().to_string(),
        _ => "memory".to_owned(),
    };
    Jobs::open(settings, place, metrics.clone())
        .map_err(|why| Problems::of_file(&file.to_string_lossy(), format!("background.store: {shown}: {why}")))
}

/// The admin token: the first line of its file, which stands beside the policy file unless its path is absolute.
///
/// # Errors
/// Whatever the system says; `InvalidData` when there is no token in it.
fn read_token(file: &Path, policy: &Policy) -> io::Result<Option<Arc<str>>> {
    let Some(named) = &policy.admin.token_file else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(folder_of(file).join(&named.path))?;
    let token = text.lines().next().unwrap_or("").trim();
    if token.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its first line is empty"));
    }
    Ok(Some(token.into()))
}

fn token_problem(file: &Path, policy: &Policy, error: &io::Error) -> Problem {
    let named = policy.admin.token_file.as_ref();
    let path = named.map_or(Path::new(""), |named| &named.path);
    let (at, key) = named.map_or((Position::START, ""), |named| (named.at, &*named.key));
    Fault::new(format!("`{}`: {error}", path.display())).at(&file.to_string_lossy(), at, key)
}

/// What the file names beside itself.
fn read_named(
    file: &Path,
    compiled: Compiled,
    tls: &tls::Store,
) -> Result<(Compiled, Option<Arc<str>>, tls::Prepared), Problems> {
    let policy = &compiled.policy;
    let token = read_token(file, policy).map_err(|error| Problems::new(vec![token_problem(file, policy, &error)]));
    let prepared = tls.prepare(policy, &file.to_string_lossy()).map_err(Problems::from);
    match (token, prepared) {
        (Ok(token), Ok(prepared)) => Ok((compiled, token, prepared)),
        (token, prepared) => {
            let problems = token.err().into_iter().chain(prepared.err()).flat_map(Problems::into_vec);
            Err(Problems::new(problems.collect()))
        }
    }
}
