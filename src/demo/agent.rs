//! A sample agent API with the faults that such APIs have.
//!
//! It is correct while its requests take turns, and breaks when they do not. Nothing in here knows of the gateway:
//!
//! - A turn reads its conversation, waits for its model, and writes the conversation back with the new message. Two turns of one
//!   conversation at once lose a message.
//! - More than three requests at once are more than its model can take: they get a 500.
//! - It does not notice when a client hangs up, and finishes its work; but for a stream, whose next piece fails.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::stress::judge::{Executed, Record};
use crate::sync::Mutex;
use crate::time;

/// What its model takes for one answer, by what it is asked: from the shortest time on, in some steps.
const SHORTEST: Duration = Duration::from_millis(30);
const STEP: Duration = Duration::from_millis(5);
const STEPS: u64 = 9;
/// Of a streamed answer.
const WORDS: u32 = 5;
/// Requests that its model takes at once.
const AT_ONCE: usize = 3;
/// Bytes of a request.
const MOST: usize = 1024 * 1024;
/// Messages that it remembers of one conversation, and conversations.
const MOST_MESSAGES: usize = 10_000;
const MOST_CONVERSATIONS: usize = 100_000;

#[derive(Debug, Deserialize)]
struct Run {
    message_content: String,
    #[serde(default = "nameless")]
    session_name: String,
}

/// How long its model takes: the same for the same message.
fn thinks(run: &Run) -> Duration {
    let steps = run.message_content.bytes().fold(7_u64, |sum, octet| sum.wrapping_mul(31).wrapping_add(octet.into()));
    SHORTEST + STEP * u32::try_from(steps % STEPS).unwrap_or(0)
}

fn nameless() -> String {
    "nameless".to_owned()
}

#[derive(Debug, Default)]
struct Memory {
    conversations: BTreeMap<String, Vec<String>>,
    record: Record,
    at_work: usize,
    peak: usize,
    made: u64,
}

/// The agent. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Agent {
    memory: Arc<Mutex<Memory>>,
    began: Instant,
}

type Answer = Response<Either<Full<Bytes>, Words>>;

impl Agent {
    /// Answers on `listener` in a thread of its own, until the process ends.
    ///
    /// # Errors
    /// When a thread or a runtime cannot be had.
    pub fn start(listener: std::net::TcpListener) -> std::io::Result<()> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(async { TcpListener::from_std(listener) })?;
        let agent = Self { memory: Arc::default(), began: time::now() };
        let serve = move || runtime.block_on(agent.serve(listener));
        std::thread::Builder::new().name("agent".to_owned()).spawn(serve).map(drop)
    }

    async fn serve(self, listener: TcpListener) {
        loop {
            // What is wrong with one connection is no matter of the next one; out of files, a moment helps.
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let agent = self.clone();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(|request| {
                    let agent = agent.clone();
                    // In a task of its own, so that it goes on when its client has gone.
                    async move {
                        Ok::<_, Infallible>(tokio::spawn(agent.answer(request)).await.unwrap_or_else(|_| broken()))
                    }
                });
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                // A client that hangs up is no news.
                let _ = connection.await;
            });
        }
    }

    fn seconds(&self) -> f64 {
        time::now().saturating_duration_since(self.began).as_secs_f64()
    }

    async fn answer(self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, MOST).collect().await.map(http_body_util::Collected::to_bytes);
        let path = head.uri.path();
        let agent_call = path.strip_prefix("/api/v1/agent/").and_then(|rest| rest.split_once('/'));
        match (&head.method, path, agent_call) {
            (&Method::POST, _, Some((agent, kind @ ("run" | "stream")))) => {
                match body.ok().and_then(|body| serde_json::from_slice::<Run>(&body).ok()) {
                    Some(run) if kind == "run" => self.run(agent, run).await,
                    Some(run) => self.stream(run),
                    None => said(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "detail": "message_content is missing" })),
                }
            }
            (&Method::POST, "/api/v1/users" | "/api/v1/memories", _) => {
                let mut memory = self.memory.lock();
                memory.made += 1;
                said(StatusCode::CREATED, &json!({ "id": memory.made }))
            }
            (&Method::POST, "/reset", _) => {
                *self.memory.lock() = Memory::default();
                said(StatusCode::OK, &json!({}))
            }
            (&Method::GET, _, _) => self.read(path),
            _ => said(StatusCode::NOT_FOUND, &json!({ "detail": "Not Found" })),
        }
    }

    fn read(&self, path: &str) -> Answer {
        let memory = self.memory.lock();
        let value = match path {
            "/health" => json!({ "status": "healthy", "processing": memory.at_work }),
            "/peak" => json!({ "peak": memory.peak }),
            "/record" => serde_json::to_value(&memory.record).unwrap_or_default(),
            "/conversations" => json!(memory.conversations),
            "/api/v1/agent/list" => json!([{ "name": "simple_agent" }]),
            "/api/v1/sessions" => {
                let sessions = memory.conversations.iter().take(100);
                sessions.map(|(name, messages)| json!({ "session_name": name, "messages": messages.len() })).collect()
            }
            _ => match path.strip_prefix("/api/v1/sessions/") {
                Some(name) => json!({ "session_name": name, "messages": memory.conversations.get(name) }),
                None => return said(StatusCode::NOT_FOUND, &json!({ "detail": "Not Found" })),
            },
        };
        said(StatusCode::OK, &value)
    }

    async fn run(&self, agent: &str, run: Run) -> Answer {
        let Some(turn) = Turn::begin(self, &run) else {
            tokio::time::sleep(STEP).await;
            return overloaded();
        };
        tokio::time::sleep(thinks(&run)).await;
        let history = turn.end();
        said(
            StatusCode::OK,
            &json!({
                "agent": agent,
                "session_name": run.session_name,
                "message": format!("I have read {history} messages"),
                "history": history,
            }),
        )
    }

    fn stream(&self, run: Run) -> Answer {
        let Some(turn) = Turn::begin(self, &run) else { return overloaded() };
        let (say, words) = mpsc::channel(1);
        let (history, thinks) = (turn.history.len(), thinks(&run));
        tokio::spawn(async move {
            for word in ["I", "have", "read", &history.to_string(), "messages"] {
                tokio::time::sleep(thinks / WORDS).await;
                if say.send(format!("data: {word}\n\n").into()).await.is_err() {
                    return turn.client_has_gone();
                }
            }
            turn.end();
            // Nobody hears it only if the client has gone now.
            let _ = say.send("data: [DONE]\n\n".into()).await;
        });
        let mut answer = Response::new(Either::Right(Words(words)));
        answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/event-stream"));
        answer
    }
}

/// One turn of a conversation, as the agent takes it: without asking whether another one is on its way.
struct Turn {
    agent: Agent,
    session: String,
    message: String,
    /// As it was when the turn began.
    history: Vec<String>,
    /// Its place in the record of the session.
    place: usize,
}

impl Turn {
    /// `None`: the model is overloaded.
    fn begin(agent: &Agent, run: &Run) -> Option<Self> {
        let mut locked = agent.memory.lock();
        let memory = &mut *locked;
        let is_known = memory.conversations.contains_key(&run.session_name);
        if memory.at_work >= AT_ONCE || (!is_known && memory.conversations.len() >= MOST_CONVERSATIONS) {
            return None;
        }
        memory.at_work += 1;
        memory.peak = memory.peak.max(memory.at_work);
        let entries = memory.record.entry(run.session_name.clone()).or_default();
        if entries.len() >= MOST_MESSAGES {
            entries.clear();
        }
        entries.push(Executed {
            message: run.message_content.clone(),
            start: agent.seconds(),
            end: None,
            client_gone: false,
        });
        let place = entries.len() - 1;
        let history = memory.conversations.get(&run.session_name).cloned().unwrap_or_default();
        drop(locked);
        let (session, message) = (run.session_name.clone(), run.message_content.clone());
        Some(Self { agent: agent.clone(), session, message, history, place })
    }

    /// Writes the conversation back. How many messages it had read.
    fn end(self) -> usize {
        let mut history = self.history.clone();
        let read = history.len();
        history.push(self.message.clone());
        if history.len() > MOST_MESSAGES {
            history.clear();
        }
        self.agent.memory.lock().conversations.insert(self.session.clone(), history);
        read
    }

    fn client_has_gone(self) {
        if let Some(entry) =
            self.agent.memory.lock().record.get_mut(&self.session).and_then(|it| it.get_mut(self.place))
        {
            entry.client_gone = true;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let end = self.agent.seconds();
        let mut memory = self.agent.memory.lock();
        memory.at_work = memory.at_work.saturating_sub(1);
        if let Some(entry) = memory.record.get_mut(&self.session).and_then(|entries| entries.get_mut(self.place)) {
            entry.end = Some(end);
        }
    }
}

/// The words of a model as they come.
#[derive(Debug)]
pub struct Words(mpsc::Receiver<Bytes>);

impl Body for Words {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|word| word.map(|word| Ok(Frame::data(word))))
    }
}

fn said(status: StatusCode, value: &Value) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(value.to_string().into())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

fn overloaded() -> Answer {
    said(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "detail": "the model is overloaded" }))
}

fn broken() -> Answer {
    said(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "detail": "Internal Server Error" }))
}
