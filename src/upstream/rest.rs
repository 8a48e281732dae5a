//! The rest of a request that was answered before it was read to its end.
//!
//! hyper closes a connection whose request body nobody reads, although its answer did not say so, and the client's next
//! request would fail. So the rest is read and thrown away, within a bound; beyond it the connection is closed.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use http_body::Body;
use hyper::body::Incoming;

/// How much of it is read, and for how long. More is not worth a connection.
const MOST: usize = 1024 * 1024;
const LONGEST: Duration = Duration::from_secs(5);

/// Reads what is left of `body`, in a task of its own.
pub fn discard(body: Incoming) {
    if body.is_end_stream() {
        return;
    }
    // Without a runtime the process is ending, and its connections with it.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(tokio::time::timeout(LONGEST, read(body)));
    }
}

async fn read(body: Incoming) {
    let mut body = pin!(body);
    let mut left = MOST;
    while let Some(Ok(frame)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let length = frame.data_ref().map_or(0, bytes::Bytes::len);
        if length > left {
            return;
        }
        left -= length;
    }
}
