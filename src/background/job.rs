//! One request that is answered later: its name, whose it is, how it stands.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, Version, header};
use sha2::{Digest, Sha256};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// 128 unguessable bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JobId(pub(super) [u8; 16]);

impl JobId {
    /// # Panics
    /// When the operating system gives no random bytes, which none does once it has started.
    #[must_use]
    pub fn new() -> Self {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).expect("the operating system gives random bytes");
        Self(bits)
    }

    /// Reads what its `Display` writes, and nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_ours = text.len() == 32 && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let bits = u128::from_str_radix(text, 16).ok().filter(|_| is_ours)?;
        Some(Self(bits.to_be_bytes()))
    }
}

impl Default for JobId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Whose job it is: a digest of what its caller shows of itself. The secrets themselves are not in it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Owner(pub(super) [u8; 32]);

impl Owner {
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut digest = Sha256::new();
        for name in [header::AUTHORIZATION, X_API_KEY] {
            let lines = headers.get_all(name);
            digest.update((lines.iter().count() as u64).to_be_bytes());
            for line in lines {
                digest.update((line.len() as u64).to_be_bytes());
                digest.update(line.as_bytes());
            }
        }
        Self(digest.finalize().into())
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Owner")
    }
}

/// A request as it was accepted, with all that its upstream is to be told of the way it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    pub uri: Uri,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub client: IpAddr,
    /// The other end of the connection that it came on.
    pub peer: IpAddr,
    pub peer_trusted: bool,
    /// Whether that connection was encrypted.
    pub encrypted: bool,
}

/// The answer to a job, as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Where a job stands, as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    Queued,
    Running,
    Retrying,
    Succeeded,
    Failed,
    Cancelled,
}

impl Status {
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Retrying, Self::Succeeded, Self::Failed, Self::Cancelled];

    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.word() == word)
    }

    #[must_use]
    pub fn has_ended(self) -> bool {
        self >= Self::Succeeded
    }
}

impl PartialOrd for Status {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some((*self as u8).cmp(&(*other as u8)))
    }
}

/// How a job stands, for whoever asks.
#[derive(Debug, Clone)]
pub struct View {
    pub id: JobId,
    pub status: Status,
    /// Tries that have begun.
    pub attempts: u32,
    /// Milliseconds since 1970.
    pub created_at: u64,
    pub finished_at: Option<u64>,
    /// Why the last try was none, or how the job ended.
    pub error: Option<Arc<str>>,
    /// When it is worth asking again, while it has not ended.
    pub again_in: Duration,
    pub route: Arc<str>,
    pub upstream: Arc<str>,
    pub method: Method,
    /// The answer's length, where there is one.
    pub result_bytes: Option<u64>,
    /// When it is tried again, where that is known.
    pub next_attempt_in: Option<Duration>,
}

/// What one try came to.
#[derive(Debug)]
pub enum Attempt {
    /// An answer that will not change.
    Answered(Answer),
    /// Not now: it is worth trying again. The answer, if there was one, is kept if there are no tries left.
    Failed { answer: Option<Answer>, error: Arc<str>, asked: Option<Duration>, is_down: bool },
    /// It is no use trying again, and this is why.
    Hopeless { answer: Option<Answer>, error: Arc<str> },
    /// The gateway itself did not let it in yet. No try is used up.
    Postponed { asked: Duration },
    /// The same, for a reason that every job of its route has: those that came later wait for it.
    RouteShut { asked: Duration },
    /// It was stopped, by who knows why.
    Stopped,
}

/// An attempt, and the upstream that it was meant for.
#[derive(Debug)]
pub struct Tried {
    pub attempt: Attempt,
    pub upstream: Option<Arc<str>>,
}
