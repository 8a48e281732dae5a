//! One HTTP/1 connection: hyper's, and the deadlines around it.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1::{Builder, UpgradeableConnection};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::Sleep;
use tower::Service as _;

use crate::proxy::Peer;
use crate::request::exchange::Exchange;
use crate::response::body::{BodyCut, ProxyBody};
use crate::response::refusal::Refusal;
use crate::server::departure::{Departure, Presence, Watchable};
use crate::server::rim::{self, Rim};
use crate::server::state::{Answering, Connection, InExchange, Waits};
use crate::server::wire::Wire;
use crate::server::{Accepted, ConnectionLimits, Downstream, Service, Stage};
use crate::time;

/// hyper's least buffer that makes sense. Heads are bounded by the inspector.
const MIN_BUFFER: usize = 16 * 1024;
/// The most fields of a request head.
const MAX_FIELDS: usize = 256;

/// How long a client that sends no more is taken to listen still, where it cannot be found out.
const LISTENS_STILL: Duration = Duration::from_secs(5);
/// How long an answer is held back that comes in the moment in which a client seems to leave, to see whether it does.
const LEAVES: Duration = Duration::from_millis(100);

/// Serves one connection to its end.
pub(super) async fn serve<S: Downstream>(accepted: Accepted<S>, service: Service) {
    let Accepted { socket, ahead, address, began, limits } = accepted;
    let connection = Arc::new(Connection::new(began));
    let watchable = socket.watchable();
    let wire = Wire::new(socket, ahead, limits.max_header_bytes, connection.clone());
    let requests = Requests {
        rim: rim::around(service.proxy.clone()),
        connection: connection.clone(),
        watchable: watchable.clone(),
        address,
    };
    let http = Builder::new()
        .max_headers(MAX_FIELDS)
        .max_buf_size((limits.max_header_bytes * 2).max(MIN_BUFFER))
        // The driver keeps the deadlines: hyper's would also end connections that rest between two requests.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(wire), requests)
        .with_upgrades();
    let mut driver = Driver {
        http: Some(http),
        connection,
        limits,
        watchable,
        departure: None,
        timer: Box::pin(tokio::time::sleep(limits.header_timeout)),
        stage_changed: Box::pin(change_of(service.stage.clone())),
        stage: service.stage.clone(),
        told_to_end: false,
    };
    let end = poll_fn(|cx| driver.poll(cx)).await;
    let Some(refusal) = end else { return };
    // hyper has made no request of it, so the answer is written past hyper.
    service.proxy.unrouted.rejected(refusal.reason());
    if let Some(parts) = driver.http.take().and_then(UpgradeableConnection::into_parts) {
        let mut wire = parts.io.into_inner();
        let answer = refusal.into_bytes();
        let _ = tokio::time::timeout(limits.header_timeout, async {
            wire.write_all(&answer).await?;
            wire.shutdown().await
        })
        .await;
    }
}

/// Writes interim responses past hyper. What cannot be sent now is not sent: they are optional. If only a part could be,
/// nothing sensible can follow, and the connection is broken.
fn pass_on_interim(connection: &Connection, exchange: &Exchange, watchable: Option<&Watchable>) {
    let interim = exchange.take_interim();
    if interim.is_empty() || !connection.may_write_past() {
        return;
    }
    let sent = watchable.map_or(0, |watchable| watchable.send(&interim));
    if sent != 0 && sent != interim.len() {
        connection.broke();
    }
}

/// Waits for the next stage. Never ready once there is none.
async fn change_of(mut stage: watch::Receiver<Stage>) {
    stage.mark_unchanged();
    if stage.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Why the driver ends a connection itself: with an answer, or without.
type End = Option<Refusal>;

struct Driver<S: Downstream> {
    http: Option<UpgradeableConnection<TokioIo<Wire<S>>, Requests>>,
    connection: Arc<Connection>,
    limits: ConnectionLimits,
    watchable: Option<Watchable>,
    departure: Option<Departure>,
    timer: Pin<Box<Sleep>>,
    stage: watch::Receiver<Stage>,
    stage_changed: Pin<Box<dyn Future<Output = ()> + Send>>,
    told_to_end: bool,
}

impl<S: Downstream> Driver<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        // Twice at the most: once as it was woken, and once more where that left it something to be told.
        for _ in 0..2 {
            self.connection.set_reading(false);
            let Some(http) = &mut self.http else {
                return Poll::Ready(None);
            };
            if Pin::new(http).poll(cx).is_ready() {
                self.http = None;
                return Poll::Ready(None);
            }
            if self.connection.is_head_too_large() && !self.connection.is_in_exchange() {
                return Poll::Ready(Some(Refusal::HeadTooLarge { limit: self.limits.max_header_bytes }));
            }
            if !self.connection.owes_end() && !self.begin_to_end(cx) {
                break;
            }
        }
        if let Some(exchange) = self.connection.current.lock().clone() {
            exchange.watch_interim(cx);
            pass_on_interim(&self.connection, &exchange, self.watchable.as_ref());
        }
        if self.connection.is_broken() || self.connection.is_interrupted(cx) || self.client_has_gone(cx) {
            return Poll::Ready(None);
        }
        self.poll_deadline(cx)
    }

    /// Once the gateway drains, asks hyper to end the connection after the request that is on it.
    fn begin_to_end(&mut self, cx: &mut Context<'_>) -> bool {
        if self.told_to_end {
            return false;
        }
        while self.stage_changed.as_mut().poll(cx).is_ready() {
            self.stage_changed = Box::pin(change_of(self.stage.clone()));
        }
        let stage = *self.stage.borrow();
        if stage == Stage::Serving || (stage == Stage::Ending && !self.connection.is_in_exchange()) {
            return false;
        }
        self.told_to_end = true;
        if let Some(http) = &mut self.http {
            Pin::new(http).graceful_shutdown();
        }
        true
    }

    /// Looks after a client whose departure hyper would not see, because it does not read now or must not be told.
    fn client_has_gone(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.connection.needs_watch() {
            self.departure = None;
            return false;
        }
        let Some(watchable) = &self.watchable else {
            // The end of what it sends is all that such a connection tells.
            return self.connection.has_ended();
        };
        if self.departure.is_none() {
            self.departure = watchable.watch().ok();
        }
        let Some(departure) = &mut self.departure else {
            return false;
        };
        loop {
            match departure.poll_presence(cx) {
                Presence::Gone => return true,
                Presence::Here => return false,
                Presence::Shut => match self.connection.probe() {
                    Some(probe) if departure.send(probe) => self.connection.probed(),
                    _ => return false,
                },
            }
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let now = time::now();
            let (deadline, end) = self.deadline(now);
            if deadline <= now {
                return Poll::Ready(end);
            }
            // It is set forward only when it fires, not for every request.
            let deadline = tokio::time::Instant::from_std(deadline);
            if self.timer.is_elapsed() || deadline < self.timer.deadline() {
                self.timer.as_mut().reset(deadline);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn deadline(&self, now: Instant) -> (Instant, End) {
        match self.connection.waits() {
            Waits::Head(since) => (time::after(since, self.limits.header_timeout), Some(Refusal::HeadTimeout)),
            Waits::Request(since) => (time::after(since, self.limits.keep_alive_timeout), None),
            Waits::Taker(deadline) => (deadline, None),
            Waits::Reader(since) => (time::after(since, self.limits.keep_alive_timeout), None),
            Waits::Ended(since) => (time::after(since, LISTENS_STILL), None),
            Waits::Nothing => (time::after(now, self.limits.keep_alive_timeout), None),
        }
    }
}

/// Hands the requests of one connection to the rim.
#[derive(Debug)]
struct Requests {
    rim: Rim,
    connection: Arc<Connection>,
    watchable: Option<Watchable>,
    address: SocketAddr,
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<ConnectionBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (in_exchange, bad_framing) = self.connection.begin();
        let version = request.version();
        let peer = Peer { address: self.address, bad_framing, current: self.connection.current.clone() };
        let answer = self.rim.clone().call((request, peer));
        let connection = self.connection.clone();
        let exchange = connection.current.lock().clone();
        let watchable = self.watchable.clone();
        Box::pin(async move {
            let answer = answer.await?;
            if let Some(exchange) = exchange {
                pass_on_interim(&connection, &exchange, watchable.as_ref());
            }
            if connection.has_ended() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                // If it does, the driver drops this, and the request counts as one whose client left.
                tokio::time::sleep(LEAVES).await;
            }
            connection.answering(how(version, &answer));
            Ok(answer.map(|body| ConnectionBody { body, _in_exchange: in_exchange }))
        })
    }
}

/// How hyper will write `answer`.
fn how(version: Version, answer: &Response<ProxyBody>) -> Answering {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Answering::Upgraded;
    }
    let has_length =
        answer.headers().contains_key(header::CONTENT_LENGTH) || answer.body().size_hint().exact().is_some();
    if version == Version::HTTP_11 && !has_length { Answering::Chunked } else { Answering::Otherwise }
}

/// An answer's body; while it is there, so is its exchange.
#[derive(Debug)]
struct ConnectionBody {
    body: ProxyBody,
    _in_exchange: InExchange,
}

impl Body for ConnectionBody {
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
