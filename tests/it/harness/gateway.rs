//! The gateway as its operator has it: a process, a policy file, two ports, a log.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::client::{Connection, Request, Response, get};
use super::metrics::Metrics;
use super::recorder::Recorder;
use super::wait::{BOUND, within};

pub const BINARY: &str = env!("CARGO_BIN_EXE_turnwise");

pub struct Gateway {
    child: Child,
    exited: Option<ExitStatus>,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    folder: TempDir,
    log: Arc<Mutex<Vec<String>>>,
    token: Option<String>,
    started: Started,
}

/// With what it is started besides the policy.
#[derive(Debug, Clone, Default)]
pub struct Started {
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
}

impl Started {
    pub fn with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { arguments, environment }
    }
}

/// The address part of a policy's upstream: `{upstream}` in the text, and the block itself when the text has none.
fn complete(yaml: &str, listen: SocketAddr, admin: SocketAddr, upstream: &str) -> String {
    let has = |key: &str| yaml.lines().any(|line| line.starts_with(key));
    let mut text = String::new();
    for (key, block) in [
        ("listen:", "listen: {listen}\n"),
        ("admin:", "admin: { listen: \"{admin}\" }\n"),
        ("upstreams:", "upstreams: { agents: { servers: [\"{upstream}\"] } }\n"),
    ] {
        if !has(key) {
            text.push_str(block);
        }
    }
    text.push_str(yaml);
    let text = text.replace("{listen}", &listen.to_string()).replace("{admin}", &admin.to_string());
    text.replace("{upstream}", upstream)
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound socket")
}

impl Gateway {
    /// With the defaults in front of one upstream.
    #[track_caller]
    pub fn before(upstream: &Recorder) -> Self {
        Self::with(upstream, "")
    }

    /// With a policy in front of one upstream. `listen`, `admin` and `upstreams` are added unless the text has them;
    /// `{listen}`, `{admin}` and `{upstream}` (a URL) are filled in wherever they stand.
    #[track_caller]
    pub fn with(upstream: &Recorder, yaml: &str) -> Self {
        Self::start(&upstream.url(), yaml)
    }

    /// As [`Gateway::with`], in front of a URL.
    #[track_caller]
    pub fn start(upstream: &str, yaml: &str) -> Self {
        Self::laid_out(upstream, yaml, |folder, text| {
            std::fs::write(folder.join("gateway.yaml"), text).expect("a file");
        })
    }

    /// As [`Gateway::start`], with `gateway.yaml` brought into the folder in a way of the test's own.
    #[track_caller]
    pub fn laid_out(upstream: &str, yaml: &str, lay_out: impl Fn(&Path, &str)) -> Self {
        Self::all_said(upstream, yaml, lay_out, &Started::default())
    }

    /// As [`Gateway::with`], with arguments and environment.
    #[track_caller]
    pub fn started(upstream: &Recorder, yaml: &str, started: &Started) -> Self {
        let lay_out = |folder: &Path, text: &str| std::fs::write(folder.join("gateway.yaml"), text).expect("a file");
        Self::all_said(&upstream.url(), yaml, lay_out, started)
    }

    #[track_caller]
    fn all_said(upstream: &str, yaml: &str, lay_out: impl Fn(&Path, &str), started: &Started) -> Self {
        let mut said = Vec::new();
        for _ in 0..3 {
            match Self::try_start(upstream, yaml, &lay_out, started) {
                Ok(gateway) => return gateway,
                Err(log) => said.push(log),
            }
        }
        panic!("the gateway does not start:\n{}", said.join("\n"));
    }

    fn try_start(
        upstream: &str,
        yaml: &str,
        lay_out: &impl Fn(&Path, &str),
        started: &Started,
    ) -> Result<Self, String> {
        let (address, admin) = (free_port(), free_port());
        let folder = TempDir::new().expect("a folder");
        let policy = folder.path().join("gateway.yaml");
        lay_out(folder.path(), &complete(yaml, address, admin, upstream));
        let log = Arc::new(Mutex::new(Vec::new()));
        let child = spawn(folder.path(), &policy, &log, started);
        let started = started.clone();
        let mut gateway = Self { child, exited: None, address, admin, folder, log, token: None, started };
        if within(BOUND, || gateway.exit_status().is_some() || gateway.is_ready()) && gateway.exited.is_none() {
            return Ok(gateway);
        }
        std::thread::sleep(Duration::from_millis(50)); // the rest of the log
        let log = gateway.log();
        let _ = gateway.child.kill();
        let _ = gateway.child.wait();
        gateway.exited = Some(ExitStatus::default());
        Err(log)
    }

    /// Whether the admin port says that it is ready. A port that is not open yet is not.
    pub fn is_ready(&self) -> bool {
        std::net::TcpStream::connect(self.admin).is_ok() && {
            let mut connection = Connection::open(self.admin);
            connection.ask(&get("/-/ready"));
            connection.response_to("GET").is_some_and(|response| response.status == 200)
        }
    }

    /// Ends the process at once, as a kill, a crash or the kernel in need of memory does.
    #[track_caller]
    pub fn kill(&mut self) {
        self.child.kill().expect("our child");
        self.exited = Some(self.child.wait().expect("our child"));
    }

    /// Starts it once more, with the policy file as it is now.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.exit_status().is_some(), "it still runs");
        self.child = spawn(self.folder.path(), &self.policy_file(), &self.log, &self.started);
        self.exited = None;
        if !within(BOUND, || self.exit_status().is_some() || self.is_ready()) || self.exited.is_some() {
            panic!("the gateway does not start again:\n{}", self.log());
        }
    }

    // ---- clients

    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    #[track_caller]
    pub fn connect_from(&self, last: u8) -> Connection {
        Connection::open_from(Ipv4Addr::new(127, 0, 0, last), self.address)
    }

    /// Sends on a connection of its own; the answer is for later.
    #[track_caller]
    pub fn begin(&self, request: &Request) -> Connection {
        let mut connection = self.connect();
        connection.ask(request);
        connection
    }

    /// Sends on a connection of its own and waits for the answer.
    #[track_caller]
    pub fn ask(&self, request: &Request) -> Response {
        self.begin(request).response()
    }

    /// Sends exact bytes on a connection of their own.
    #[track_caller]
    pub fn say(&self, bytes: impl AsRef<[u8]>) -> Connection {
        let mut connection = self.connect();
        connection.send(bytes);
        connection
    }

    // ---- the operator

    /// Sends this token with everything that is asked of the admin port from now on.
    pub fn use_token(&mut self, token: &str) {
        self.token = Some(token.to_owned());
    }

    #[track_caller]
    pub fn admin(&self, request: &Request) -> Response {
        let request = match &self.token {
            Some(token) => request.clone().header("Authorization", &format!("Bearer {token}")),
            None => request.clone(),
        };
        let mut connection = Connection::open(self.admin);
        connection.ask(&request);
        connection.response()
    }

    #[track_caller]
    pub fn json(&self, path: &str) -> Value {
        self.admin(&get(path)).assert_ok().json()
    }

    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        Metrics { text: self.admin(&get("/metrics")).assert_ok().text() }
    }

    /// Sum of the series with these labels; a series that is not there yet counts 0.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().sum(name, labels).unwrap_or(0.0)
    }

    #[track_caller]
    pub fn wait_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        if !within(BOUND, || (self.metric(name, labels) - value).abs() < 1e-9) {
            panic!("{name}{labels:?} is {}, not {value}", self.metric(name, labels));
        }
    }

    /// Waits until so many requests wait for their session's turn.
    #[track_caller]
    pub fn wait_for_turn(&self, count: u64) {
        if !within(BOUND, || self.json("/status")["sessions"]["waiting"] == count) {
            panic!("not {count} wait for their turn: {}", self.json("/status"));
        }
    }

    /// Waits until so many requests wait for a place.
    #[track_caller]
    pub fn wait_for_place(&self, count: u64) {
        if !within(BOUND, || self.json("/status")["limits"]["waiting"] == count) {
            panic!("not {count} wait for a place: {}", self.json("/status"));
        }
    }

    // ---- the policy file

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn policy_file(&self) -> PathBuf {
        self.folder.path().join("gateway.yaml")
    }

    /// A policy for this gateway's ports.
    pub fn policy(&self, upstream: &Recorder, yaml: &str) -> String {
        complete(yaml, self.address, self.admin, &upstream.url())
    }

    /// Writes the policy file anew, in place.
    pub fn write_policy(&self, upstream: &Recorder, yaml: &str) {
        std::fs::write(self.policy_file(), self.policy(upstream, yaml)).expect("a file");
    }

    /// Writes the policy file anew and has it read at once.
    #[track_caller]
    pub fn reload(&self, upstream: &Recorder, yaml: &str) {
        self.write_policy(upstream, yaml);
        let answer = self.admin(&super::post("/-/reload", ""));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub fn generation(&self) -> f64 {
        self.metric("turnwise_config_generation", &[])
    }

    // ---- the process

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    #[track_caller]
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().expect("kill");
        assert!(status.success(), "the gateway can't be signalled");
    }

    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().expect("our child");
        }
        self.exited
    }

    /// Waits for its end.
    #[track_caller]
    pub fn exit_code(&mut self) -> i32 {
        if !within(BOUND, || self.exit_status().is_some()) {
            panic!("the gateway does not end:\n{}", self.log());
        }
        let status = self.exited.expect("just seen");
        status.code().unwrap_or_else(|| panic!("ended by a signal: {status}"))
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic while logging").join("\n")
    }

    /// Most and present resident memory in bytes.
    pub fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("Linux");
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of it");
            line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
        };
        (value("VmHWM:"), value("VmRSS:"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let alive = self.exit_status().is_none();
        if std::thread::panicking() {
            eprintln!("--- log of the gateway\n{}\n---", self.log());
        }
        let verdict = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            if alive && !std::thread::panicking() {
                self.assert_all_gauges_zero();
            }
        }));
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            return;
        }
        if let Err(failure) = verdict {
            std::panic::resume_unwind(failure);
        }
        assert!(!self.log().contains("panicked at"), "the gateway panicked:\n{}", self.log());
    }
}

fn spawn(folder: &Path, policy: &Path, log: &Arc<Mutex<Vec<String>>>, started: &Started) -> Child {
    let mut child = Command::new(BINARY)
        .args(["serve", "--log-format", "json", "-c"])
        .arg(policy)
        .args(&started.arguments)
        .envs(started.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary");
    collect(child.stderr.take().expect("piped"), log);
    child
}

fn collect(stderr: impl Read + Send + 'static, log: &Arc<Mutex<Vec<String>>>) {
    let filled = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            filled.lock().expect("no panic while logging").push(line);
        }
    });
}
