//! A client's connection under TLS.
//!
//! What the gateway sends past hyper ([`Watchable::send`](super::departure::Watchable::send)) goes through TLS too, so the
//! stream is held in common. All of one connection runs in one task: the lock is never waited for.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::server::Protocol;
use crate::server::socket::Socket;
use crate::sync::Mutex;
use crate::tls::HTTP_2;

/// See the module.
#[derive(Debug)]
pub struct Secure {
    sealed: Sealed,
    tcp: Arc<TcpStream>,
}

/// The stream, for those who write past hyper.
#[derive(Debug, Clone)]
pub struct Sealed(Arc<Mutex<TlsStream<Socket>>>);

/// Greets a client as a server does (RFC 8446, section 2). Without a deadline of its own; dropping it closes the
/// connection.
///
/// # Errors
/// When the client does not speak TLS, offers nothing that both can, or shows no certificate where one is asked for.
pub async fn greet(socket: Socket, config: Arc<ServerConfig>) -> io::Result<Secure> {
    let tcp = socket.shared();
    let stream = TlsAcceptor::from(config).accept(socket).await?;
    Ok(Secure { sealed: Sealed(Arc::new(Mutex::new(stream))), tcp })
}

impl Secure {
    /// The socket below, and the stream for those who write past hyper.
    pub(super) fn parts(&self) -> (Arc<TcpStream>, Sealed) {
        (self.tcp.clone(), self.sealed.clone())
    }

    /// What was agreed on by ALPN (RFC 7301).
    #[must_use]
    pub fn agreed(&self) -> Option<Protocol> {
        match self.sealed.0.lock().get_ref().1.alpn_protocol() {
            Some(protocol) if protocol == HTTP_2 => Some(Protocol::Http2),
            Some(_) => Some(Protocol::Http1),
            None => None,
        }
    }
}

impl Sealed {
    /// Sends of `bytes` what can be taken now. Says how many those were.
    pub(super) fn send(&self, bytes: &[u8]) -> usize {
        let mut stream = self.0.lock();
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(&mut *stream).poll_write(&mut cx, bytes) {
            Poll::Ready(Ok(taken)) => {
                // What stays behind goes with the next octets.
                let _ = Pin::new(&mut *stream).poll_flush(&mut cx);
                taken
            }
            _ => 0,
        }
    }
}

impl AsyncRead for Secure {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.sealed.0.lock()).poll_read(cx, buf)
    }
}

impl AsyncWrite for Secure {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.sealed.0.lock()).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.sealed.0.lock()).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.sealed.0.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = ready!(Pin::new(&mut *self.sealed.0.lock()).poll_shutdown(cx));
        // The client was quicker.
        Poll::Ready(shut.or_else(|error| if error.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(error) }))
    }
}
