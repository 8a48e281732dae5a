//! Whole requests in memory: from the octets of a client, through all limits, to a server and back. What runs is the
//! gateway alone, without system calls, so that its instructions can be counted: `benches/instructions` does it.
//!
//! `request KIND COUNT` lets COUNT requests of a kind pass: `get`, `post` (1 KiB), `json` (1 KiB, the session key in it),
//! `lane` (`post`, 8 clients that take turns), `stream` (an answer in 16 pieces).

#![expect(clippy::print_stdout, reason = "it is a program that tells what it measured")]

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use turnwise::control::Control;
use turnwise::policy::compile;
use turnwise::server::{Caller, Service, serve};
use turnwise::upstream::connect::{Dial, Dialling, Stream};

const POLICY: &str = "
limits: { concurrency: 1000 }
upstreams: { agents: { servers: ['http://agent:80'] } }
routes:
  - { name: json, match: { path: /json }, session: { key: [{ json: /session_id }] } }
  - { name: all, session: { key: [{ header: X-Session-Id }], queue: 1000 } }
defaults: { rate_limits: [{ per: session, rate: 1000000/s, burst: 1000000 }] }
";

const PIECES: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Get,
    Post,
    Json,
    Lane,
    Stream,
}

impl Kind {
    fn of(word: &str) -> Option<Self> {
        let all = [("get", Self::Get), ("post", Self::Post), ("json", Self::Json), ("lane", Self::Lane)];
        all.into_iter().chain([("stream", Self::Stream)]).find(|(own, _)| *own == word).map(|(_, kind)| kind)
    }

    fn clients(self) -> usize {
        if self == Self::Lane { 8 } else { 1 }
    }

    fn request(self) -> Vec<u8> {
        let (path, body) = match self {
            Self::Get => ("/", String::new()),
            Self::Stream => ("/stream", String::new()),
            Self::Post | Self::Lane => ("/", "x".repeat(1024)),
            Self::Json => ("/json", format!("{{\"text\":\"{}\",\"session_id\":\"alice\"}}", "x".repeat(991))),
        };
        let method = if body.is_empty() { "GET" } else { "POST" };
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let fields = "Host: bench\r\nUser-Agent: bench/1\r\nAccept: */*\r\nContent-Type: application/json\r\n";
        format!("{method} {path} HTTP/1.1\r\n{fields}X-Session-Id: alice\r\n{length}\r\n{body}").into()
    }
}

/// Servers in memory.
#[derive(Debug)]
struct Servers;

impl Dial for Servers {
    fn dial(&self, _: &str, _: u16) -> Dialling {
        let (ours, theirs) = tokio::io::duplex(16 * 1024);
        tokio::spawn(answer(theirs));
        Box::pin(async { Ok(Box::new(ours) as Box<dyn Stream>) })
    }
}

/// Where the first message in `octets` ends, if it is there. It has a length, or no body.
fn end_of(octets: &[u8]) -> Option<usize> {
    let head = octets.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&octets[..head]).expect("heads are text").to_ascii_lowercase();
    if text.contains("transfer-encoding: chunked") {
        let end = octets[head..].windows(5).position(|five| five == b"0\r\n\r\n")?;
        return Some(head + end + 5);
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    (octets.len() >= head + length).then_some(head + length)
}

/// Takes one message off `octets`, which it reads from `stream`; none at the end.
async fn take(stream: &mut DuplexStream, octets: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    loop {
        if let Some(end) = end_of(octets) {
            return Ok(Some(octets.drain(..end).collect()));
        }
        if stream.read_buf(octets).await? == 0 {
            return Ok(None);
        }
    }
}

async fn answer(mut stream: DuplexStream) -> io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: application/json\r\nConnection: keep-alive\r\n";
    let whole = format!("{head}Content-Length: 15\r\n\r\n{{\"status\":\"ok\"}}");
    let begun = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    let mut octets = Vec::new();
    while let Some(request) = take(&mut stream, &mut octets).await? {
        if !request.starts_with(b"GET /stream") {
            stream.write_all(whole.as_bytes()).await?;
            continue;
        }
        stream.write_all(begun.as_bytes()).await?;
        for _ in 0..PIECES {
            // The piece before it goes all the way first.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            stream.write_all(b"14\r\ndata: a token more\n\n\r\n").await?;
        }
        stream.write_all(b"0\r\n\r\n").await?;
    }
    Ok(())
}

/// Sends one request after another, and reads their answers.
async fn ask(mut stream: DuplexStream, kind: Kind, count: usize) -> io::Result<()> {
    let (request, mut octets) = (kind.request(), Vec::new());
    for _ in 0..count {
        stream.write_all(&request).await?;
        match take(&mut stream, &mut octets).await? {
            Some(answer) if answer.starts_with(b"HTTP/1.1 200 ") => {}
            other => return Err(io::Error::other(format!("{:?}", other.map(String::from_utf8)))),
        }
    }
    Ok(())
}

async fn run(kind: Kind, count: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("gateway.yaml");
    std::fs::write(&file, POLICY).expect("a file");
    let policy = compile::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
    let control = Control::new(file, policy, Arc::new(Servers)).expect("it has no token file");
    let clients: Vec<_> = (0..kind.clients())
        .map(|_| {
            let service = Service { proxy: control.proxy(), stage: control.stage.subscribe() };
            let (ours, theirs) = tokio::io::duplex(16 * 1024);
            let caller = Caller::plain(([10, 0, 0, 1], 1234).into());
            tokio::spawn(serve(theirs, caller, service));
            tokio::spawn(ask(ours, kind, count / kind.clients()))
        })
        .collect();
    for client in clients {
        client.await.expect("no panic").unwrap_or_else(|wrong| panic!("not an answer: {wrong}"));
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let all = ["get", "post", "json", "lane", "stream"];
    let (kinds, count) = match &words[..] {
        [kind, count] => (vec![kind.as_str()], count.parse().expect("a number of requests")),
        _ => (all.to_vec(), 10_000),
    };
    for word in kinds {
        let kind = Kind::of(word).unwrap_or_else(|| panic!("{word} is none of {all:?}"));
        let began = std::time::Instant::now();
        runtime.block_on(run(kind, count));
        let each = began.elapsed() / u32::try_from(count).expect("not that many");
        println!("{word}: {count} requests, {each:?} each with their client and server");
    }
}
