//! Making connections to servers.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls::HTTP_2;
use crate::upstream::server::Server;

/// A byte stream to a server.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The connection, or why there is none.
pub type Dialling = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// How a server is reached. TCP in the gateway; memory in tests with a paused clock.
pub trait Dial: Debug + Send + Sync {
    /// Connects to `host`, a name or an address literal. Without a timeout of its own; cancel safe.
    fn dial(&self, host: &str, port: u16) -> Dialling;
}

/// Connects to a server, and greets it under TLS where that is spoken. Without a timeout of its own; cancel safe.
///
/// # Errors
/// Whatever the system says of the attempt; and when the server cannot be trusted, or speaks another protocol than it is
/// asked for.
pub(super) async fn open(dial: &dyn Dial, server: &Server) -> io::Result<Box<dyn Stream>> {
    let stream = dial.dial(&server.host, server.port).await?;
    let Some(tls) = server.tls() else { return Ok(stream) };
    let (config, name) = tls.of(&server.host)?;
    let wants_http2 = config.alpn_protocols.iter().any(|protocol| protocol == HTTP_2);
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    // A server that chooses none speaks what servers spoke before there was a choice.
    if wants_http2 && stream.get_ref().1.alpn_protocol() != Some(HTTP_2) {
        return Err(io::Error::other("the server does not speak HTTP/2 over TLS"));
    }
    Ok(Box::new(stream))
}

/// A name that has no address, as far as can be found out.
#[derive(Debug)]
struct Unresolved(io::Error);

impl std::fmt::Display for Unresolved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Unresolved {}

/// Whether no connection came about because the process, or the system, has no file descriptor left.
pub(super) fn is_exhausted(error: &io::Error) -> bool {
    // EMFILE and ENFILE, which have the same numbers on every Unix.
    let exhausted = |error: &io::Error| matches!(error.raw_os_error(), Some(24 | 23));
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Unresolved>());
    exhausted(error) || inner.is_some_and(|Unresolved(inner)| exhausted(inner))
}

/// Whether no connection came about because the server's name has no address.
pub(super) fn is_unresolved(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<Unresolved>())
}

/// Tries all addresses of a name, one after the other.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let unresolved = |error| io::Error::other(Unresolved(error));
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(unresolved)?;
    let mut last = unresolved(io::Error::other("the name has no address"));
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// TCP, with names looked up anew for every connection, so that a changed record is followed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Dial for Tcp {
    fn dial(&self, host: &str, port: u16) -> Dialling {
        let host = host.to_owned();
        Box::pin(async move {
            let stream = connect(&host, port).await?;
            // Requests are written in one piece, and must not wait for the server's acknowledgement of the last one.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}
