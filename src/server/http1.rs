//! One HTTP/1 connection: hyper's, and the deadlines around it.

mod driver;
mod requests;
mod rest;
mod stage;

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::response::refusal::Refusal;
use crate::server::state::Connection;
use crate::server::wire::Wire;
use crate::server::{Accepted, ConnectionLimits, Downstream, Service, Stage};
use crate::time::LazyTimer;
use crate::upstream::fields::Hop;
use driver::{Driver, End};
use stage::StageWatch;

/// Serves one connection to its end.
pub(super) fn serve<S: Downstream>(accepted: Accepted<S>, service: Service) -> impl Future<Output = ()> + Send {
    let (mut line, mut wire) = Line::new(accepted, service);
    async move {
        loop {
            // Boxed, as all that is not needed while the connection rests.
            let Some(free) = Box::pin(until_rest(wire, &mut line)).await else { return };
            wire = free;
            if !wire.has_unread() && !rest::until_called(&mut wire, &mut line).await {
                return;
            }
        }
    }
}

/// Serves requests until the connection rests, and gives the wire back then. None when it has ended.
///
/// A future of its own, so that whatever of hyper it has in its hands is gone before the rest begins.
async fn until_rest<S: Downstream>(wire: Wire<S>, line: &mut Line) -> Option<Wire<S>> {
    let mut driver = Driver::new(line, wire);
    let end = poll_fn(|cx| driver.poll(line, cx)).await;
    match end {
        End::Closed => None,
        // hyper has made no request of it, so the answer is written past hyper.
        End::Refused(refusal) => {
            line.service.proxy.unrouted.rejected(refusal.reason());
            let (wire, _) = driver.into_wire()?;
            Box::pin(refuse(wire, refusal, line.limits.header_timeout)).await;
            None
        }
        End::Rests => {
            let (mut wire, unread) = driver.into_wire()?;
            // An empty rest would keep the memory of the whole buffer.
            if !unread.is_empty() {
                wire.unread(unread);
            }
            Some(wire)
        }
    }
}

async fn refuse<S: Downstream>(mut wire: Wire<S>, refusal: Refusal, timeout: Duration) {
    // While the gateway closes what is left, nobody lingers.
    let lingers = !matches!(refusal, Refusal::Draining);
    let answer = refusal.into_bytes();
    let _ = tokio::time::timeout(timeout, async {
        wire.write_all(&answer).await?;
        if lingers { wire.shutdown().await } else { wire.flush().await }
    })
    .await;
}

/// What a connection has for all its life.
struct Line {
    connection: Arc<Connection>,
    limits: ConnectionLimits,
    hop: Arc<Hop>,
    service: Service,
    /// Its only timer.
    timer: LazyTimer,
    stage: StageWatch,
}

impl Line {
    fn new<S: Downstream>(accepted: Accepted<S>, service: Service) -> (Self, Wire<S>) {
        let Accepted { socket, ahead, caller, began, limits } = accepted;
        let connection = Arc::new(Connection::new(began, socket.watchable()));
        let wire = Wire::new(socket, ahead, limits.max_header_bytes, connection.clone());
        let stage = StageWatch::new(service.stage.clone());
        let hop = Arc::new(Hop::new(caller.address.ip(), caller.scheme));
        (Self { connection, limits, hop, service, timer: LazyTimer::default(), stage }, wire)
    }
}
