//! The upstream that is the judge: a real HTTP/1.1 server that writes down what reached it and what ran at once.
//!
//! It behaves like most agents: it does not notice that its client has gone, and its work counts until it is done.
//! What it does is either a function of the test over an [`Exchange`], or, by default, a list of words in `X-Do`:
//!
//! | words | does |
//! |---|---|
//! | `sleep N` | works for N ms |
//! | `hold` | works until the test says [`Recorder::release`] or [`Recorder::open`] |
//! | `status N` | answers with this status |
//! | `body N` | answers with N bytes |
//! | `echo` | answers with the body of the request |
//! | `stream K M` | answers in K chunks `piece I`, one every M ms |
//!
//! Work is over just before its last bytes are written, so that whoever has seen the end of an answer finds it over.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, mpsc};
use std::time::Instant;

use super::exchange::Exchange;
use super::wait::{BOUND, within};
use super::wire::{Body, Head, Wire};

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub head: Head,
    pub body: Body,
    /// Place of its beginning and its end among all beginnings and ends.
    pub started: u64,
    pub ended: Option<u64>,
    pub started_at: Instant,
    /// Whether its client was found to be gone.
    pub client_gone: bool,
}

impl Seen {
    pub fn target(&self) -> &str {
        self.head.word(1)
    }

    pub fn header(&self, name: &str) -> Option<String> {
        self.head.get(name)
    }

    pub fn session(&self) -> String {
        self.header("x-session-id").unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body.bytes).into_owned()
    }
}

#[derive(Debug, Default)]
pub struct State {
    pub seen: Vec<Seen>,
    pub events: u64,
    connections: usize,
    pub held: BTreeSet<usize>,
    pub released: BTreeSet<usize>,
    pub open: bool,
    /// What stood in `X-Tag` of those that have begun, and who waits for it.
    tags: HashSet<String>,
    awaited: HashMap<String, mpsc::Sender<()>>,
}

type Behaviour = dyn Fn(&mut Exchange) + Send + Sync;

pub struct Shared {
    state: Mutex<State>,
    pub changed: Condvar,
    behaviour: Box<Behaviour>,
    stopped: AtomicBool,
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it looks")
    }
}

pub struct Recorder {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Recorder {
    /// One that obeys `X-Do`.
    pub fn start() -> Self {
        Self::doing(Exchange::obey)
    }

    /// One that does this with every request whose head has come.
    pub fn doing(behaviour: impl Fn(&mut Exchange) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self::on(listener, behaviour)
    }

    /// One that answers every request with these bytes and closes.
    pub fn saying(bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref().to_vec();
        Self::doing(move |exchange| {
            exchange.read_body();
            exchange.finish(&bytes);
            exchange.close();
        })
    }

    pub fn on(listener: TcpListener, behaviour: impl Fn(&mut Exchange) + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().expect("a bound socket");
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            behaviour: Box::new(behaviour),
            stopped: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, &accepting));
        Self { shared, address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests in the order in which they began.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }

    #[track_caller]
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "exactly one request was expected at the upstream");
        seen[0].clone()
    }

    pub fn count(&self) -> usize {
        self.shared.state().seen.len()
    }

    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }

    /// Targets in the order in which they began.
    pub fn targets(&self) -> Vec<String> {
        self.seen().iter().map(|seen| seen.target().to_owned()).collect()
    }

    pub fn running(&self) -> usize {
        self.shared.state().seen.iter().filter(|seen| seen.ended.is_none()).count()
    }

    /// The most that ever ran at once.
    pub fn peak(&self) -> usize {
        self.peak_of(|_| true)
    }

    /// The most of these that ever ran at once.
    pub fn peak_of(&self, counts: impl Fn(&Seen) -> bool) -> usize {
        let mut events = Vec::new();
        for seen in self.seen().iter().filter(|seen| counts(seen)) {
            events.push((seen.started, 1_isize));
            events.extend(seen.ended.map(|ended| (ended, -1)));
        }
        events.sort_unstable();
        let mut now = 0;
        let running = events.into_iter().map(|(_, change)| {
            now += change;
            now
        });
        running.max().unwrap_or(0).unsigned_abs()
    }

    /// Waits until exactly so many run.
    #[track_caller]
    pub fn wait_running(&self, count: usize) {
        if !within(BOUND, || self.running() == count) {
            panic!("{} run at the upstream, not {count}: {:?}", self.running(), self.targets());
        }
    }

    /// Waits until so many have begun.
    #[track_caller]
    pub fn wait_seen(&self, count: usize) {
        if !within(BOUND, || self.count() >= count) {
            panic!("only {} of {count} reached the upstream: {:?}", self.count(), self.targets());
        }
    }

    /// Waits, without looking again and again, until one with this in `X-Tag` has begun.
    pub fn wait_tag(&self, tag: &str) {
        let (began, awaited) = mpsc::channel();
        {
            let mut state = self.shared.state();
            if state.tags.contains(tag) {
                return;
            }
            state.awaited.insert(tag.to_owned(), began);
        }
        assert!(awaited.recv_timeout(BOUND).is_ok(), "{tag} never reached the upstream");
    }

    /// Lets the one go on that began first among those that are held; waits for one if there is none yet.
    #[track_caller]
    pub fn release(&self) {
        let released = within(BOUND, || {
            let mut state = self.shared.state();
            let Some(first) = state.held.pop_first() else {
                return false;
            };
            state.released.insert(first);
            self.shared.changed.notify_all();
            true
        });
        assert!(released, "nothing is held at the upstream");
    }

    /// Lets all go on that are held now or will be.
    pub fn open(&self) {
        self.shared.state().open = true;
        self.shared.changed.notify_all();
    }

    /// No longer listens: connections are refused.
    pub fn stop_listening(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = within(BOUND, || TcpStream::connect(self.address).is_err());
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.open();
        self.stop_listening();
        let idle = within(BOUND, || self.running() == 0);
        assert!(idle || std::thread::panicking(), "the upstream still works: {:?}", self.seen());
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let _ = stream.set_nodelay(true);
        shared.state().connections += 1;
        let shared = Arc::clone(shared);
        std::thread::spawn(move || serve(Wire::new(stream), &shared));
    }
}

fn serve(mut wire: Wire, shared: &Arc<Shared>) {
    while let Ok(Some(head)) = wire.head() {
        let id = begin(shared, &head);
        let mut exchange = Exchange::new(wire, head, id, shared);
        (shared.behaviour)(&mut exchange);
        exchange.done();
        match exchange.into_wire() {
            Some(kept) => wire = kept,
            None => return,
        }
    }
}

fn begin(shared: &Shared, head: &Head) -> usize {
    let mut state = shared.state();
    let started = state.events;
    state.events += 1;
    if let Some(tag) = head.get("x-tag") {
        if let Some(waiting) = state.awaited.remove(&tag) {
            let _ = waiting.send(());
        }
        state.tags.insert(tag);
    }
    state.seen.push(Seen {
        head: head.clone(),
        body: Body::default(),
        started,
        ended: None,
        started_at: Instant::now(),
        client_gone: false,
    });
    shared.changed.notify_all();
    state.seen.len() - 1
}
