//! Active health checks: a GET now and then, whose answer says whether a server may get requests.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, Version, header};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::policy::HealthCheck;
use crate::upstream::Upstream;
use crate::upstream::connect::{Dial, Stream, is_exhausted, open};
use crate::upstream::server::Server;

/// Checks all servers of `upstream` for ever, each on its own. Cancel safe: drop it to stop.
///
/// Servers are checked in the version of HTTP in which they get their requests.
pub async fn check(upstream: Arc<Upstream>, dial: Arc<dyn Dial>) {
    let Some(health) = upstream.policy.health.clone() else {
        return;
    };
    let checks = upstream.servers.iter().map(|server| watch(&upstream, server, &health, &*dial));
    futures_util::future::join_all(checks).await;
}

async fn watch(upstream: &Upstream, server: &Server, health: &HealthCheck, dial: &dyn Dial) {
    let mut ticks = tokio::time::interval(health.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let passed =
            tokio::time::timeout(health.timeout, passes(server, &health.path, upstream.policy.http2, dial)).await;
        // Nothing was learnt of the server where the gateway has no descriptor left.
        let Some(passed) = passed.unwrap_or(Some(false)) else { continue };
        if let Some(healthy) = server.checked(passed, health.healthy_after, health.unhealthy_after) {
            // Whoever waits for a slot there must hear of it.
            upstream.shared.slot_came_back.notify_waiters();
            if healthy {
                tracing::info!(server = %server.url, upstream = %upstream.policy.name, "a server is healthy again");
            } else {
                tracing::warn!(server = %server.url, upstream = %upstream.policy.name, "a server is unhealthy");
            }
        }
    }
}

/// Whether the server answers with a status below 400. `None`: it could not be asked.
async fn passes(server: &Server, path: &str, http2: bool, dial: &dyn Dial) -> Option<bool> {
    match open(dial, server).await {
        Ok(stream) => Some(passes_on(stream, server, path, http2).await),
        Err(error) if is_exhausted(&error) => None,
        Err(_) => Some(false),
    }
}

async fn passes_on(stream: Box<dyn Stream>, server: &Server, path: &str, http2: bool) -> bool {
    let stream = TokioIo::new(stream);
    let Some(request) = request(server, path, http2) else { return false };
    if http2 {
        let Ok((mut sender, connection)) = http2::handshake(TokioExecutor::new(), stream).await else { return false };
        answers(sender.send_request(request), connection).await
    } else {
        let Ok((mut sender, connection)) = http1::handshake(stream).await else { return false };
        answers(sender.send_request(request), connection).await
    }
}

fn request(server: &Server, path: &str, http2: bool) -> Option<Request<Empty<Bytes>>> {
    let authority = server.authority();
    let request = if http2 {
        Request::get(format!("{}://{authority}{path}", server.scheme())).version(Version::HTTP_2)
    } else {
        Request::get(path).header(header::HOST, authority).header(header::CONNECTION, "close")
    };
    let agent = concat!("turnwise/", env!("CARGO_PKG_VERSION"), " health check");
    request.header(header::USER_AGENT, agent).body(Empty::new()).ok()
}

async fn answers(
    answer: impl Future<Output = hyper::Result<Response<Incoming>>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> bool {
    // The end of the connection is no answer: it may come together with one.
    let driven = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = answer => answer.is_ok_and(|head| head.status().as_u16() < 400),
        () = driven => false,
    }
}
