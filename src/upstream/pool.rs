//! Connections to the servers, kept for the next request.
//!
//! Each worker has its own pool, because a connection belongs to the runtime that drives it, and so that workers share
//! no lock. An HTTP/1.1 connection is lent to one request at a time and comes back when its answer has been read to
//! the end; whatever else becomes of the request, its connection is closed. That is the signal to a server that its
//! client has gone, and it keeps one request's leftovers out of the next one's answer.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::Either;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::task::AbortHandle;

use crate::policy;
use crate::request::exchange::Exchange;
use crate::sync::Mutex;
use crate::time;
use crate::upstream::carrying::{Beside, Carrying};
use crate::upstream::connect::{Dial, Stream};
use crate::upstream::interim;
use crate::upstream::server::Server;
use crate::upstream::upload::Upload;

/// The longest response head of a server, in bytes.
const MAX_RESPONSE_HEAD: usize = 256 * 1024;

/// All connections of one worker.
#[derive(Debug)]
pub struct Pools {
    dial: Arc<dyn Dial>,
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
    connection: Http1,
    since: Instant,
}

#[derive(Debug)]
struct Http1 {
    sender: http1::SendRequest<Upload>,
    task: AbortHandle,
    beside: Arc<Beside>,
}

/// A connection lent to one request. Unless it is [given back](Self::give_back), dropping it closes it.
#[derive(Debug)]
pub struct Lease {
    pool: Arc<ServerPool>,
    sender: Sender,
}

#[derive(Debug)]
enum Sender {
    Http1(Option<Http1>),
    /// One stream of a shared connection: it ends with the response body, or is reset when that is dropped.
    Http2(http2::SendRequest<Upload>),
}

/// Why a request got no response head.
#[derive(Debug)]
pub struct SendFailed {
    /// The request, if not a byte of it was written.
    pub unsent: Option<Box<Request<Upload>>>,
    pub error: hyper::Error,
}

impl Pools {
    #[must_use]
    pub fn new(dial: Arc<dyn Dial>) -> Self {
        Self { dial, servers: Mutex::new(HashMap::new()) }
    }

    /// A connection that was used before, if one is idle.
    #[must_use]
    pub fn reuse(&self, server: &Arc<Server>, policy: &policy::Upstream) -> Option<Lease> {
        let pool = self.pool(server, policy);
        let sender = if policy.http2 {
            Sender::Http2(pool.http2.lock().as_ref().filter(|sender| !sender.is_closed())?.clone())
        } else {
            Sender::Http1(Some(pool.take_idle(policy.pool.idle_timeout)?))
        };
        Some(Lease { pool, sender })
    }

    /// A new connection. Cancel safe.
    ///
    /// # Errors
    /// Whatever the system says of the attempt; without a timeout of its own.
    pub async fn connect(&self, server: &Arc<Server>, policy: &policy::Upstream) -> io::Result<Lease> {
        let pool = self.pool(server, policy);
        let stream = self.dial.dial(&server.host, server.port).await?;
        let sender = if policy.http2 { pool.open_http2(stream).await? } else { pool.open_http1(stream).await? };
        Ok(Lease { pool, sender })
    }

    /// Closes what has been idle for too long, and forgets servers that no policy names any more.
    pub fn sweep(&self, known: &dyn Fn(u64) -> bool) {
        let now = time::now();
        self.servers.lock().retain(|id, pool| {
            let known = known(*id);
            let timeout = if known { pool.limits.idle_timeout() } else { Duration::ZERO };
            pool.close_idle(now, timeout);
            known
        });
    }

    fn pool(&self, server: &Arc<Server>, policy: &policy::Upstream) -> Arc<ServerPool> {
        let mut servers = self.servers.lock();
        let pool = servers.entry(server.id).or_insert_with(|| {
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
    fn take_idle(&self, timeout: Duration) -> Option<Http1> {
        let now = time::now();
        loop {
            let idle = self.idle.lock().pop()?;
            self.server.idle.fetch_sub(1, Ordering::Relaxed);
            // Dropping it closes it: the server has closed it too, or may be about to.
            if idle.connection.sender.is_ready() && now.saturating_duration_since(idle.since) < timeout {
                return Some(idle.connection);
            }
        }
    }

    fn put_idle(&self, connection: Http1) {
        connection.beside.interim.listen(None);
        let mut idle = self.idle.lock();
        if idle.len() < self.limits.max_idle() {
            idle.push(Idle { connection, since: time::now() });
            self.server.idle.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn close_idle(&self, now: Instant, timeout: Duration) {
        let mut idle = self.idle.lock();
        let before = idle.len();
        idle.retain(|idle| !idle.connection.sender.is_closed() && now.saturating_duration_since(idle.since) < timeout);
        self.server.idle.fetch_sub(before - idle.len(), Ordering::Relaxed);
        if idle.is_empty() {
            idle.shrink_to_fit();
        }
    }

    async fn open_http1(&self, stream: Box<dyn Stream>) -> io::Result<Sender> {
        let beside = Arc::<Beside>::default();
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_RESPONSE_HEAD)
            .handshake(TokioIo::new(Carrying::new(stream, beside.clone())))
            .await
            .map_err(io::Error::other)?;
        let open = Open::new(self.server.clone());
        let task = tokio::spawn(async move {
            let _open = open;
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to a server ended");
            }
        });
        Ok(Sender::Http1(Some(Http1 { sender, task: task.abort_handle(), beside })))
    }

    async fn open_http2(&self, stream: Box<dyn Stream>) -> io::Result<Sender> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20))
            .max_header_list_size(MAX_RESPONSE_HEAD as u32)
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
        Ok(Sender::Http2(sender))
    }
}

impl Lease {
    /// Sends `request`; the answer is its head, with its body as it comes. The lease must live as long as that is wanted.
    ///
    /// Its interim responses are left with `interim`, if anybody wants them. Fails with the request where it is certain
    /// that not a byte of it was written.
    pub fn send(
        &mut self,
        mut request: Request<Upload>,
        interim: Option<Arc<Exchange>>,
    ) -> impl Future<Output = Result<Response<Incoming>, SendFailed>> + Send + use<> {
        let sent = match &mut self.sender {
            Sender::Http1(Some(http1)) => {
                request.body_mut().carried_by(&http1.beside);
                http1.beside.interim.listen(interim);
                Either::Left(http1.sender.try_send_request(request))
            }
            Sender::Http2(sender) => {
                if let Some(exchange) = interim {
                    interim::leave_with(&mut request, exchange);
                }
                Either::Right(sender.try_send_request(request))
            }
            Sender::Http1(None) => unreachable!("a lease is emptied only by what consumes it"),
        };
        sent.map(|sent| {
            sent.map_err(|mut failed| SendFailed {
                unsent: failed.take_message().map(Box::new),
                error: failed.into_error(),
            })
        })
    }

    /// Keeps the connection for the next request. Only after its answer was read to the end and its request was sent
    /// to the end.
    pub fn give_back(mut self) {
        let Sender::Http1(http1) = &mut self.sender else { return };
        let Some(mut http1) = http1.take() else { return };
        if http1.sender.is_ready() {
            self.pool.put_idle(http1);
            return;
        }
        // The connection's task has yet to notice the end of the answer.
        let pool = self.pool.clone();
        tokio::spawn(async move {
            if http1.sender.ready().await.is_ok() {
                pool.put_idle(http1);
            }
        });
    }

    /// Lets go of a connection that now belongs to an upgraded protocol: it lives as long as that does.
    pub fn hand_over(mut self) {
        if let Sender::Http1(http1) = &mut self.sender {
            // Its task then runs to its own end, since dropping the handle does not stop it.
            *http1 = None;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Sender::Http1(Some(http1)) = &self.sender {
            http1.task.abort();
        }
    }
}

/// Counts an open connection.
struct Open(Arc<Server>);

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
