//! Upgraded connections: bytes both ways, holding turn and place until both sides are done.

use std::io;
use std::time::{Duration, Instant};

use http::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;

use crate::admission::Permit;
use crate::response::body::ProxyBody;
use crate::response::ending::Ending;
use crate::time;
use crate::upstream::pool::Tunnel;
use crate::upstream::send::Answer;

/// Bytes read at once in one direction.
const PIECE: usize = 16 * 1024;

/// Answers the 101, and carries what both sides say once they have both switched.
pub(super) fn start(
    answer: Response<Answer>,
    downstream: OnUpgrade,
    permit: Permit,
    mut ending: Ending,
) -> Response<ProxyBody> {
    let (head, body) = answer.into_parts();
    let status = head.status.as_u16();
    let upstream = body.into_upgraded();
    tokio::spawn(async move {
        let exchange = permit.exchange().clone();
        let timeouts = permit.gates().policy.timeouts;
        let carried = async {
            let (Ok(downstream), Some((tunnel, slot, call))) = (downstream.await, upstream) else {
                return Some("broke");
            };
            let Tunnel { stream, open } = tunnel;
            let ended = carry(TokioIo::new(downstream), stream, timeouts.idle).await;
            tracing::debug!(?ended, "an upgraded connection ended");
            if let (Ok(()), Some(call)) = (&ended, call) {
                call.completed();
            }
            drop((open, slot));
            let error = ended.err()?;
            Some(if error.kind() == io::ErrorKind::TimedOut { "idle_timeout" } else { "broke" })
        };
        let cut = tokio::select! {
            cut = carried => cut,
            () = over(permit.since(), timeouts.total) => Some("total_timeout"),
            by = exchange.ended() => {
                permit.gates().metrics.interrupted(by.word());
                Some("interrupted")
            }
        };
        drop(permit);
        match cut {
            Some(why) => ending.cut(status, why),
            None => ending.answered(status),
        }
    });
    Response::from_parts(head, ProxyBody::Own(None))
}

async fn over(since: Instant, total: Duration) {
    if total.is_zero() {
        std::future::pending::<()>().await;
    }
    time::sleep_until(time::after(since, total)).await;
}

/// Carries bytes both ways until both sides have ended, one breaks, or neither says anything for `idle`.
async fn carry<A, B>(a: A, b: B, idle: Duration) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (moved, mut seen) = watch::channel(());
    let (a_read, a_write) = tokio::io::split(a);
    let (b_read, b_write) = tokio::io::split(b);
    let both = async { tokio::try_join!(one_way(a_read, b_write, &moved), one_way(b_read, a_write, &moved)) };
    tokio::pin!(both);
    loop {
        tokio::select! {
            ended = &mut both => return ended.map(|_| ()),
            quiet = tokio::time::timeout(idle, seen.changed()) => if quiet.is_err() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

async fn one_way<R: AsyncRead, W: AsyncWrite>(
    mut from: ReadHalf<R>,
    mut to: WriteHalf<W>,
    moved: &watch::Sender<()>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        moved.send_replace(());
        to.write_all(&piece[..length]).await?;
        // Under TLS octets are taken before the socket has room for them.
        to.flush().await?;
        moved.send_replace(());
    }
}
