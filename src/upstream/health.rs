//! Active health checks: a GET now and then, whose answer says whether a server may get requests.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::policy::HealthCheck;
use crate::upstream::Upstream;
use crate::upstream::connect::Dial;
use crate::upstream::server::Server;

/// Checks all servers of `upstream` for ever, each on its own. Cancel safe: drop it to stop.
///
/// Servers are checked over HTTP/1.1, also those that get their requests over HTTP/2 with prior knowledge, unless they
/// refuse it, which counts as a failed check.
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
        let passed = tokio::time::timeout(health.timeout, passes(server, &health.path, dial)).await;
        let passed = passed.unwrap_or(false);
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

/// Whether the server answers with a status below 400.
async fn passes(server: &Server, path: &str, dial: &dyn Dial) -> bool {
    let Ok(stream) = dial.dial(&server.host, server.port).await else {
        return false;
    };
    let Ok((mut sender, connection)) = http1::handshake(TokioIo::new(stream)).await else {
        return false;
    };
    let request = Request::get(path)
        .header(http::header::HOST, server.authority())
        .header(http::header::USER_AGENT, concat!("turnwise/", env!("CARGO_PKG_VERSION"), " health check"))
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new());
    let Ok(request) = request else { return false };
    // The end of the connection is no answer: it may come together with one.
    let driven = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = sender.send_request(request) => answer.is_ok_and(|head| head.status().as_u16() < 400),
        () = driven => false,
    }
}
