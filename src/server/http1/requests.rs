//! What hyper asks for answers.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;
use tower::Service as _;

use super::Line;
use crate::proxy::Peer;
use crate::response::body::{BodyCut, ProxyBody};
use crate::server::rim::{self, Rim};
use crate::server::state::{Answering, Connection, InExchange};
use crate::upstream::fields::Hop;

/// How long an answer is held back that comes in the moment in which a client seems to leave, to see whether it does.
const LEAVES: Duration = Duration::from_millis(100);

/// Hands the requests of one connection to the rim.
#[derive(Debug)]
pub(super) struct Requests {
    rim: Rim,
    connection: Arc<Connection>,
    hop: Arc<Hop>,
}

impl Requests {
    pub(super) fn new(line: &Line) -> Self {
        let rim = rim::around(line.service.proxy.clone());
        Self { rim, connection: line.connection.clone(), hop: line.hop.clone() }
    }
}

impl hyper::service::Service<Request<Incoming>> for Requests {
    type Response = Response<ConnectionBody>;
    type Error = Infallible;
    type Future = Answered;

    fn call(&self, request: Request<Incoming>) -> Answered {
        let (in_exchange, bad_framing) = self.connection.begin();
        let version = request.version();
        let peer = Peer { hop: self.hop.clone(), bad_framing, current: self.connection.current.clone() };
        let answer = self.rim.clone().call((request, peer));
        Answered { answer, version, in_exchange: Some(in_exchange), held_back: None }
    }
}

pin_project_lite::pin_project! {
    /// One request on its way to its answer. hyper has room for it, so that it needs no memory of its own.
    pub(super) struct Answered {
        #[pin]
        answer: <Rim as tower::Service<rim::Arriving>>::Future,
        version: Version,
        in_exchange: Option<InExchange>,
        held_back: Option<HeldBack>,
    }
}

/// An answer whose client seems to leave.
type HeldBack = Box<(Pin<Box<Sleep>>, Option<Response<ProxyBody>>)>;

impl Future for Answered {
    type Output = Result<Response<ConnectionBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = match this.held_back {
            None => {
                let answer = match ready!(this.answer.poll(cx)) {
                    Ok(answer) => answer,
                    Err(never) => match never {},
                };
                let connection = this.in_exchange.as_ref().map(InExchange::connection);
                if connection.is_some_and(|connection| leaves(connection, &answer)) {
                    // If it does, the driver drops this, and the request counts as one whose client left.
                    let held_back = Box::new((Box::pin(tokio::time::sleep(LEAVES)), Some(answer)));
                    let (sleep, answer) = &mut **this.held_back.insert(held_back);
                    ready!(sleep.as_mut().poll(cx));
                    answer.take()
                } else {
                    Some(answer)
                }
            }
            Some(held_back) => {
                ready!(held_back.0.as_mut().poll(cx));
                held_back.1.take()
            }
        };
        let answer = answer.expect("hyper polls no future that was ready");
        let in_exchange = this.in_exchange.take().expect("it is taken with the answer");
        in_exchange.connection().answering(how(*this.version, &answer));
        Poll::Ready(Ok(answer.map(|body| ConnectionBody { body, in_exchange })))
    }
}

/// Passes on what must go ahead of `answer`. Whether its client seems to leave.
fn leaves(connection: &Connection, answer: &Response<ProxyBody>) -> bool {
    if let Some(exchange) = &*connection.current.lock() {
        connection.pass_on_interim(exchange);
    }
    connection.has_ended() && answer.status() != StatusCode::SWITCHING_PROTOCOLS
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
pub(super) struct ConnectionBody {
    body: ProxyBody,
    in_exchange: InExchange,
}

impl Body for ConnectionBody {
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if self.body.take_passed_on() {
            self.in_exchange.connection().give_way();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
