//! The scripted agent. A request's query says what becomes of it:
//!
//! | word | meaning | default |
//! |---|---|---|
//! | `think` | seconds before the response head | 0 |
//! | `pieces`, `size` | pieces of the body, and their bytes | 1, 2 |
//! | `every` | seconds before each piece | 0 |
//! | `then` | after the last piece: `end`, `hang`, `break` | `end` |
//! | `status` | of the response | 200 |
//! | `type` | its content type | none |
//!
//! It reads the whole request before it thinks, and stops when it is hung up on.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use turnwise::upstream::connect::{Dial, Dialling, Stream};

/// More than any test needs.
const MOST_DIALS: usize = 10_000;

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";

/// What happens to a connection to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Door {
    #[default]
    Open,
    Refused,
    /// Nobody answers.
    Silent,
    /// Accepted, and closed at once.
    Slammed,
    /// Accepted, and closed when a request has come.
    Swallows,
    /// Answers with these octets, whatever comes, and keeps the connection.
    Raw(&'static str),
    /// Switches protocols, and then says back what it is told.
    Echo,
}

/// One request as the agent saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub session: String,
    pub id: String,
    pub host: String,
    /// Its `Turnwise-Turn`.
    pub token: String,
    /// It is counted in no tag (its `X-Uncounted`).
    pub uncounted: bool,
    /// Whether it was hung up on.
    pub hung_up: bool,
}

#[derive(Debug, Default)]
struct State {
    doors: HashMap<String, Door>,
    http2: HashSet<String>,
    seen: Vec<Seen>,
    now: HashMap<String, usize>,
    most: HashMap<String, usize>,
    /// The ids of those who are at work.
    at_work: Vec<String>,
    allowed: HashMap<String, usize>,
    verdicts: Vec<String>,
    dials: usize,
}

/// The agent at the end of every connection to a server.
#[derive(Debug, Clone, Default)]
pub struct Agent(Arc<Mutex<State>>);

impl Agent {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn set_door(&self, host: &str, door: Door) {
        self.state().doors.insert(host.into(), door);
    }

    /// `host` speaks HTTP/2 with prior knowledge.
    pub fn speaks_http2(&self, host: &str) {
        self.state().http2.insert(host.into());
    }

    /// Every request so far, in the order in which they came.
    pub fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// The ids of all requests so far, in the order in which they came.
    pub fn order(&self) -> Vec<String> {
        self.state().seen.iter().map(|seen| seen.id.clone()).collect()
    }

    /// The `Turnwise-Turn` of each request that is at work and has one.
    pub fn tokens_at_work(&self) -> Vec<String> {
        let state = self.state();
        let at_work = state.seen.iter().filter(|seen| !seen.token.is_empty() && state.at_work.contains(&seen.id));
        at_work.map(|seen| seen.token.clone()).collect()
    }

    pub fn running(&self) -> usize {
        self.now("all")
    }

    /// From now on no request may begin that makes it more than `most` at once of what is counted as `tag`.
    pub fn allow(&self, tag: &str, most: usize) {
        self.state().allowed.insert(tag.into(), most);
    }

    /// What began though it was not allowed.
    pub fn verdicts(&self) -> Vec<String> {
        self.state().verdicts.clone()
    }

    /// At once now, of what is counted as `tag`: `all`, `session:S`, `path:/P`, `host:H`, `tag:T` (its `X-Tag`).
    pub fn now(&self, tag: &str) -> usize {
        self.state().now.get(tag).copied().unwrap_or(0)
    }

    /// The most at once so far, of what is counted as `tag`.
    pub fn most(&self, tag: &str) -> usize {
        self.state().most.get(tag).copied().unwrap_or(0)
    }

    /// Connections that were asked for.
    pub fn dials(&self) -> usize {
        self.state().dials
    }

    fn begin(&self, host: &str, request: &Request<Incoming>) -> Work {
        let header = |name| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
        let session = header("x-session-id");
        let mut tags = vec!["all".into(), format!("path:{}", request.uri().path()), format!("host:{host}")];
        for (kind, name) in [("session", &session), ("tag", &header("x-tag"))] {
            if !name.is_empty() {
                tags.push(format!("{kind}:{name}"));
            }
        }
        let id = header("x-id");
        let uncounted = !header("x-uncounted").is_empty();
        if uncounted {
            tags.clear();
        }
        let mut state = self.state();
        let state = &mut *state;
        for tag in &tags {
            let now = state.now.entry(tag.clone()).or_default();
            *now += 1;
            let now = *now;
            let most = state.most.entry(tag.clone()).or_default();
            *most = now.max(*most);
            if let Some(allowed) = state.allowed.get(tag).filter(|allowed| now > **allowed) {
                let others = &state.at_work;
                let verdict =
                    format!("request {id} made it {now} of {tag} beside {others:?}, where {allowed} are allowed");
                state.verdicts.push(verdict);
            }
        }
        let host = host.to_owned();
        state.at_work.push(id.clone());
        let token = header("turnwise-turn");
        state.seen.push(Seen { session, id, host, token, uncounted, hung_up: false });
        Work { agent: self.clone(), number: state.seen.len() - 1, tags, done: false }
    }

    async fn answer(
        self,
        host: String,
        request: Request<Incoming>,
    ) -> Result<Response<UnsyncBoxBody<Bytes, io::Error>>, Infallible> {
        let work = self.begin(&host, &request);
        let query = request.uri().query().unwrap_or("").to_owned();
        let script = Script::of(&query);
        let kind = query.split('&').find_map(|part| part.strip_prefix("type="));
        if request.into_body().collect().await.is_err() {
            // The body broke; nobody waits for this answer.
            return Ok(Response::new(http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()));
        }
        tokio::time::sleep(script.think).await;
        let status = script.status;
        let body = StreamBody::new(stream::unfold((work, script, 0), |(work, script, sent)| async move {
            if sent == script.pieces {
                match script.then {
                    Then::End => {
                        work.finish();
                        return None;
                    }
                    Then::Hang => std::future::pending::<()>().await,
                    Then::Break => return Some((Err(io::Error::other("broken")), (work, script, sent + 1))),
                }
            }
            if !script.every.is_zero() {
                tokio::time::sleep(script.every).await;
            }
            let piece = Bytes::from(vec![b'x'; script.size]);
            Some((Ok(Frame::data(piece)), (work, script, sent + 1)))
        }));
        let mut response = Response::new(body.boxed_unsync());
        if let Some(kind) = kind {
            response.headers_mut().insert(http::header::CONTENT_TYPE, kind.parse().expect("a field value"));
        }
        *response.status_mut() = http::StatusCode::from_u16(status).expect("scripts name valid codes");
        Ok(response)
    }

    async fn serve(self, host: String, door: Door, mut stream: DuplexStream) {
        let http2 = self.state().http2.contains(&host);
        match door {
            Door::Open => {
                let service = hyper::service::service_fn(move |request| self.clone().answer(host.clone(), request));
                // An error is a peer that hung up, which tests see in other ways.
                if http2 {
                    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                } else {
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                }
            }
            Door::Refused | Door::Silent | Door::Slammed => {}
            Door::Swallows => {
                let _ = stream.read(&mut [0; 4096]).await;
            }
            Door::Raw(octets) => {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(octets.as_bytes()).await;
                let _ = stream.read(&mut [0; 4096]).await;
            }
            Door::Echo => {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(SWITCHING.as_bytes()).await;
                let (mut read, mut write) = tokio::io::split(stream);
                let _ = tokio::io::copy(&mut read, &mut write).await;
            }
        }
    }
}

impl Dial for Agent {
    fn dial(&self, host: &str, _port: u16) -> Dialling {
        let (agent, host) = (self.clone(), host.to_owned());
        let door = {
            let mut state = self.state();
            state.dials += 1;
            let door = state.doors.get(&host).copied().unwrap_or_default();
            // Whoever comes back at once, again and again, would keep the clock from moving.
            if state.dials > MOST_DIALS { Door::Silent } else { door }
        };
        Box::pin(async move {
            match door {
                Door::Refused => return Err(io::ErrorKind::ConnectionRefused.into()),
                Door::Silent => std::future::pending::<()>().await,
                Door::Open | Door::Slammed | Door::Swallows | Door::Raw(_) | Door::Echo => {}
            }
            let (ours, theirs) = tokio::io::duplex(16 * 1024);
            tokio::spawn(agent.serve(host, door, theirs));
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }
}

/// One request at work; its drop is its end.
struct Work {
    agent: Agent,
    number: usize,
    tags: Vec<String>,
    done: bool,
}

impl Work {
    /// The answer has been given whole.
    fn finish(mut self) {
        self.done = true;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let mut state = self.agent.state();
        for tag in &self.tags {
            *state.now.get_mut(tag).expect("it was counted in") -= 1;
        }
        let State { seen, at_work, .. } = &mut *state;
        let seen = &mut seen[self.number];
        at_work.retain(|id| *id != seen.id);
        seen.hung_up = !self.done;
    }
}

#[derive(Debug, Clone, Copy)]
enum Then {
    End,
    Hang,
    Break,
}

#[derive(Debug, Clone, Copy)]
struct Script {
    think: Duration,
    pieces: u64,
    size: usize,
    every: Duration,
    then: Then,
    status: u16,
}

impl Script {
    fn of(query: &str) -> Self {
        let value = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        let number = |name: &str, default: f64| value(name).map_or(default, |text| text.parse().expect("a number"));
        Self {
            think: Duration::from_secs_f64(number("think", 0.0)),
            pieces: number("pieces", 1.0) as u64,
            size: number("size", 2.0) as usize,
            every: Duration::from_secs_f64(number("every", 0.0)),
            then: match value("then") {
                None | Some("end") => Then::End,
                Some("hang") => Then::Hang,
                Some("break") => Then::Break,
                Some(other) => panic!("no script says `then={other}`"),
            },
            status: number("status", 200.0) as u16,
        }
    }
}
