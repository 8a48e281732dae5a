//! The gateway under test.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinHandle;
use turnwise::background::Place;
use turnwise::control::Control;
use turnwise::policy::compile;
use turnwise::server::{Caller, Service, serve};

use super::{Agent, Answer, Client, later, settle};

/// Octets that a connection holds in each direction.
const BUFFER: usize = 16 * 1024;

/// What every test's policy begins with: one agent.
pub const ONE_AGENT: &str = "upstreams: {agents: {servers: ['http://agent:80']}}\n";

/// A gateway in memory, its agent, and the policy file.
pub struct House {
    pub control: Arc<Control>,
    pub agent: Agent,
    service: Service,
    folder: tempfile::TempDir,
    tasks: Vec<JoinHandle<()>>,
}

impl House {
    pub fn new(policy: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("gateway.yaml");
        std::fs::write(&file, policy).expect("a file");
        let compiled = compile::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
        let agent = Agent::default();
        let control = Control::with_store(file, compiled, Arc::new(agent.clone()), Some(Place::Memory));
        let control = control.expect("it has no token file, and no disk");
        let service = Service { proxy: control.proxy(), stage: control.stage.subscribe() };
        let tasks = vec![tokio::spawn(control.clone().run_jobs(control.proxy()))];
        Self { control, agent, service, folder, tasks }
    }

    /// With [`ONE_AGENT`] before `policy`.
    pub fn with_one_agent(policy: &str) -> Self {
        Self::new(&format!("{ONE_AGENT}{policy}"))
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("gateway.yaml")
    }

    /// Replaces the policy.
    #[track_caller]
    pub fn reload(&self, policy: &str) {
        std::fs::write(self.file(), policy).expect("a file");
        self.control.reload().unwrap_or_else(|problems| panic!("{problems}"));
    }

    /// Checks the servers' health from now on.
    pub fn check_health(&mut self) {
        self.tasks.push(tokio::spawn(self.control.clone().check_health()));
    }

    /// A new client, with an address that ends in `number`.
    pub fn client_from(&self, number: u8) -> Client {
        self.client_with(number, BUFFER)
    }

    /// A new client whose connection holds `buffer` octets.
    pub fn client_with(&self, number: u8, buffer: usize) -> Client {
        Client::new(self.stream(number, buffer))
    }

    /// The client's end of a new connection.
    pub fn stream(&self, number: u8, buffer: usize) -> tokio::io::DuplexStream {
        let (ours, theirs) = tokio::io::duplex(buffer);
        let caller = Caller::plain(([10, 0, 0, number], 1234).into());
        tokio::spawn(serve(theirs, caller, self.service.clone()));
        ours
    }

    pub fn client(&self) -> Client {
        self.client_from(1)
    }

    /// Sends a GET for `target` with `fields` from a client of its own.
    pub fn get(&self, target: &str, fields: &str) -> Asked {
        self.ask_from(1, "GET", target, fields, "")
    }

    /// A GET in `session`, which the agent's record shows as `id`.
    pub fn turn(&self, session: &str, id: impl std::fmt::Display, target: &str) -> Asked {
        self.get(target, &format!("X-Session-Id: {session}\r\nX-Id: {id}\r\n"))
    }

    pub fn ask_from(&self, number: u8, method: &str, target: &str, fields: &str, body: &str) -> Asked {
        let mut client = self.client_from(number);
        let [method, target, fields, body] = [method, target, fields, body].map(str::to_owned);
        Asked(tokio::spawn(async move {
            client.request(&method, &target, &fields, &body).await;
            client.answer().await
        }))
    }

    /// The sum of all samples of a metric, of which the labels contain `part`.
    pub fn metric(&self, name: &str, part: &str) -> f64 {
        let text = String::from_utf8(self.control.metrics.text()).expect("metrics are text");
        let samples =
            text.lines().filter_map(|line| line.strip_prefix(name)).filter(|rest| rest.starts_with(['{', ' ']));
        let samples = samples.filter(|rest| rest.contains(part)).filter_map(|rest| rest.rsplit_once(' '));
        samples.map(|(_, value)| value.parse::<f64>().expect("a number")).sum()
    }

    /// The end of every test: nothing is held, nobody waits, nothing is remembered.
    pub async fn at_rest(self) {
        settle().await;
        let admission = &self.control.admission;
        assert_eq!(admission.roll.len(), 0, "requests on the roll");
        assert_eq!((admission.gate.in_use(), admission.gate.waiting()), (0, 0), "places in use, waiting for one");
        assert_eq!((admission.sessions.active(), admission.sessions.waiting()), (0, 0), "sessions, waiting for a turn");
        assert_eq!(admission.held.total(), 0, "bytes held");
        for upstream in &self.control.edition.load().upstreams {
            for server in &upstream.servers {
                let (open, idle) = server.connections();
                assert_eq!(
                    (server.in_flight(), open - idle),
                    (0, 0),
                    "in flight, connections in use at {}",
                    server.url
                );
            }
        }
        for gauge in ["turnwise_in_flight_requests", "turnwise_waiting_requests"] {
            assert_eq!(self.metric(gauge, ""), 0.0, "{gauge}");
        }
        assert_eq!(self.agent.running(), 0, "the agent is still at work");
        if let Some(jobs) = self.control.jobs.get() {
            assert!(jobs.is_at_rest(), "jobs run");
        }
        // Long enough for every bucket to be full again.
        later(100_000.0).await;
        admission.sweep();
        assert_eq!(admission.rate_limit_keys(), 0, "rate-limit keys");
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A request under way. Dropping it leaves it running; [`leave`](Self::leave) hangs up.
pub struct Asked(JoinHandle<Answer>);

impl Asked {
    pub async fn answer(self) -> Answer {
        self.0.await.expect("no client panics")
    }

    pub async fn status(self) -> u16 {
        self.answer().await.status
    }

    pub fn is_answered(&self) -> bool {
        self.0.is_finished()
    }

    /// The client hangs up.
    pub fn leave(self) {
        self.0.abort();
    }
}
