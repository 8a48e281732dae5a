//! Making connections to servers.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

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

/// TCP, with names looked up anew for every connection, so that a changed record is followed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tcp;

impl Dial for Tcp {
    fn dial(&self, host: &str, port: u16) -> Dialling {
        let host = host.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            // Requests are written in one piece, and must not wait for the server's acknowledgement of the last one.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}
