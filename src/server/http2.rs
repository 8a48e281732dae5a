//! One HTTP/2 connection: hyper's, a task for each of its streams, and the deadlines around them.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tower::Service as _;

use crate::proxy::Peer;
use crate::request::exchange::Exchange;
use crate::response::body::ProxyBody;
use crate::server::rim::{self, Rim};
use crate::server::{Accepted, Downstream, GOODBYE, Service, Stage};
use crate::sync::Mutex;
use crate::time::{self, LazyTimer};
use crate::upstream::fields::Hop;

/// Requests of one connection at once. Those beyond wait at the client.
const MAX_STREAMS: u32 = 250;
/// What a client may send ahead on one stream.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Wide enough for all streams: else the bodies of those that wait would keep back the one that has its turn.
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;
/// What is held of one stream's answer for a client that does not take it.
const SEND_BUFFER: usize = 256 * 1024;
/// A connection that answers no ping is dead.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves one connection to its end.
pub(super) async fn serve<S: Downstream>(accepted: Accepted<S>, service: Service) {
    let Accepted { socket, ahead, caller, began, limits } = accepted;
    let ended = Arc::new(Mutex::new(began));
    let streams = Streams { called: Arc::default(), open: Arc::default(), none_left: Arc::default(), ended };
    let requests = Requests {
        rim: rim::around(service.proxy.clone()),
        called: streams.called.clone(),
        hop: Arc::new(Hop::new(caller.address.ip(), caller.scheme)),
    };
    let connection = Builder::new(streams.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(Rewound { ahead, socket }), requests);
    tokio::pin!(connection);
    let mut stage = service.stage;
    let mut ending = false;
    loop {
        let due = time::after(*streams.ended.lock(), limits.keep_alive_timeout);
        let look = time::sleep_until(due.max(time::now() + limits.keep_alive_timeout / 4));
        // Requests are called within the connection's poll.
        let step = std::future::poll_fn(|cx| {
            let _step = time::hold();
            connection.as_mut().poll(cx)
        });
        tokio::select! {
            _ = step => return,
            _ = stage.wait_for(|stage| *stage >= Stage::Ending), if !ending => ending = true,
            () = look, if !ending => {
                let idle = time::now().saturating_duration_since(*streams.ended.lock());
                ending = streams.open.load(Ordering::Relaxed) == 0 && idle >= limits.keep_alive_timeout;
            }
        }
        if ending {
            connection.as_mut().graceful_shutdown();
            // Streams have deadlines of their own; a client that does not agree to the end has this one.
            let quiet = async {
                loop {
                    streams.until_none().await;
                    tokio::time::sleep(GOODBYE).await;
                    if streams.open.load(Ordering::Relaxed) == 0 {
                        return;
                    }
                }
            };
            tokio::select! {
                _ = connection => {}
                () = quiet => {}
            }
            return;
        }
    }
}

/// A socket with what was read of it before.
struct Rewound<S> {
    ahead: Bytes,
    socket: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        }
        let length = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..length]);
        self.ahead.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Hands the requests of one connection to the rim.
struct Requests {
    rim: Rim,
    /// The exchange of the last call, for the task that hyper makes of its stream right after it.
    called: Arc<Mutex<Option<Arc<Exchange>>>>,
    hop: Arc<Hop>,
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<ProxyBody>;
    type Error = Infallible;
    type Future = <Rim as tower::Service<rim::Arriving>>::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        *self.called.lock() = None;
        let peer = Peer { hop: self.hop.clone(), bad_framing: None, current: self.called.clone() };
        self.rim.clone().call((request, peer))
    }
}

/// Runs the streams of one connection, and ends one whose client takes nothing of its answer.
///
/// hyper does not look at an answer's body while the stream's window is closed, so neither can the body: a client could
/// hold turn and place for ever.
#[derive(Debug, Clone)]
struct Streams {
    called: Arc<Mutex<Option<Arc<Exchange>>>>,
    open: Arc<AtomicUsize>,
    /// Told whenever the last open one has ended.
    none_left: Arc<Notify>,
    /// When the last one ended.
    ended: Arc<Mutex<Instant>>,
}

impl Streams {
    async fn until_none(&self) {
        loop {
            let none_left = self.none_left.notified();
            if self.open.load(Ordering::Acquire) == 0 {
                return;
            }
            none_left.await;
        }
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let exchange = self.called.lock().take();
        self.open.fetch_add(1, Ordering::Relaxed);
        let open = Open { open: self.open.clone(), none_left: self.none_left.clone(), ended: self.ended.clone() };
        tokio::spawn(async move {
            let _open = open;
            match exchange {
                Some(exchange) => Watched { stream, exchange, timer: LazyTimer::default() }.await,
                None => {
                    stream.await;
                }
            }
        });
    }
}

struct Open {
    open: Arc<AtomicUsize>,
    none_left: Arc<Notify>,
    ended: Arc<Mutex<Instant>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        *self.ended.lock() = time::now();
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.none_left.notify_waiters();
        }
    }
}

pin_project_lite::pin_project! {
    struct Watched<F> {
        #[pin]
        stream: F,
        exchange: Arc<Exchange>,
        timer: LazyTimer,
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = ();

    /// Ready when the stream has ended, or must be: dropping it resets it.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let _step = time::hold();
        let this = self.project();
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let exchange = &**this.exchange;
        // While its reader takes nothing, nobody looks at the body, which would hear of it.
        if exchange.reader_deadline().is_some() && exchange.poll_ended_beside(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let deadline = exchange.reader_deadline();
            if deadline.is_some_and(|deadline| deadline <= time::now()) {
                return Poll::Ready(());
            }
            // Read after the stream was polled, and with it the service and its body, which set the alarm.
            if exchange.rings() {
                cx.waker().wake_by_ref();
            }
            let Some(next) = deadline.into_iter().chain(exchange.alarm()).min() else {
                return Poll::Pending;
            };
            if this.timer.poll_until(next, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
