//! Taking connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use prometheus::{IntCounter, IntGauge};
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::server::proxy_protocol::header;
use crate::server::secure::{Secure, greet};
use crate::server::socket::Socket;
use crate::server::{Caller, Service, closing, serve};
use crate::sync::Mutex;
use crate::tls::Live;

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
    /// Slots that a lowered limit has taken away while they were in use: those that come back next are not free.
    owed: AtomicUsize,
    limit: Mutex<usize>,
}

/// The slot of one connection; dropping it gives it back.
#[derive(Debug)]
struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    permit: Option<OwnedSemaphorePermit>,
}

impl ConnectionSlots {
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(limit)), owed: AtomicUsize::new(0), limit: Mutex::new(limit) }
    }

    /// Open connections stay, also beyond a lowered limit.
    pub fn resize(&self, limit: usize) {
        let mut current = self.limit.lock();
        if limit < *current {
            let fewer = *current - limit;
            let taken = self.free.forget_permits(fewer);
            self.owed.fetch_add(fewer - taken, Ordering::Relaxed);
        } else {
            let more = limit - *current;
            let forgiven = more.min(self.owed.load(Ordering::Relaxed));
            self.owed.fetch_sub(forgiven, Ordering::Relaxed);
            self.free.add_permits(more - forgiven);
        }
        *current = limit;
    }

    /// How many there are in all.
    #[must_use]
    pub fn limit(&self) -> usize {
        *self.limit.lock()
    }

    async fn slot(self: &Arc<Self>) -> Option<ConnectionSlot> {
        let permit = self.free.clone().acquire_owned().await.ok()?;
        Some(ConnectionSlot { slots: self.clone(), permit: Some(permit) })
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        // Under the lock of a resize, so that none is forgiven and kept at once.
        let _resizing = self.slots.limit.lock();
        if self.slots.owed.load(Ordering::Relaxed) > 0 {
            self.slots.owed.fetch_sub(1, Ordering::Relaxed);
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}

/// What a connection goes through before HTTP is spoken on it.
#[derive(Debug, Clone)]
pub struct Door {
    pub proxy_protocol: bool,
    pub tls: Option<Arc<Live<ServerConfig>>>,
    /// Connections that did not get through.
    pub turned_away: IntCounter,
}

impl Door {
    fn is_open(&self) -> bool {
        !self.proxy_protocol && self.tls.is_none()
    }

    /// Takes a connection through, within the time that there is for a request head.
    async fn enter(self, stream: TcpStream, address: SocketAddr, service: Service) {
        let limit = service.limits().header_timeout;
        let through = tokio::time::timeout(limit, self.through(stream, address));
        let entered = tokio::select! {
            entered = through => entered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            () = closing(service.stage.clone()) => return,
        };
        match entered {
            Ok((Entered::Plain(socket), caller)) => serve(socket, caller, service).await,
            Ok((Entered::Secure(socket), caller)) => serve(socket, caller, service).await,
            Err(error) => {
                self.turned_away.inc();
                tracing::debug!(%error, %address, "a connection did not get to HTTP");
            }
        }
    }

    async fn through(&self, mut stream: TcpStream, address: SocketAddr) -> io::Result<(Entered, Caller)> {
        let named = if self.proxy_protocol { header(&mut stream).await? } else { None };
        let address = named.unwrap_or(address);
        let socket = Socket::new(stream);
        let Some(tls) = &self.tls else {
            return Ok((Entered::Plain(socket), Caller::plain(address)));
        };
        let secure = greet(socket, tls.current()).await?;
        let caller = Caller { address, scheme: "https", agreed: secure.agreed() };
        Ok((Entered::Secure(secure), caller))
    }
}

enum Entered {
    Plain(Socket),
    Secure(Secure),
}

/// Accepts and serves until `closing` says so. Connections that are open then go on.
///
/// Over the limit each loop holds one more connection that it does not serve, and the others wait in the system's
/// backlog.
pub async fn accept(
    listener: TcpListener,
    door: Door,
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
        let Some((slot, stream, address)) = accepted else { return };
        let gauge = OpenConnection::new(open.clone());
        let service = service.clone();
        let door = (!door.is_open()).then(|| door.clone());
        // Answers go out as they are written; there is nothing to gain from gathering them.
        let _ = stream.set_nodelay(true);
        let ended = move |()| drop((gauge, slot));
        match door {
            // As it is: a connection without all that is small.
            None => drop(tokio::spawn(serve(Socket::new(stream), Caller::plain(address), service).map(ended))),
            Some(door) => drop(tokio::spawn(Box::pin(door.enter(stream, address, service)).map(ended))),
        }
    }
}

async fn next(listener: &TcpListener, slots: &Arc<ConnectionSlots>) -> Option<(ConnectionSlot, TcpStream, SocketAddr)> {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return Some((slots.slot().await?, stream, address)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lowered_limit_is_paid_by_the_slots_that_come_back() {
        let slots = Arc::new(ConnectionSlots::new(3));
        let held = [slots.slot().await, slots.slot().await, slots.slot().await];
        slots.resize(1);
        assert_eq!(slots.free.available_permits(), 0);
        let [a, b, c] = held;
        drop((a, b));
        assert_eq!(slots.free.available_permits(), 0, "two of three were taken away");
        drop(c);
        assert_eq!(slots.free.available_permits(), 1);
        slots.resize(4);
        assert_eq!(slots.free.available_permits(), 4);
    }
}
