//! Taking connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGauge;
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::server::socket::Socket;
use crate::server::{Service, serve};
use crate::sync::Mutex;

/// Connections that the system holds until they are accepted.
const BACKLOG: i32 = 4096;
/// How long to leave the system alone when it has no descriptor to spare.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Opens a listening socket.
///
/// # Errors
/// Whatever the system says, most often that the address is in use.
pub fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier process that linger must not keep this one from starting.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` are two addresses, and may both be listened to.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// How many connections may be open at once, across all listeners and workers.
#[derive(Debug)]
pub struct ConnectionSlots {
    free: Arc<Semaphore>,
    limit: Mutex<usize>,
}

impl ConnectionSlots {
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(limit)),
            limit: Mutex::new(limit),
        }
    }

    /// Open connections stay, also beyond a lowered limit.
    pub fn resize(&self, limit: usize) {
        let mut current = self.limit.lock();
        if limit >= *current {
            self.free.add_permits(limit - *current);
        } else {
            let free = self.free.clone();
            let fewer = u32::try_from(*current - limit).unwrap_or(u32::MAX);
            tokio::spawn(async move {
                if let Ok(permits) = free.acquire_many_owned(fewer).await {
                    permits.forget();
                }
            });
        }
        *current = limit;
    }
}

/// Accepts and serves until `closing` says so. Connections that are open then go on.
///
/// Over the limit no connection is accepted: new ones wait in the system's backlog.
pub async fn accept(
    listener: TcpListener,
    service: Service,
    slots: Arc<ConnectionSlots>,
    open: IntGauge,
    mut closing: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return,
            accepted = next(&listener, &slots) => accepted,
        };
        let Ok((slot, stream, address)) = accepted else { return };
        let gauge = OpenConnection::new(open.clone());
        let service = service.clone();
        tokio::spawn(async move {
            // Answers go out as they are written; there is nothing to gain from gathering them.
            let _ = stream.set_nodelay(true);
            serve(Socket::new(stream), address, service).await;
            drop((gauge, slot));
        });
    }
}

async fn next(
    listener: &TcpListener,
    slots: &ConnectionSlots,
) -> Result<(tokio::sync::OwnedSemaphorePermit, tokio::net::TcpStream, SocketAddr), tokio::sync::AcquireError> {
    let slot = slots.free.clone().acquire_owned().await?;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return Ok((slot, stream, address)),
            // The client was quicker to leave than we to take it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted at the moment");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Counts an open connection.
struct OpenConnection(IntGauge);

impl OpenConnection {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
