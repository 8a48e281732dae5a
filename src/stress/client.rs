//! One client: a connection that is kept as long as it serves.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream as Attempt, ToSocketAddrs};
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

/// A URL that was read and not looked up yet.
struct Named<'u> {
    host: &'u str,
    port: u16,
    /// As it stands in `Host`.
    authority: HeaderValue,
    base: &'u str,
}

impl<'u> Named<'u> {
    fn of(url: &str, uri: &'u Uri) -> Result<Self, String> {
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
        let authority = HeaderValue::from_str(authority.as_str()).map_err(|_| format!("`{authority}` is no host"))?;
        Ok(Self { host, port, authority, base: uri.path().trim_end_matches('/') })
    }
}

fn read(url: &str) -> Result<Uri, String> {
    url.parse().map_err(|error| format!("`{url}` is no URL: {error}"))
}

impl Target {
    /// Looks the host of `url` up.
    ///
    /// # Errors
    /// In a sentence: not `http://`, or the host has no address.
    pub fn of(url: &str) -> Result<Self, String> {
        let uri = read(url)?;
        let named = Named::of(url, &uri)?;
        let host = named.host;
        let addresses: Vec<SocketAddr> = (host, named.port)
            .to_socket_addrs()
            .map_err(|error| format!("the address of `{host}` is not known: {error}"))?
            .collect();
        // Of several the one at which somebody listens.
        let listens = |address: &&SocketAddr| Attempt::connect_timeout(address, LOOKS).is_ok();
        let address = if addresses.len() > 1 { addresses.iter().find(listens) } else { None };
        let address = *address.or(addresses.first()).ok_or_else(|| format!("`{host}` has no address"))?;
        Ok(Self { address, host: named.authority, base: named.base.to_owned() })
    }

    /// As [`Target::of`], but nobody is asked for the address, so that it is no place to send anything to.
    ///
    /// # Errors
    /// In a sentence: `url` is not one that can be meant here.
    pub fn unknown(url: &str) -> Result<Self, String> {
        let uri = read(url)?;
        let named = Named::of(url, &uri)?;
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, named.port));
        Ok(Self { address, host: named.authority, base: named.base.to_owned() })
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
    /// The connection was closed before anything of the request was on its way: it can be sent again.
    Unsent,
    /// A kept connection was closed in the moment in which it was used. The server may have read the request, but its
    /// method is one that may be sent again without being asked (RFC 9110, 9.2.2).
    Stale,
    /// In a sentence.
    Broken(String),
}

/// A client that sends one request after another.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    kept: Option<Link>,
}

/// hyper's connection, polled where its request is: a task of its own would be woken twice for each request.
#[derive(Debug)]
struct Link {
    sender: SendRequest<Full<Bytes>>,
    connection: Box<Connection<TokioIo<TcpStream>, Full<Bytes>>>,
    is_over: bool,
    /// Whether it has brought an answer. Only then a closing can be meant for the pause between two requests.
    has_served: bool,
}

impl Link {
    /// Whether it can take a request, as far as anybody has told.
    async fn is_open(&mut self) -> bool {
        // It may have been closed meanwhile, which only a look tells.
        poll_fn(|cx| {
            self.is_over = self.is_over || Pin::new(&mut *self.connection).poll(cx).is_ready();
            Poll::Ready(())
        })
        .await;
        !self.is_over && self.sender.is_ready()
    }

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
        Self { address, kept: None }
    }

    /// Opens a connection, unless one is open.
    ///
    /// # Errors
    /// When none comes about.
    pub async fn connect(&mut self) -> io::Result<()> {
        if let Some(link) = &mut self.kept
            && link.is_open().await
        {
            return Ok(());
        }
        self.kept = None;
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        self.kept = Some(Link { sender, connection: Box::new(connection), is_over: false, has_served: false });
        Ok(())
    }

    /// Lets go of a kept connection that the server has closed. To be called before a request is sent: what was closed until
    /// then costs nothing, while a request on it might have been read.
    pub async fn look(&mut self) {
        if let Some(link) = &mut self.kept {
            // Whatever has come from the network is known when the runtime has asked for it, which it does before this goes on.
            tokio::task::yield_now().await;
            if !link.is_open().await {
                self.kept = None;
            }
        }
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
        self.connect().await.map_err(|error| NoAnswer::Broken(format!("no connection: {}", root(&error))))?;
        // Only a whole answer leaves it for the next one.
        let Some(mut link) = self.kept.take() else { return Err(NoAnswer::Broken("no connection".to_owned())) };
        let Link { sender, connection, is_over, has_served } = &mut link;
        let may_repeat = *has_served && request.method().is_idempotent();
        let sent = Link::drive(connection, is_over, sender.try_send_request(request)).await;
        let response = sent.map_err(|error| match (error.message().is_some(), error.into_error()) {
            (true, _) => NoAnswer::Unsent,
            (false, error) if may_repeat && is_closing(&error) => NoAnswer::Stale,
            (false, error) if *has_served => {
                NoAnswer::Broken(format!("no answer on a kept connection: {}", root(&error)))
            }
            (false, error) => NoAnswer::Broken(format!("no answer: {}", root(&error))),
        })?;
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
        link.has_served = true;
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
        let Link { sender, connection, is_over, .. } = &mut link;
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

/// Whether a connection has ended, and not a server said what is no answer.
fn is_closing(error: &hyper::Error) -> bool {
    let is_io = || std::error::Error::source(error).is_some_and(|source| source.is::<io::Error>());
    error.is_incomplete_message() || (!error.is_parse() && is_io())
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
    use std::io::{Read as _, Write as _};
    use std::sync::mpsc;

    use http::Method;

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
            assert!(Target::of(bad).is_err() && Target::unknown(bad).is_err(), "{bad}");
        }
    }

    const WAIT: Duration = Duration::from_secs(30);

    fn request(method: Method) -> Request<Full<Bytes>> {
        let request = Request::builder().method(method).uri("/").header("host", "a");
        request.body(Full::from("x")).expect("a request")
    }

    /// A server that answers so many requests of each connection, does what `ends` does, and closes it.
    fn server(
        answers: usize,
        ends: impl Fn(&mut std::net::TcpStream) + Send + 'static,
    ) -> (SocketAddr, mpsc::Receiver<()>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (closed, closings) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                for _ in 0..answers {
                    read_one(&mut stream);
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("it is open");
                }
                ends(&mut stream);
                drop(stream);
                if closed.send(()).is_err() {
                    return;
                }
            }
        });
        (address, closings)
    }

    fn read_one(stream: &mut std::net::TcpStream) {
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(b"\r\n\r\nx") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
            text.push(byte[0]);
        }
    }

    #[tokio::test]
    async fn a_closing_that_came_before_the_next_request_costs_nothing() {
        let (close, asked) = mpsc::channel::<()>();
        let (address, closings) = server(1, move |_| asked.recv().unwrap_or_default());
        let mut client = Client::new(address);
        for _ in 0..20 {
            client.look().await;
            let answer = client.exchange(request(Method::POST), WAIT).await;
            assert!(answer.as_ref().is_ok_and(|answer| answer.status.is_success()), "{answer:?}");
            // The thread waits, and with it the runtime, so that nobody has told it of the closing when it goes on.
            close.send(()).expect("the server is there");
            closings.recv().expect("the server goes on");
        }
    }

    #[tokio::test]
    async fn a_request_that_was_read_is_sent_again_only_where_that_may_be() {
        for (method, again) in [(Method::POST, false), (Method::PATCH, false), (Method::PUT, true), (Method::GET, true)]
        {
            let (address, _closings) = server(1, read_one);
            let mut client = Client::new(address);
            client.exchange(request(Method::POST), WAIT).await.expect("the first is answered");
            let failed = client.exchange(request(method.clone()), WAIT).await.expect_err("the second is not");
            match failed {
                NoAnswer::Stale => assert!(again, "{method}"),
                NoAnswer::Broken(why) => assert!(!again && why.contains("kept"), "{method}: {why}"),
                other => panic!("{method}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_opened_ahead_is_no_kept_one() {
        let (address, _closings) = server(0, read_one);
        let mut client = Client::new(address);
        client.connect().await.expect("it listens");
        client.look().await;
        let failed = client.exchange(request(Method::GET), WAIT).await.expect_err("it is not answered");
        assert!(matches!(failed, NoAnswer::Broken(_)), "{failed:?}");
    }
}
