//! A client that says exactly what it is told and hears exactly what is said.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use super::wait::BOUND;
use super::wire::{Body, Head, Wire};

/// A request to be written onto a connection.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

pub fn request(method: &str, target: &str) -> Request {
    Request { method: method.into(), target: target.into(), fields: Vec::new(), body: Vec::new() }
}

pub fn get(target: &str) -> Request {
    request("GET", target)
}

pub fn post(target: &str, body: impl AsRef<[u8]>) -> Request {
    let body = body.as_ref().to_vec();
    let length = body.len().to_string();
    Request { body, ..request("POST", target) }.header("Content-Length", &length)
}

impl Request {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Names the session in `X-Session-Id`.
    pub fn session(self, id: &str) -> Self {
        self.header("X-Session-Id", id)
    }

    /// Tells the default recorder what to do, see [`super::recorder`].
    pub fn making(self, what: &str) -> Self {
        self.header("X-Do", what)
    }

    pub fn json(self) -> Self {
        self.header("Content-Type", "application/json")
    }

    /// Sends `pieces` chunked, with `trailers`.
    pub fn chunked(mut self, pieces: &[&str], trailers: &[(&str, &str)]) -> Self {
        for piece in pieces {
            self.body.extend_from_slice(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes());
        }
        self.body.extend_from_slice(b"0\r\n");
        for (name, value) in trailers {
            self.body.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        self.body.extend_from_slice(b"\r\n");
        self.header("Transfer-Encoding", "chunked")
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            text.push_str("Host: agents.example\r\n");
        }
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub head: Head,
    pub body: Body,
    /// Interim responses (1xx) that came before.
    pub interim: Vec<Head>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<String> {
        self.head.get(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body.bytes).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body.bytes)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {} {}", self.head.raw, self.text()))
    }

    /// That it is the upstream's whole answer.
    #[track_caller]
    pub fn assert_ok(&self) -> &Self {
        assert_eq!(self.status, 200, "{}{}", self.head.raw, self.text());
        assert!(self.body.whole, "the body was cut: {}", self.head.raw);
        self
    }

    /// That the gateway refused, with everything that a refusal has to say.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, reason: &str) -> &Self {
        let said = format!("{}{}", self.head.raw, self.text());
        assert_eq!(self.status, status, "expected {reason}: {said}");
        let media = self.header("content-type").unwrap_or_default();
        assert!(media.starts_with("application/problem+json"), "{said}");
        let problem = self.json();
        let kind = match reason {
            "rate_limited" => "https://iana.org/assignments/http-problem-types#quota-exceeded".to_owned(),
            _ => format!("urn:turnwise:problem:{reason}"),
        };
        assert_eq!(problem["type"], kind.as_str(), "{said}");
        assert_eq!(problem["status"], status, "{said}");
        assert_eq!(problem["reason"], reason, "{said}");
        for text in ["title", "detail", "request_id"] {
            assert!(problem[text].as_str().is_some_and(|text| !text.is_empty()), "no {text}: {said}");
        }
        let proxy_status = self.header("proxy-status").unwrap_or_default();
        assert!(proxy_status.starts_with("turnwise; error="), "{said}");
        let retry_after = self.header("retry-after").map(|seconds| seconds.parse::<u64>());
        match status {
            429 | 503 => assert!(matches!(retry_after, Some(Ok(1..))), "Retry-After: {said}"),
            _ => assert!(!matches!(retry_after, Some(Err(_))), "Retry-After: {said}"),
        }
        self
    }
}

/// One connection of a client. Reading waits for [`BOUND`] at most and then fails the test.
#[derive(Debug)]
pub struct Connection {
    wire: Wire,
}

impl Connection {
    #[track_caller]
    pub fn open(to: SocketAddr) -> Self {
        Self::open_from(Ipv4Addr::LOCALHOST, to)
    }

    /// From another address of this machine, which makes it another client.
    #[track_caller]
    pub fn open_from(source: Ipv4Addr, to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        if source != Ipv4Addr::LOCALHOST {
            socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into()).expect("a loopback address");
        }
        socket.connect(&to.into()).unwrap_or_else(|error| panic!("connect to {to}: {error}"));
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(BOUND)).expect("a timeout");
        stream.set_write_timeout(Some(BOUND)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self { wire: Wire::new(stream) }
    }

    /// Writes; a peer that no longer reads is found out when reading.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.wire.stream.write_all(bytes.as_ref());
        self
    }

    pub fn ask(&mut self, request: &Request) -> &mut Self {
        self.send(request.bytes())
    }

    /// The next answer; fails when the connection ends before its head is there.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.response_to("GET").expect("an answer, but the connection ended")
    }

    /// The next answer to `method`; `None` when the connection ends before its head is there.
    #[track_caller]
    pub fn response_to(&mut self, method: &str) -> Option<Response> {
        let mut interim = Vec::new();
        let head = loop {
            let head = self.wire.head().unwrap_or_else(|error| panic!("no answer: {error}"))?;
            match status_of(&head) {
                101 | 200.. => break head,
                _ => interim.push(head),
            }
        };
        let status = status_of(&head);
        let body = match (method, status) {
            ("HEAD", _) | (_, 101 | 204 | 304) => Ok(Body { whole: true, ..Body::default() }),
            _ if head.is_chunked() => self.wire.chunked(),
            _ => match head.content_length() {
                Some(length) => self.wire.up_to(length),
                None => self.wire.rest(),
            },
        };
        let body = body.unwrap_or_else(|error| panic!("no end of the body: {error}\n{}", head.raw));
        Some(Response { status, head, body, interim })
    }

    /// Only the head, interim or not; what follows is read with [`Connection::until`].
    #[track_caller]
    pub fn head(&mut self) -> Head {
        self.wire.head().expect("an answer in time").expect("a head, but the connection ended")
    }

    /// Everything up to and with `mark`.
    #[track_caller]
    pub fn until(&mut self, mark: &str) -> String {
        let bytes = self.wire.until(mark.as_bytes()).unwrap_or_else(|error| panic!("no {mark:?}: {error}"));
        let bytes = bytes.unwrap_or_else(|| panic!("the connection ended before {mark:?}"));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What still comes until the gateway closes; fails when it does not close.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        self.wire.rest().expect("the end of the connection").bytes
    }

    #[track_caller]
    pub fn assert_closed(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "the connection went on: {}", String::from_utf8_lossy(&rest));
    }

    /// Half-close: all is said, but the answer is still wanted.
    pub fn finish_sending(&mut self) -> &mut Self {
        let _ = self.wire.stream.shutdown(Shutdown::Write);
        self
    }

    /// Goes away with a reset, as a killed process behind a firewall does.
    pub fn reset(self) {
        self.wire.reset();
    }

    /// Goes away as a closed browser tab does.
    pub fn leave(self) {
        drop(self);
    }

    pub fn stream(&self) -> &TcpStream {
        &self.wire.stream
    }
}

fn status_of(head: &Head) -> u16 {
    head.word(1).parse().unwrap_or_else(|_| panic!("no status line: {:?}", head.first))
}
