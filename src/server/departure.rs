//! Has the client gone, or has it only finished sending?
//!
//! Both look alike: its side of the connection is shut (a FIN). But one that has gone answers whatever it is sent with
//! a reset. So the gateway sends it the first octet of its answer, the `H` that every HTTP/1 answer begins with, and
//! leaves that octet out when the answer comes. Amid an answer in chunks it sends a zero, which the size of the next chunk
//! may begin with. A client that only shut its side reads on as if nothing had happened.
//!
//! hyper does not read a connection whose request is being answered: it would make a buffer for it each time. So whoever
//! drives the connection looks whether it has said anything ([`Watchable::poll_said`]). Where octets stand before the end,
//! because the body of a request that waits is not read, the watch needs a registration of its own for the socket, and
//! looks at its readiness only ([`Departure`]).
//!
//! Under TLS there is nothing to ask with: every octet is part of a record. There a client whose side is shut counts as
//! gone. One that only says that it has finished (close_notify) and keeps its side open is here.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use socket2::SockRef;
use tokio::io::{Interest, ReadBuf, Ready};
use tokio::net::TcpStream;

use crate::server::secure::{Sealed, Secure};
use crate::server::socket::Socket;

/// The octet that every answer of HTTP/1 begins with.
pub const FIRST_OCTET: &[u8] = b"H";

/// A connection whose client's departure can be watched for.
pub trait Departs {
    /// Where to watch; `None` where the end of what the client sends means that it has gone.
    fn watchable(&self) -> Option<Watchable>;
}

/// A connection that can be watched, which costs nothing until it is.
#[derive(Debug, Clone)]
pub struct Watchable {
    tcp: Arc<TcpStream>,
    sealed: Option<Sealed>,
}

impl Watchable {
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Begins to watch.
    ///
    /// # Errors
    /// When the system has no descriptor to spare.
    pub fn watch(&self) -> io::Result<Departure> {
        // A second descriptor of the same socket has a registration, and so a readiness, of its own.
        let socket = std::net::TcpStream::from(SockRef::from(&*self.tcp).try_clone()?);
        Ok(Departure { socket: TcpStream::from_std(socket)?, shut: false, sealed: self.is_sealed() })
    }
}

/// What a connection says without being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Nothing more so far.
    Nothing,
    /// Octets that nobody has read; what comes after them is not seen.
    Octets,
    /// That its client sends no more, and all octets were read.
    End,
    /// It is broken.
    Reset,
}

impl Watchable {
    /// Looks whether anything has come, and has `cx` woken when something does. Costs no call of the system while nothing
    /// has.
    pub fn poll_said(&self, cx: &mut Context<'_>) -> Said {
        match self.tcp.poll_read_ready(cx) {
            Poll::Pending => return Said::Nothing,
            Poll::Ready(Err(_)) => return Said::Reset,
            Poll::Ready(Ok(())) => {}
        }
        let ready = self.tcp.ready(Interest::READABLE).now_or_never();
        if self.is_sealed() && ready.and_then(Result::ok).is_some_and(Ready::is_read_closed) {
            return Said::Reset;
        }
        // A read that has filled its buffer has left the socket ready, with octets in it or without.
        let mut room = [0; 1];
        match self.tcp.poll_peek(cx, &mut ReadBuf::new(&mut room)) {
            Poll::Pending => Said::Nothing,
            Poll::Ready(Ok(0)) => Said::End,
            Poll::Ready(Ok(_)) => Said::Octets,
            Poll::Ready(Err(_)) => Said::Reset,
        }
    }

    /// Sends of `bytes` what the socket takes now, past whoever else writes to it. Says how many those were.
    #[must_use]
    pub fn send(&self, bytes: &[u8]) -> usize {
        match &self.sealed {
            Some(sealed) => sealed.send(bytes),
            None => self.tcp.try_write(bytes).unwrap_or(0),
        }
    }
}

impl Departs for Socket {
    fn watchable(&self) -> Option<Watchable> {
        Some(Watchable { tcp: self.shared(), sealed: None })
    }
}

impl Departs for Secure {
    fn watchable(&self) -> Option<Watchable> {
        let (tcp, sealed) = self.parts();
        Some(Watchable { tcp, sealed: Some(sealed) })
    }
}

impl Departs for tokio::io::DuplexStream {
    fn watchable(&self) -> Option<Watchable> {
        None
    }
}

/// Watches one connection beside whoever reads and writes it.
#[derive(Debug)]
pub struct Departure {
    socket: TcpStream,
    shut: bool,
    sealed: bool,
}

/// What is known of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Here,
    /// It will send no more. Whether it still listens, only a probe tells.
    Shut,
    Gone,
}

impl Departure {
    /// Looks, and has `cx` woken when it may be otherwise.
    pub fn poll_presence(&mut self, cx: &mut Context<'_>) -> Presence {
        // Readiness is cleared without reading: each further event is an edge that says something new.
        while !self.shut {
            match self.socket.poll_read_ready(cx) {
                Poll::Ready(Ok(())) if self.readiness().is_read_closed() => self.shut = true,
                Poll::Ready(Ok(())) => self.clear(Interest::READABLE),
                Poll::Ready(Err(_)) => return Presence::Gone,
                Poll::Pending => break,
            }
        }
        loop {
            match self.socket.poll_write_ready(cx) {
                Poll::Ready(Ok(())) if self.readiness().is_write_closed() => return Presence::Gone,
                Poll::Ready(Ok(())) => self.clear(Interest::WRITABLE),
                Poll::Ready(Err(_)) => return Presence::Gone,
                Poll::Pending => break,
            }
        }
        match (self.shut, self.sealed) {
            (false, _) => Presence::Here,
            (true, false) => Presence::Shut,
            (true, true) => Presence::Gone,
        }
    }

    fn readiness(&self) -> Ready {
        let ready = self.socket.ready(Interest::READABLE | Interest::WRITABLE).now_or_never();
        ready.and_then(Result::ok).unwrap_or(Ready::EMPTY)
    }

    fn clear(&self, interest: Interest) {
        let _ = self.socket.try_io(interest, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }

    /// Sends `bytes` if the socket takes them all at once. For what may as well not be sent.
    pub fn send(&self, bytes: &[u8]) -> bool {
        SockRef::from(&self.socket).send(bytes).is_ok_and(|sent| sent == bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.expect("connected"), Socket::new(server.expect("accepted").0))
    }

    async fn until(watch: &mut Departure, want: Presence) {
        poll_fn(|cx| if watch.poll_presence(cx) == want { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    #[tokio::test]
    async fn a_client_that_only_shut_its_side_reads_on_and_is_not_gone() {
        let (mut client, mut server) = pair().await;
        client.write_all(b"unread body").await.expect("open");
        client.shutdown().await.expect("open");
        let mut watch = server.watchable().expect("TCP").watch().expect("a descriptor");
        until(&mut watch, Presence::Shut).await;
        assert!(watch.send(FIRST_OCTET));
        server.write_all(b"TTP/1.1 200 OK").await.expect("the client listens");
        let mut answer = [0; 15];
        client.read_exact(&mut answer).await.expect("the answer");
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        let presence = poll_fn(|cx| Poll::Ready(watch.poll_presence(cx))).await;
        assert_eq!(presence, Presence::Shut);
    }

    #[tokio::test]
    async fn a_client_that_left_is_gone_once_it_was_probed() {
        let (mut client, server) = pair().await;
        client.write_all(b"unread body").await.expect("open");
        let mut watch = server.watchable().expect("TCP").watch().expect("a descriptor");
        drop(client);
        until(&mut watch, Presence::Shut).await;
        assert!(watch.send(FIRST_OCTET));
        until(&mut watch, Presence::Gone).await;
    }
}
