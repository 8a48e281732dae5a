//! The public listeners: connections in, requests out to the [`Proxy`](crate::proxy::Proxy).
//!
//! hyper reads and writes HTTP; around it stands what a proxy needs beyond that: framing that hyper's own reading hides
//! is looked for in the octets ([`inspect`]), a client that has left is told from one that has only finished sending
//! ([`departure`]), and every state of a connection has a deadline ([`http1`], [`http2`]).

pub mod accept;
pub mod departure;
pub mod descriptors;
pub mod http1;
pub mod http2;
pub mod inspect;
pub mod proxy_protocol;
pub mod rim;
pub mod secure;
pub mod sniff;
pub mod socket;
pub mod state;
pub mod wire;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::proxy::Proxy;
use crate::time;
use departure::Departs;

/// A byte stream from a client.
pub trait Downstream: AsyncRead + AsyncWrite + Departs + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Departs + Send + Unpin + 'static> Downstream for T {}

/// How connections are treated; read from the policy when a connection begins.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    pub header_timeout: Duration,
    pub keep_alive_timeout: Duration,
    pub max_header_bytes: usize,
}

/// Who is at the other end of a connection, and what is spoken on it.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    pub address: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// What both have agreed on (ALPN); else the first octets tell.
    pub agreed: Option<Protocol>,
}

impl Caller {
    /// On a connection without TLS.
    #[must_use]
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, scheme: "http", agreed: None }
    }
}

/// A version of HTTP, as far as connections are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// A connection whose protocol is known.
#[derive(Debug)]
struct Accepted<S> {
    socket: S,
    /// What was read of it already.
    ahead: Bytes,
    caller: Caller,
    began: Instant,
    limits: ConnectionLimits,
}

/// How much longer connections may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stage {
    #[default]
    Serving,
    /// Each ends after the request that is on it. One without a request stays, so that a request that is on its way
    /// gets an answer, if only that it came too late.
    Ending,
    /// Those without a request end too.
    Closing,
}

/// How long a client has, when the gateway closes what is left, to bring the rest of a head, or to agree to an end.
pub(crate) const GOODBYE: Duration = Duration::from_secs(1);

/// What every connection is served with.
#[derive(Debug, Clone)]
pub struct Service {
    pub proxy: Arc<Proxy>,
    pub stage: watch::Receiver<Stage>,
}

impl Service {
    fn limits(&self) -> ConnectionLimits {
        let edition = self.proxy.edition.load();
        let server = &edition.policy.server;
        ConnectionLimits {
            header_timeout: server.header_timeout,
            keep_alive_timeout: server.keep_alive_timeout,
            max_header_bytes: server.max_header_bytes,
        }
    }
}

/// Serves one connection to its end, in whichever version of HTTP the client begins to speak.
///
/// Dropping the future closes the connection; its requests end as if the client had left.
pub fn serve<S: Downstream>(socket: S, caller: Caller, service: Service) -> impl Future<Output = ()> + Send {
    // Boxed are the phases that pass: a connection that rests keeps the memory of the largest that is not. Nor is this an async
    // function, whose future would keep a second copy of what it is called with.
    let begun = Box::pin(begin(socket, caller, service));
    async move {
        match begun.await {
            Some((Protocol::Http1, accepted, service)) => http1::serve(accepted, service).await,
            Some((Protocol::Http2, accepted, service)) => Box::pin(http2::serve(accepted, service)).await,
            None => {}
        }
    }
}

/// Finds out which version of HTTP is spoken. `None`: none is.
async fn begin<S: Downstream>(socket: S, caller: Caller, service: Service) -> Option<(Protocol, Accepted<S>, Service)> {
    let limits = service.limits();
    let began = time::now();
    let sniffed = match caller.agreed {
        Some(Protocol::Http1) => sniff::Sniffed::Http1(socket, Bytes::new()),
        Some(Protocol::Http2) => sniff::Sniffed::Http2(socket, Bytes::new()),
        None => sniff::protocol(socket, limits.header_timeout, closing(service.stage.clone())).await,
    };
    let (protocol, socket, ahead) = match sniffed {
        sniff::Sniffed::Http1(socket, ahead) => (Protocol::Http1, socket, ahead),
        sniff::Sniffed::Http2(socket, ahead) => (Protocol::Http2, socket, ahead),
        sniff::Sniffed::Nothing => return None,
    };
    Some((protocol, Accepted { socket, ahead, caller, began, limits }, service))
}

/// Ready when connections without a request are to end.
async fn closing(mut stage: watch::Receiver<Stage>) {
    if stage.wait_for(|stage| *stage >= Stage::Closing).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of what an async function returns.
    fn size<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_task_of_a_connection_that_rests_is_small() {
        // Each of ten thousands has one for all its life.
        let task = size(serve::<socket::Socket>);
        assert!(task <= 700, "{task} octets");
    }
}
