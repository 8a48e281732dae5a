//! What the policy file means.
//!
//! A [`Policy`] is immutable: it is compiled once from a [`config::Document`](crate::config) and then shared. Every
//! request takes one snapshot on arrival and keeps it to its end, however often the file is reloaded meanwhile.
//!
//! Units are carried by the types: durations are [`Duration`], sizes are bytes, limits are counts of requests.
//! Nothing in here is zero unless its documentation says what zero means.

pub mod background;
pub mod compile;
pub mod diff;
pub mod matching;
pub mod path;
pub mod reference;
pub mod shown;

pub use background::{Background, Later};
pub use matching::{InDoubt, Target};
pub use path::{NormalPath, PathProblem};

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;

use crate::config::Position;

/// Everything that one policy file says, with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Public addresses. Changing them needs a restart. Never empty.
    pub listen: Vec<Listener>,
    pub admin: Admin,
    pub server: Server,
    pub limits: Limits,
    /// In the order of the file; a route names one by its index.
    pub upstreams: Vec<Arc<Upstream>>,
    /// First match wins. Never empty.
    pub routes: Vec<Arc<Route>>,
    /// The durable queue; `None` without one.
    pub background: Option<Background>,
}

/// A public address.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    pub address: SocketAddr,
    pub tls: Option<Arc<ListenerTls>>,
    /// Each connection begins with a header of the PROXY protocol, which says whose it is.
    pub proxy_protocol: bool,
}

/// How TLS is spoken with clients.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListenerTls {
    /// For clients that name no host, or one that no certificate is for.
    pub identity: Identity,
    /// For clients that name (SNI) a host of theirs.
    pub others: Vec<Identity>,
    /// Clients must show a certificate of one of these authorities.
    pub client_ca: Option<NamedFile>,
}

/// How TLS is spoken with the `https` servers of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct UpstreamTls {
    /// Who vouches for the servers; `None`: the authorities of the system.
    pub ca: Option<NamedFile>,
    /// Shown to servers that ask for a certificate.
    pub identity: Option<Identity>,
    /// The name in the servers' certificates; `None`: the host of each URL.
    pub server_name: Option<Arc<str>>,
}

/// A certificate (with those between it and its authority) and its private key, as PEM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    pub cert: NamedFile,
    pub key: NamedFile,
}

/// A file that the policy names, and where it does. Two that name the same file are equal.
#[derive(Debug, Clone)]
pub struct NamedFile {
    /// As written: relative to the folder of the policy file.
    pub path: PathBuf,
    pub at: Position,
    /// As in `listen[0].tls.cert`.
    pub key: Arc<str>,
}

impl PartialEq for NamedFile {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for NamedFile {}

impl Hash for NamedFile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.path.hash(state);
    }
}

/// The port for operators: metrics, health, sessions, reload.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Changing it needs a restart.
    pub listen: SocketAddr,
    /// File whose first line is the bearer token; read anew at each reload.
    pub token_file: Option<NamedFile>,
}

/// How connections of clients are treated.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Threads that serve connections; at least 1. Changing it needs a restart.
    pub workers: usize,
    pub max_connections: usize,
    /// From the first byte of a connection (or from its acceptance) to the end of the request head.
    pub header_timeout: Duration,
    /// How long a connection may stay without a request.
    pub keep_alive_timeout: Duration,
    /// Request line and all fields together, in bytes.
    pub max_header_bytes: usize,
    pub drain_delay: Duration,
    pub drain_timeout: Duration,
    /// Peers whose `X-Forwarded-For` and `Forwarded` are believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// Limits across all routes.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Requests at the upstreams at once.
    pub concurrency: u32,
    /// Requests waiting for a place.
    pub queue: u32,
    /// Bytes of request bodies held for requests that wait for a turn or a place.
    pub queue_bytes: u64,
    pub queue_timeout: Duration,
    /// `None`: one line for all.
    pub fair_by: Option<FairBy>,
    /// Part of `queue` and of `queue_bytes` that one fairness key may hold, in percent: 1 to 100.
    pub queue_share: u8,
    /// Sessions and rate-limit keys remembered at once.
    pub keys: usize,
}

/// Whom free places go round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FairBy {
    ClientIp,
    Header(HeaderName),
}

/// A group of equal servers behind one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    pub name: Arc<str>,
    /// Never empty.
    pub servers: Vec<UpstreamServer>,
    /// At once at all its servers together.
    pub concurrency: Option<u32>,
    pub balance: Balance,
    pub connect_timeout: Duration,
    pub pool: Pool,
    pub health: Option<HealthCheck>,
    pub eject: Eject,
    pub retry: Retry,
    /// Speak HTTP/2 to the servers: with prior knowledge, or by ALPN where they are `https`.
    pub http2: bool,
    /// For those of its servers that are `https`.
    pub tls: UpstreamTls,
}

impl Upstream {
    /// What can run at once at all: the upstream's own limit, or less where all its servers have limits that add up to
    /// less. Waiting for a place then comes instead of holding one and waiting for a server. Not with
    /// [`Balance::Session`]: there the sessions of one server must not keep back those of another.
    #[must_use]
    pub fn effective_concurrency(&self) -> Option<u32> {
        if self.balance == Balance::Session {
            return self.concurrency;
        }
        let servers: Option<u32> = self.servers.iter().map(|server| server.concurrency).sum();
        match (self.concurrency, servers) {
            (Some(own), Some(servers)) => Some(own.min(servers)),
            (own, servers) => own.or(servers),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamServer {
    /// As written, without user information; the `server` label of metrics.
    pub url: Arc<str>,
    /// Host name or address literal, without brackets.
    pub host: Arc<str>,
    pub port: u16,
    /// Speaks TLS.
    pub https: bool,
    /// 1 to 1000.
    pub weight: u32,
    pub concurrency: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    LeastInflight,
    RoundRobin,
    /// Same session, same server, while it is healthy (rendezvous hashing).
    Session,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Idle connections kept to each server, by each worker.
    pub max_idle: usize,
    pub idle_timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Path and query, starts with `/`.
    pub path: Arc<str>,
    pub interval: Duration,
    pub timeout: Duration,
    /// Successes in a row that make a server healthy again; at least 1.
    pub healthy_after: u32,
    /// Failures in a row that make it unhealthy; at least 1.
    pub unhealthy_after: u32,
}

/// Passive ejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eject {
    /// Failures in a row; at least 1.
    pub after_failures: u32,
    pub duration: Duration,
}

/// Retries of requests that were certainly not processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Tries in all, the first included; at least 1.
    pub attempts: u32,
    pub on_connect: bool,
    pub on_429: bool,
    pub on_503: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    pub name: Arc<str>,
    pub matching: Match,
    /// Index into [`Policy::upstreams`].
    pub upstream: usize,
    pub priority: Priority,
    /// Takes no turn and no place.
    pub exempt: bool,
    pub concurrency: Option<u32>,
    /// Longest request body in bytes.
    pub body_limit: u64,
    pub session: Option<Session>,
    pub rate_limits: Vec<Arc<RateLimit>>,
    pub timeouts: Timeouts,
    pub abandoned: Abandoned,
    pub abandoned_limit: Duration,
    pub background: Later,
}

/// Which requests a route is for. All that is given must hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Match {
    pub path: PathMatch,
    /// Empty: any method.
    pub methods: Vec<Method>,
    /// Lower case, without port. Empty: any host.
    pub hosts: Vec<String>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum PathMatch {
    #[default]
    Any,
    /// Whole segments: `/api` matches `/api` and `/api/x`, not `/apix`. Without a trailing slash.
    Prefix(String),
    /// Segment for segment.
    Pattern(Vec<Segment>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    Literal(String),
    /// `{name}`: exactly one non-empty segment.
    Variable(String),
}

/// Class at the global gate. Ordered: `High` is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    Low,
    Normal,
    High,
}

/// How requests of one conversation take turns.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// The first one present wins. Never empty.
    pub key: Vec<KeySource>,
    /// Made part of the key.
    pub within: Vec<KeySource>,
    /// Routes of one lane take turns together.
    pub lane: Arc<str>,
    pub anonymous: Anonymous,
    pub assign: Option<Assign>,
    /// Running at once for one key.
    pub concurrency: NonZeroU32,
    /// Waiting for one key. At least 1.
    pub queue: u32,
    pub queue_timeout: Duration,
    pub when_busy: WhenBusy,
    /// What a request may choose instead, in `Turnwise-When-Busy`.
    pub when_busy_choices: Vec<WhenBusy>,
    /// Requests that one of these makes while it runs may be nested in it.
    pub reentrant: bool,
    /// Whoever waits for long and listens for events hears of it.
    pub waits_aloud: bool,
    /// `None`: equal requests have nothing to do with one another.
    pub join: Option<Join>,
}

/// What a request does that would have to wait for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenBusy {
    Wait,
    /// It is refused.
    Reject,
    /// Those who wait end, and it waits in their stead.
    Replace,
    /// As `Replace`, and the one that runs ends too.
    Interrupt,
}

impl WhenBusy {
    /// All, each with the policy's word for it.
    pub const WORDS: [(&'static str, Self); 4] =
        [("wait", Self::Wait), ("reject", Self::Reject), ("replace", Self::Replace), ("interrupt", Self::Interrupt)];

    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS[self as usize].0
    }
}

/// Equal requests share one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Join {
    /// How long a finished answer still serves equal requests. Zero: not at all.
    pub replay_for: Duration,
}

impl Session {
    /// Everything that a key is made of.
    pub fn sources(&self) -> impl Iterator<Item = &KeySource> {
        self.key.iter().chain(&self.within)
    }

    /// Whether the key can only be known once the whole body is there.
    #[must_use]
    pub fn reads_body(&self) -> bool {
        self.key.iter().chain(&self.within).any(|source| matches!(source, KeySource::Json(_) | KeySource::Form(_)))
    }
}

/// Where a part of a session key stands in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    Header(HeaderName),
    /// Decoded reference tokens of a JSON pointer (RFC 6901).
    Json(Vec<String>),
    /// Field of an urlencoded or multipart form.
    Form(String),
    Query(String),
    Cookie(String),
    /// Variable of the route's path pattern.
    Path(String),
}

/// What becomes of a request without a session key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anonymous {
    /// Each its own session.
    Separate,
    /// All of them take turns.
    Shared,
    /// Refused with 400.
    Reject,
}

/// Where a separate anonymous request gets its made-up key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assign {
    Header(HeaderName),
    /// Decoded reference tokens of a JSON pointer; parents must exist, the member is added or replaced.
    Json(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// As it appears in the `RateLimit` fields. Unique within its route.
    pub name: Arc<str>,
    pub per: RatePer,
    pub rate: Rate,
    /// Requests that may come at once. At least 1.
    pub burst: NonZeroU32,
    pub when_exceeded: WhenExceeded,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RatePer {
    Session,
    ClientIp,
    Route,
    Header(HeaderName),
}

/// `count` requests in each `period`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub count: NonZeroU32,
    pub period: Duration,
}

impl Rate {
    /// Time after which one token comes back.
    #[must_use]
    pub fn interval(self) -> Duration {
        (self.period / self.count.get()).max(Duration::from_nanos(1))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenExceeded {
    Reject,
    Wait {
        /// Waiting for one key. At least 1.
        queue: u32,
        queue_timeout: Duration,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// The client's whole body.
    pub request: Duration,
    /// From the upstream having the request to its response head.
    pub response: Duration,
    /// Between two pieces of a body, or until a stalled reader takes the next.
    pub idle: Duration,
    /// All of it, from admission to the last byte. Zero: none.
    pub total: Duration,
}

/// What becomes of work at the upstream when its client has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandoned {
    Finish,
    Cancel,
    /// `Finish` before the response head, `Cancel` after it.
    Auto,
}
