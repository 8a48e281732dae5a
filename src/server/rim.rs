//! The rim of the proxy: what is done for every request and knows nothing of sessions.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::CatchUnwind;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use tower::{Layer, Service};

use crate::proxy::{Peer, Proxy};
use crate::request::RequestId;
use crate::response::body::ProxyBody;
use crate::response::refusal::Refusal;

/// A request with the connection that it came on.
pub type Arriving = (Request<Incoming>, Peer);

/// The proxy as a tower service. Always ready: who may go on is decided per request, not per service.
#[derive(Debug, Clone)]
pub struct ProxyService(pub Proxy);

impl Service<Arriving> for ProxyService {
    type Response = Response<ProxyBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ProxyBody>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (request, peer): Arriving) -> Self::Future {
        let answer = self.0.call(request, &peer);
        Box::pin(answer.map(Ok))
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
        let request_id = RequestId::of(arriving.0.headers());
        let http1 = arriving.0.version() < Version::HTTP_2;
        let called = std::panic::catch_unwind(AssertUnwindSafe(|| self.0.call(arriving)));
        let state = match called {
            Ok(future) => Running::Called { future: AssertUnwindSafe(future).catch_unwind() },
            Err(panic) => Running::Panicked { panic: Some(panic) },
        };
        Caught { state, request_id, http1 }
    }
}

pin_project_lite::pin_project! {
    /// An answer, or what panicked instead of giving one.
    #[derive(Debug)]
    #[project = CaughtProjection]
    pub struct Caught<F> {
        #[pin]
        state: Running<F>,
        request_id: RequestId,
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
        tracing::error!(request_id = %this.request_id, %message, "a request panicked; please report this");
        Poll::Ready(Ok(Refusal::Internal.into_response(this.request_id, *this.http1)))
    }
}

/// The service of one worker's connections.
pub type Rim = CatchPanic<ProxyService>;

/// Puts the rim around `proxy`.
#[must_use]
pub fn around(proxy: Proxy) -> Rim {
    tower::ServiceBuilder::new().layer(CatchPanicLayer).service(ProxyService(proxy))
}
