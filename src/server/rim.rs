//! The rim of the proxy: what is done for every request and knows nothing of sessions.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::{CatchUnwind, Map};
use http::{HeaderMap, Request, Response, Version};
use hyper::body::Incoming;
use tower::{Layer, Service};

use crate::proxy::{Peer, Proxy, Serving};
use crate::request::RequestId;
use crate::request::exchange::Exchange;
use crate::response::body::ProxyBody;
use crate::response::refusal::Refusal;
use crate::sync::Mutex;

/// A request with the connection that it came on.
pub type Arriving = (Request<Incoming>, Peer);

/// The proxy as a tower service. Always ready: who may go on is decided per request, not per service.
#[derive(Debug, Clone)]
pub struct ProxyService(pub Arc<Proxy>);

impl Service<Arriving> for ProxyService {
    type Response = Response<ProxyBody>;
    type Error = Infallible;
    type Future = Map<Serving, fn(Response<ProxyBody>) -> Result<Response<ProxyBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (request, peer): Arriving) -> Self::Future {
        self.0.call(request, &peer).map(Ok)
    }
}

/// Answers 500 where a bug of ours panics, so that the connection and everybody else's requests live on. The unwinding
/// gives turn and place back.
#[derive(Debug, Clone, Copy, Default)]
pub struct CatchPanicLayer;

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> CatchPanic<S> {
        CatchPanic(inner)
    }
}

/// See [`CatchPanicLayer`].
#[derive(Debug, Clone)]
pub struct CatchPanic<S>(S);

impl<S> Service<Arriving> for CatchPanic<S>
where
    S: Service<Arriving, Response = Response<ProxyBody>, Error = Infallible>,
{
    type Response = Response<ProxyBody>;
    type Error = Infallible;
    type Future = Caught<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, arriving: Arriving) -> Self::Future {
        let http1 = arriving.0.version() < Version::HTTP_2;
        let current = arriving.1.current.clone();
        let called = std::panic::catch_unwind(AssertUnwindSafe(|| self.0.call(arriving)));
        let state = match called {
            Ok(future) => Running::Called { future: AssertUnwindSafe(future).catch_unwind() },
            Err(panic) => Running::Panicked { panic: Some(panic) },
        };
        Caught { state, current, http1 }
    }
}

pin_project_lite::pin_project! {
    /// An answer, or what panicked instead of giving one.
    #[derive(Debug)]
    #[project = CaughtProjection]
    pub struct Caught<F> {
        #[pin]
        state: Running<F>,
        current: Arc<Mutex<Option<Arc<Exchange>>>>,
        http1: bool,
    }
}

pin_project_lite::pin_project! {
    #[derive(Debug)]
    #[project = RunningProjection]
    enum Running<F> {
        Called { #[pin] future: CatchUnwind<AssertUnwindSafe<F>> },
        Panicked { panic: Option<Box<dyn Any + Send>> },
    }
}

impl<F: Future<Output = Result<Response<ProxyBody>, Infallible>>> Future for Caught<F> {
    type Output = Result<Response<ProxyBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let panic = match this.state.project() {
            RunningProjection::Called { future } => match std::task::ready!(future.poll(cx)) {
                Ok(answer) => return Poll::Ready(answer),
                Err(panic) => panic,
            },
            RunningProjection::Panicked { panic } => panic.take().unwrap_or_else(|| Box::new("polled again")),
        };
        let message = panic
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".into());
        let exchange = this.current.lock().clone();
        let request_id = exchange.map_or_else(|| RequestId::of(&HeaderMap::new()), |it| it.request_id.clone());
        tracing::error!(%request_id, %message, "a request panicked; please report this");
        Poll::Ready(Ok(Refusal::Internal.into_response(&request_id, *this.http1)))
    }
}

/// The service of one worker's connections.
pub type Rim = CatchPanic<ProxyService>;

/// Puts the rim around `proxy`.
#[must_use]
pub fn around(proxy: Arc<Proxy>) -> Rim {
    tower::ServiceBuilder::new().layer(CatchPanicLayer).service(ProxyService(proxy))
}
