//! A client on one HTTP/1.1 connection, in octets.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// One connection. Dropping it is how a client leaves.
#[derive(Debug)]
pub struct Client {
    stream: DuplexStream,
    read: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 0: the connection ended without one.
    pub status: u16,
    /// As sent, in lower case.
    pub head: String,
    pub body: Vec<u8>,
    /// Whether the body came to its end as its framing says.
    pub complete: bool,
}

impl Answer {
    /// The value of the first field of this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The reason of a problem; empty if it is none.
    pub fn reason(&self) -> String {
        let problem: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        problem.and_then(|problem| Some(problem["reason"].as_str()?.to_owned())).unwrap_or_default()
    }

    pub fn retry_after(&self) -> u64 {
        self.field("retry-after").and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

impl Client {
    pub fn new(stream: DuplexStream) -> Self {
        Self { stream, read: Vec::new() }
    }

    /// Writes octets. The gateway may have closed the connection, which is for the answer to tell.
    pub async fn write(&mut self, octets: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(octets.as_ref()).await;
    }

    /// Sends a request with `fields` (each with its line end) and `body`.
    pub async fn request(&mut self, method: &str, target: &str, fields: &str, body: &str) {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        self.write(format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{fields}{length}\r\n{body}")).await;
    }

    /// Reads more. False at the end of the connection.
    async fn more(&mut self) -> bool {
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece).await {
            Ok(length) => {
                self.read.extend_from_slice(&piece[..length]);
                length > 0
            }
            Err(_) => false,
        }
    }

    /// Waits until the gateway closes the connection, and returns what it said meanwhile.
    pub async fn until_closed(&mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned()
    }

    /// Reads up to `length` octets of whatever comes.
    pub async fn take(&mut self, length: usize) -> usize {
        let mut piece = vec![0; length];
        self.stream.read(&mut piece).await.unwrap_or(0)
    }

    /// Reads the head of the next answer, past interim ones but a switch of protocols.
    pub async fn head(&mut self) -> Answer {
        loop {
            let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") else {
                if self.more().await {
                    continue;
                }
                return Answer { status: 0, head: String::new(), body: Vec::new(), complete: false };
            };
            let head = String::from_utf8_lossy(&self.read[..end]).to_lowercase();
            self.read.drain(..end + 4);
            let status: u16 = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
            if status >= 200 || status == 101 {
                return Answer { status, head, body: Vec::new(), complete: false };
            }
        }
    }

    /// Reads the next answer.
    pub async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        if answer.status == 0 {
            return answer;
        }
        if answer.field("transfer-encoding") == Some("chunked") {
            while let Some(piece) = self.chunk().await {
                if piece.is_empty() {
                    answer.complete = true;
                    break;
                }
                answer.body.extend(piece);
            }
        } else {
            let length = answer.field("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            while self.read.len() < length && self.more().await {}
            answer.complete = self.read.len() >= length;
            let length = length.min(self.read.len());
            answer.body = self.read.drain(..length).collect();
        }
        answer
    }

    /// One chunk of a body; empty: the last. `None`: the connection ended before that.
    async fn chunk(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.read.windows(2).position(|window| window == b"\r\n") {
                let size = std::str::from_utf8(&self.read[..end]).ok()?;
                let size = usize::from_str_radix(size, 16).ok()?;
                if self.read.len() >= end + size + 4 {
                    let piece = self.read[end + 2..end + 2 + size].to_vec();
                    self.read.drain(..end + size + 4);
                    return Some(piece);
                }
            }
            if !self.more().await {
                return None;
            }
        }
    }
}
