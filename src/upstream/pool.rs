//! Connections to the servers, kept for the next request.
//!
//! Each worker has its own pool, because a connection belongs to the runtime that drives it, and so that workers share
//! no lock. An HTTP/1.1 connection is lent to one request at a time and comes back when its answer has been read to
//! the end; whatever else becomes of the request, its connection is closed. That is the signal to a server that its
//! client has gone, and it keeps one request's leftovers out of the next one's answer.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use crate::policy;
use crate::request::exchange::Exchange;
use crate::sync::Mutex;
use crate::time;
use crate::upstream::connect::{Dial, Stream, open};
use crate::upstream::http1::{self, Switched};
use crate::upstream::interim;
use crate::upstream::server::Server;
use crate::upstream::upload::Upload;

/// The longest response head of a server over HTTP/2, in bytes.
const MAX_RESPONSE_HEAD: u32 = 256 * 1024;

/// How often a worker of this process found that there was no descriptor for a connection.
static SHORT: AtomicU64 = AtomicU64::new(0);

/// All connections of one worker.
#[derive(Debug)]
pub struct Pools {
    dial: Arc<dyn Dial>,
    /// [`SHORT`] as it was when idle connections were last looked through.
    short_seen: AtomicU64,
    servers: Mutex<HashMap<u64, Arc<ServerPool>>>,
}

/// Connections to one server.
#[derive(Debug)]
struct ServerPool {
    server: Arc<Server>,
    idle: Mutex<Vec<Idle>>,
    http2: Mutex<Option<http2::SendRequest<Upload>>>,
    limits: Limits,
}

/// The policy's limits as they were seen last.
#[derive(Debug, Default)]
struct Limits {
    max_idle: AtomicUsize,
    /// Nanoseconds.
    idle_timeout: AtomicU64,
}

impl Limits {
    fn set(&self, policy: policy::Pool) {
        let timeout = u64::try_from(policy.idle_timeout.as_nanos()).unwrap_or(u64::MAX);
        self.max_idle.store(policy.max_idle, Ordering::Relaxed);
        self.idle_timeout.store(timeout, Ordering::Relaxed);
    }

    fn max_idle(&self) -> usize {
        self.max_idle.load(Ordering::Relaxed)
    }

    fn idle_timeout(&self) -> Duration {
        Duration::from_nanos(self.idle_timeout.load(Ordering::Relaxed))
    }
}

#[derive(Debug)]
struct Idle {
    connection: Box<Http1>,
    since: Instant,
}

#[derive(Debug)]
struct Http1 {
    connection: http1::Connection,
    open: Open,
}

/// A connection lent to one request, and the answer that comes over it. Unless it is [given back](Self::give_back),
/// dropping it closes it.
#[derive(Debug)]
pub struct Lease {
    pool: Arc<ServerPool>,
    over: Over,
}

#[derive(Debug)]
enum Over {
    Http1(Box<Http1>),
    /// One stream of a shared connection: it ends with the response body, or is reset when that is dropped.
    Http2(Box<Stream2>),
}

#[derive(Debug)]
struct Stream2 {
    sender: http2::SendRequest<Upload>,
    /// The answer's, once its head is there.
    body: Option<Incoming>,
}

/// An upgraded connection to a server, and what counts it as open.
#[derive(Debug)]
pub struct Tunnel {
    pub stream: Switched,
    pub open: Open,
}

/// Why an answer, or the rest of it, does not come.
#[derive(Debug)]
pub enum Broken {
    Http1(http1::Broken),
    Http2(hyper::Error),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http1(broken) => broken.fmt(f),
            Self::Http2(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Broken {}

/// Why a request got no response head.
#[derive(Debug)]
pub struct SendFailed {
    /// The request, if not a byte of it was written.
    pub unsent: Option<Box<Request<Upload>>>,
    pub why: Broken,
}

impl Pools {
    #[must_use]
    pub fn new(dial: Arc<dyn Dial>) -> Self {
        Self { dial, short_seen: AtomicU64::new(0), servers: Mutex::new(HashMap::new()) }
    }

    /// A connection that was used before, if one is idle.
    #[must_use]
    pub fn reuse(&self, server: &Arc<Server>, policy: &policy::Upstream) -> Option<Lease> {
        let pool = self.pool(server, policy);
        let over = if policy.http2 {
            let sender = pool.http2.lock().as_ref().filter(|sender| !sender.is_closed())?.clone();
            Over::Http2(Box::new(Stream2 { sender, body: None }))
        } else {
            Over::Http1(pool.take_idle(policy.pool.idle_timeout)?)
        };
        Some(Lease { pool, over })
    }

    /// A new connection. Cancel safe.
    ///
    /// # Errors
    /// Whatever the system says of the attempt; without a timeout of its own.
    pub async fn connect(&self, server: &Arc<Server>, policy: &policy::Upstream) -> io::Result<Lease> {
        let pool = self.pool(server, policy);
        let stream = open(&*self.dial, server).await?;
        let over = if policy.http2 {
            Over::Http2(Box::new(Stream2 { sender: pool.open_http2(stream).await?, body: None }))
        } else {
            let open = Open::new(pool.server.clone());
            Over::Http1(Box::new(Http1 { connection: http1::Connection::new(stream), open }))
        };
        Ok(Lease { pool, over })
    }

    /// Closes all idle connections, because there is no descriptor for one that is needed. Other workers do so with their next
    /// [`sweep`](Self::sweep).
    pub fn make_room(&self) {
        self.short_seen.store(SHORT.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        for pool in self.servers.lock().values() {
            pool.close_idle(time::now(), Duration::ZERO);
        }
    }

    /// Closes what has been idle for too long, or what others need the descriptors of, and forgets servers that no policy names
    /// any more.
    pub fn sweep(&self, known: &dyn Fn(u64) -> bool) {
        let now = time::now();
        let short = SHORT.load(Ordering::Relaxed);
        let is_short = self.short_seen.swap(short, Ordering::Relaxed) != short;
        self.servers.lock().retain(|id, pool| {
            let known = known(*id);
            let timeout = if known && !is_short { pool.limits.idle_timeout() } else { Duration::ZERO };
            pool.close_idle(now, timeout);
            known
        });
    }

    fn pool(&self, server: &Arc<Server>, policy: &policy::Upstream) -> Arc<ServerPool> {
        let mut servers = self.servers.lock();
        let pool = servers.entry(server.pool_id()).or_insert_with(|| {
            Arc::new(ServerPool {
                server: server.clone(),
                idle: Mutex::new(Vec::new()),
                http2: Mutex::new(None),
                limits: Limits::default(),
            })
        });
        pool.limits.set(policy.pool);
        pool.clone()
    }
}

impl ServerPool {
    /// The connection that was used last: the others may then grow old and be closed.
    fn take_idle(&self, timeout: Duration) -> Option<Box<Http1>> {
        let now = time::now();
        loop {
            let mut idle = self.idle.lock().pop()?;
            self.server.idle.fetch_sub(1, Ordering::Relaxed);
            // Dropping it closes it: the server has closed it too, or may be about to.
            if now.saturating_duration_since(idle.since) < timeout && idle.connection.connection.is_open() {
                return Some(idle.connection);
            }
        }
    }

    fn put_idle(&self, connection: Box<Http1>) {
        let mut idle = self.idle.lock();
        if idle.len() < self.limits.max_idle() {
            idle.push(Idle { connection, since: time::now() });
            self.server.idle.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn close_idle(&self, now: Instant, timeout: Duration) {
        let mut idle = self.idle.lock();
        let before = idle.len();
        idle.retain_mut(|idle| {
            now.saturating_duration_since(idle.since) < timeout && idle.connection.connection.is_open()
        });
        self.server.idle.fetch_sub(before - idle.len(), Ordering::Relaxed);
        if idle.is_empty() {
            idle.shrink_to_fit();
        }
    }

    async fn open_http2(&self, stream: Box<dyn Stream>) -> io::Result<http2::SendRequest<Upload>> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20))
            .max_header_list_size(MAX_RESPONSE_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let open = Open::new(self.server.clone());
        tokio::spawn(async move {
            let _open = open;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a server ended");
            }
        });
        *self.http2.lock() = Some(sender.clone());
        Ok(sender)
    }
}

impl Lease {
    /// Sends `request`; the answer is its head. Its interim responses are left with `interim`, if anybody wants them.
    ///
    /// # Errors
    /// With the request where it is certain that not a byte of it was written.
    pub async fn send(
        &mut self,
        request: Box<Request<Upload>>,
        interim: Option<Arc<Exchange>>,
    ) -> Result<Response<()>, SendFailed> {
        match &mut self.over {
            Over::Http1(http1) => {
                let connection = &mut http1.connection;
                connection.begin(request);
                let head = poll_fn(|cx| connection.poll_head(interim.as_deref(), cx)).await;
                head.map_err(|failed| SendFailed { unsent: failed.unsent, why: Broken::Http1(failed.why) })
            }
            Over::Http2(stream) => Box::pin(stream.send(request, interim)).await,
        }
    }

    /// The next piece of the answer's body.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.over {
            Over::Http1(http1) => http1.connection.poll_frame(cx).map_err(Broken::Http1),
            Over::Http2(stream) => match &mut stream.body {
                Some(body) => Pin::new(body).poll_frame(cx).map_err(Broken::Http2),
                None => Poll::Ready(None),
            },
        }
    }

    /// Whether the answer's body has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        match &self.over {
            Over::Http1(http1) => http1.connection.has_ended(),
            Over::Http2(stream) => stream.body.as_ref().is_none_or(Body::is_end_stream),
        }
    }

    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        match &self.over {
            Over::Http1(http1) => http1.connection.size_hint(),
            Over::Http2(stream) => stream.body.as_ref().map(Body::size_hint).unwrap_or_default(),
        }
    }

    /// Keeps the connection for the next request, if it can have one.
    pub fn give_back(self) {
        if let Over::Http1(http1) = self.over
            && http1.connection.is_reusable()
        {
            self.pool.put_idle(http1);
        }
    }

    /// Whether [`switch`](Self::switch) can be had.
    #[must_use]
    pub fn can_switch(&self) -> bool {
        matches!(self.over, Over::Http1(_))
    }

    /// The connection for another protocol, after a 101.
    #[must_use]
    pub fn switch(self) -> Option<Tunnel> {
        match self.over {
            Over::Http1(http1) => Some(Tunnel { stream: http1.connection.switch(), open: http1.open }),
            Over::Http2(_) => None,
        }
    }
}

impl Stream2 {
    async fn send(
        &mut self,
        mut request: Box<Request<Upload>>,
        interim: Option<Arc<Exchange>>,
    ) -> Result<Response<()>, SendFailed> {
        if let Some(exchange) = interim {
            interim::leave_with(&mut request, exchange);
        }
        let answer = self.sender.try_send_request(*request).await.map_err(|mut failed| SendFailed {
            unsent: failed.take_message().map(Box::new),
            why: Broken::Http2(failed.into_error()),
        })?;
        let (head, body) = answer.into_parts();
        self.body = Some(body);
        Ok(Response::from_parts(head, ()))
    }
}

/// Counts an open connection.
#[derive(Debug)]
pub struct Open(Arc<Server>);

impl Open {
    fn new(server: Arc<Server>) -> Self {
        server.connections.fetch_add(1, Ordering::Relaxed);
        Self(server)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
