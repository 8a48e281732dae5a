//! One client: a connection that is kept as long as it serves.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{Connection, SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Of an answer that is no success, bytes that are shown as a sample.
const SAMPLE: usize = 200;
/// How long one of several addresses is tried.
const LOOKS: Duration = Duration::from_secs(2);
/// Bytes of one answer that are read where its text matters.
const MOST: usize = 256 * 1024 * 1024;

/// Where requests go.
#[derive(Debug, Clone)]
pub struct Target {
    pub address: SocketAddr,
    /// As it stands in `Host`.
    pub host: HeaderValue,
    /// What stands before each path, without a slash at its end.
    pub base: String,
}

impl Target {
    /// Looks the host of `url` up.
    ///
    /// # Errors
    /// In a sentence: not `http://`, or the host has no address.
    pub fn of(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("`{url}` is no URL: {error}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err("https is not spoken here: put the load before what ends TLS".to_owned()),
            _ => return Err(format!("`{url}` does not begin with http://")),
        }
        let authority = uri.authority().ok_or_else(|| format!("`{url}` names no host"))?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(format!(
                "`{url}` has more than a host and a path: names and keys go into fields (-H), queries into --path"
            ));
        }
        let port = match authority.as_str()[authority.host().len()..].strip_prefix(':') {
            None => 80,
            Some(port) => match port.parse::<u16>() {
                Ok(port) if port > 0 => port,
                _ => return Err(format!("`{port}` is no port")),
            },
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let addresses: Vec<SocketAddr> = std::net::ToSocketAddrs::to_socket_addrs(&(host, port))
            .map_err(|error| format!("the address of `{host}` is not known: {error}"))?
            .collect();
        // Of several the one at which somebody listens.
        let listens = |address: &&SocketAddr| std::net::TcpStream::connect_timeout(address, LOOKS).is_ok();
        let address = if addresses.len() > 1 { addresses.iter().find(listens) } else { None };
        let address = *address.or(addresses.first()).ok_or_else(|| format!("`{host}` has no address"))?;
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| format!("`{authority}` is no host"))?;
        Ok(Self { address, host, base: uri.path().trim_end_matches('/').to_owned() })
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// The beginning of a body that is no success.
    pub sample: String,
}

/// Why nothing came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    Timeout,
    /// A kept connection was closed in the moment in which it was used: what every client tries once more.
    Stale,
    /// In a sentence.
    Broken(String),
}

/// A client that sends one request after another.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    kept: Option<Link>,
    /// Connections so far.
    connects: u64,
}

/// hyper's connection, polled where its request is: a task of its own would be woken twice for each request.
#[derive(Debug)]
struct Link {
    sender: SendRequest<Full<Bytes>>,
    connection: Box<Connection<TokioIo<TcpStream>, Full<Bytes>>>,
    is_over: bool,
}

impl Link {
    /// What comes of `future`, which something on this connection is to bring about.
    async fn drive<T>(
        connection: &mut Connection<TokioIo<TcpStream>, Full<Bytes>>,
        is_over: &mut bool,
        future: impl Future<Output = T>,
    ) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(value);
            }
            // Why it ended is told to whoever waits for an answer.
            *is_over = *is_over || Pin::new(&mut *connection).poll(cx).is_ready();
            future.as_mut().poll(cx)
        })
        .await
    }
}

impl Client {
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, kept: None, connects: 0 }
    }

    /// Opens a connection, unless one is open.
    ///
    /// # Errors
    /// When none comes about.
    pub async fn connect(&mut self) -> io::Result<()> {
        if let Some(link) = &mut self.kept {
            // It may have been closed meanwhile, which only a look tells.
            poll_fn(|cx| {
                link.is_over = link.is_over || Pin::new(&mut *link.connection).poll(cx).is_ready();
                Poll::Ready(())
            })
            .await;
            if !link.is_over && link.sender.is_ready() {
                return Ok(());
            }
        }
        self.kept = None;
        self.connects += 1;
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        self.kept = Some(Link { sender, connection: Box::new(connection), is_over: false });
        Ok(())
    }

    /// Sends a request and reads the answer to its end. A connection that did not bring a whole answer is closed.
    ///
    /// Cancel safe in that dropping it is how a client leaves: the connection is closed.
    pub async fn exchange(&mut self, request: Request<Full<Bytes>>, timeout: Duration) -> Result<Answer, NoAnswer> {
        match tokio::time::timeout(timeout, self.attempt(request)).await {
            Ok(answered) => answered,
            Err(_) => {
                self.kept = None;
                Err(NoAnswer::Timeout)
            }
        }
    }

    async fn attempt(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer> {
        let had_one = self.kept.is_some();
        let connects = self.connects;
        self.connect().await.map_err(|error| NoAnswer::Broken(format!("no connection: {}", root(&error))))?;
        // Only a whole answer leaves it for the next one.
        let Some(mut link) = self.kept.take() else { return Err(NoAnswer::Broken("no connection".to_owned())) };
        let Link { sender, connection, is_over } = &mut link;
        let is_kept = had_one && connects == self.connects;
        let broken = |error: hyper::Error| match is_kept {
            true => NoAnswer::Stale,
            false => NoAnswer::Broken(format!("no answer: {}", root(&error))),
        };
        let response = Link::drive(connection, is_over, sender.send_request(request)).await.map_err(broken)?;
        let status = response.status();
        let mut body = response.into_body();
        let mut sample = Vec::new();
        while let Some(frame) = Link::drive(connection, is_over, body.frame()).await {
            let cut = |error: hyper::Error| NoAnswer::Broken(format!("the answer was cut: {}", root(&error)));
            let frame = frame.map_err(cut)?;
            if let Some(data) = frame.data_ref().filter(|_| !status.is_success() && sample.len() < SAMPLE) {
                sample.extend_from_slice(&data[..data.len().min(SAMPLE - sample.len())]);
            }
        }
        self.kept = Some(link);
        // What a server says must not move the cursor of whoever reads it.
        let sample =
            String::from_utf8_lossy(&sample).chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
        Ok(Answer { status, sample })
    }

    /// Asks for `path` and returns the whole body of a success.
    ///
    /// # Errors
    /// In a sentence; also when there is none within `timeout`.
    pub async fn get(target: &Target, path: &str, timeout: Duration) -> Result<Bytes, String> {
        let whole = tokio::time::timeout(timeout, Self::whole(target, path)).await;
        whole.unwrap_or_else(|_| Err(format!("`{}{path}` is not answered within {timeout:?}", target.base)))
    }

    async fn whole(target: &Target, path: &str) -> Result<Bytes, String> {
        let uri = format!("{}{path}", target.base);
        let request = Request::get(&uri).header(http::header::HOST, target.host.clone());
        let request = request.body(Full::default()).map_err(|error| format!("`{uri}` is no path: {error}"))?;
        let mut client = Self::new(target.address);
        client.connect().await.map_err(|error| format!("no connection to {}: {error}", target.address))?;
        let Some(mut link) = client.kept.take() else { return Err("no connection".to_owned()) };
        let Link { sender, connection, is_over } = &mut link;
        let response = Link::drive(connection, is_over, sender.send_request(request)).await;
        let response = response.map_err(|error| format!("`{uri}`: {}", root(&error)))?;
        if !response.status().is_success() {
            return Err(format!("`{uri}` is answered with {}", response.status()));
        }
        let body = http_body_util::Limited::new(response.into_body(), MOST);
        let body = Link::drive(connection, is_over, body.collect()).await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| format!("`{uri}`: {error}"))
    }
}

/// The innermost cause, which says what happened.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_address_a_host_and_what_stands_before_each_path() {
        let target = Target::of("http://127.0.0.1:8080/base/").expect("a URL");
        assert_eq!((target.address.to_string(), target.base.as_str()), ("127.0.0.1:8080".into(), "/base"));
        assert_eq!(target.host, "127.0.0.1:8080");
        let target = Target::of("http://[::1]").expect("a URL");
        assert_eq!((target.address.to_string(), target.base.as_str()), ("[::1]:80".into(), ""));
        for bad in [
            "http://127.0.0.1:99999",
            "http://127.0.0.1:0",
            "http://a:b@127.0.0.1",
            "http://127.0.0.1/?x=1",
            "127.0.0.1:80",
            "https://127.0.0.1",
            "ftp://127.0.0.1",
            "http://",
            "nonsense",
        ] {
            assert!(Target::of(bad).is_err(), "{bad}");
        }
    }
}
