//! A whole gateway in memory, under a paused clock: a client's octets on one side, an agent on the other.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use turnwise::admission::unaccounted;
use turnwise::control::Control;
use turnwise::policy::compile::{Compiled, compile};
use turnwise::server::{Caller, Service, serve};
use turnwise::upstream::connect::{Dial, Dialling, Stream};

use crate::reference::{self, Read, Request};

/// Octets that a connection holds in each direction.
const BUFFER: usize = 16 * 1024;

/// Longer than every deadline of the policies that are used.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

/// What a policy here begins with.
pub const ONE_AGENT: &str = "upstreams: {agents: {servers: ['http://agent:80']}}\n";

pub fn policy(text: &str) -> Compiled {
    compile("gateway.yaml", format!("{ONE_AGENT}{text}").as_bytes(), &|_| None)
        .unwrap_or_else(|problems| panic!("{problems}"))
}

/// What the agent says to one request.
#[derive(Debug, Clone, Default)]
pub struct Script {
    pub octets: Vec<u8>,
    /// So many at once; zero: all.
    pub piece: usize,
    /// Closes the connection after that.
    pub closes: bool,
    /// Does not wait for the request's body.
    pub early: bool,
}

/// One request as the agent saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub connection: usize,
    /// All of it has come.
    pub whole: bool,
    pub request: Request,
}

#[derive(Debug, Default)]
struct State {
    /// What came on each connection.
    connections: Vec<Vec<u8>>,
    seen: Vec<Seen>,
    scripts: Vec<Script>,
}

#[derive(Debug, Clone, Default)]
pub struct Agent(Arc<Mutex<State>>);

impl Agent {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is said to the first requests. All others get an answer that tells their number.
    pub fn will_say(&self, scripts: Vec<Script>) {
        self.state().scripts = scripts;
    }

    /// Every request so far, in the order in which their heads came.
    pub fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// All octets of each connection.
    pub fn connections(&self) -> Vec<Vec<u8>> {
        self.state().connections.clone()
    }

    /// What is said to the request that was seen as `number`.
    fn script(&self, number: usize, method: &str) -> Script {
        let state = self.state();
        state.scripts.get(number).cloned().unwrap_or_else(|| {
            let body = format!("number {number}");
            let head = format!("HTTP/1.1 200 OK\r\nX-Agent: {number}\r\nContent-Length: {}\r\n\r\n", body.len());
            let octets = if method == "HEAD" { head } else { head + &body };
            Script { octets: octets.into_bytes(), ..Script::default() }
        })
    }

    fn is_early(&self, number: usize) -> bool {
        self.state().scripts.get(number).is_some_and(|script| script.early)
    }

    async fn serve(self, mut stream: DuplexStream) {
        let connection = {
            let mut state = self.state();
            state.connections.push(Vec::new());
            state.connections.len() - 1
        };
        // The request that is being read: its number once its head has come, and whether it was answered.
        let (mut at, mut number, mut answered) = (0, None, false);
        loop {
            let read = reference::request(&self.state().connections[connection], at);
            let (head, whole) = match read {
                Read::Whole(request) => (Some(request), true),
                Read::Partial(head) => (head, false),
                // For the target to judge.
                Read::Bad(..) => return,
            };
            if let Some(request) = head {
                let (end, method) = (request.end, request.line.method.clone());
                let number = *number.get_or_insert_with(|| {
                    let mut state = self.state();
                    state.seen.push(Seen { connection, whole, request: request.clone() });
                    state.seen.len() - 1
                });
                self.state().seen[number] = Seen { connection, whole, request };
                if !answered && (whole || self.is_early(number)) {
                    answered = true;
                    let script = self.script(number, &method);
                    for piece in script.octets.chunks(if script.piece == 0 { usize::MAX } else { script.piece }) {
                        if stream.write_all(piece).await.is_err() {
                            return;
                        }
                        if script.piece > 0 {
                            settle().await;
                        }
                    }
                    if script.closes {
                        return;
                    }
                }
                if whole {
                    at = end;
                }
            }
            if whole {
                (number, answered) = (None, false);
                continue;
            }
            let mut piece = [0; 4096];
            match stream.read(&mut piece).await {
                Ok(length) if length > 0 => self.state().connections[connection].extend_from_slice(&piece[..length]),
                _ => return,
            }
        }
    }
}

impl Dial for Agent {
    fn dial(&self, _host: &str, _port: u16) -> Dialling {
        let agent = self.clone();
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(BUFFER);
            tokio::spawn(agent.serve(theirs));
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }
}

/// A gateway and its agent.
pub struct House {
    pub control: Arc<Control>,
    pub agent: Agent,
    service: Service,
}

impl House {
    pub fn new(compiled: &Compiled) -> Self {
        let agent = Agent::default();
        let control = Control::new(PathBuf::from("gateway.yaml"), compiled.clone(), Arc::new(agent.clone()))
            .expect("it names no files");
        let service = Service { proxy: control.proxy(), stage: control.stage.subscribe() };
        Self { control, agent, service }
    }

    /// A client's end of a new connection.
    pub fn stream(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let caller = Caller::plain(([10, 0, 0, 1], 1234).into());
        tokio::spawn(serve(theirs, caller, self.service.clone()));
        ours
    }

    /// All that the gateway says on one connection to a client that sends these pieces, with `pause` between them, and then
    /// waits until the gateway closes.
    pub async fn converse<'p>(&self, pieces: impl IntoIterator<Item = &'p [u8]>, pause: Duration) -> Vec<u8> {
        let (mut read, mut write) = tokio::io::split(self.stream());
        let writing = async {
            for piece in pieces {
                // The gateway may have had enough.
                if write.write_all(piece).await.is_err() {
                    break;
                }
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
        };
        let mut said = Vec::new();
        let reading = read.read_to_end(&mut said);
        let both = tokio::time::timeout(FOR_EVER, async { tokio::join!(reading, writing) }).await;
        let (_, ()) = both.expect("a connection ends some time");
        drop((read, write));
        said
    }

    /// Nothing is held, and nobody waits.
    pub async fn at_rest(self) {
        settle().await;
        let admission = &self.control.admission;
        assert_eq!(admission.roll.len(), 0, "requests on the roll");
        assert_eq!((admission.gate.in_use(), admission.gate.waiting()), (0, 0), "places in use, waiting for one");
        assert_eq!((admission.sessions.active(), admission.sessions.waiting()), (0, 0), "sessions, waiting for a turn");
        assert_eq!(admission.held.total(), 0, "octets held");
        assert_eq!(unaccounted(admission), 0, "turns and places that nobody holds");
        for upstream in &self.control.edition.load().upstreams {
            for server in &upstream.servers {
                let (open, idle) = server.connections();
                assert_eq!((server.in_flight(), open - idle), (0, 0), "in flight and connections in use at the agent");
            }
        }
    }
}

/// Until everything that can happen now has happened. A paused clock only moves when all tasks are idle.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Runs on a paused clock of its own, and ends all tasks with it.
pub fn paused(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work);
}
