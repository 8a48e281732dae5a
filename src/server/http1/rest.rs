//! A connection between two requests that has rested for a while.
//!
//! hyper keeps a buffer and much state for a connection on which nothing happens, and there may be ten thousands of
//! them. So hyper is taken apart when a connection has rested for [`AFTER`], and made anew at the next octet: what is
//! kept meanwhile is the socket, the deadline, and the watch for a drain.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::Line;
use crate::server::state::Waits;
use crate::server::wire::Wire;
use crate::server::{Downstream, Stage};
use crate::time;

/// Long enough that a client which sends one request after the other is never made to wait for it.
pub(super) const AFTER: Duration = Duration::from_secs(1);

/// How a rest ends.
enum Woken {
    /// The client has sent something.
    Called,
    /// The client sends no more, or the gateway drains.
    Ended,
    /// The client was silent for too long, or has gone.
    Gone,
}

/// Waits for what the client sends next, which the wire then has. False when the connection has ended.
pub(super) async fn until_called<S: Downstream>(wire: &mut Wire<S>, line: &mut Line) -> bool {
    match poll_fn(|cx| poll(wire, line, cx)).await {
        Woken::Called => return true,
        Woken::Ended => {
            let _ = wire.shutdown().await;
        }
        Woken::Gone => {}
    }
    false
}

fn poll<S: Downstream>(wire: &mut Wire<S>, line: &mut Line, cx: &mut Context<'_>) -> Poll<Woken> {
    let _step = time::hold();
    match wire.poll_called(cx) {
        Poll::Ready(Ok(true)) => return Poll::Ready(Woken::Called),
        Poll::Ready(Ok(false)) => return Poll::Ready(Woken::Ended),
        Poll::Ready(Err(_)) => return Poll::Ready(Woken::Gone),
        Poll::Pending => {}
    }
    // One that may still send a last request stays while the others end.
    if line.stage.poll(cx) >= Stage::Closing {
        return Poll::Ready(Woken::Ended);
    }
    let Waits::Request(since) = line.connection.waits(None) else {
        return Poll::Ready(Woken::Called);
    };
    let deadline = time::after(since, line.limits.keep_alive_timeout);
    line.timer.poll_until(deadline, cx).map(|()| Woken::Gone)
}
