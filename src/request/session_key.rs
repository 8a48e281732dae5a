//! Which session a request belongs to.
//!
//! The sources of [`Session::key`] are tried in order and the first value that is present and not empty wins. What could
//! be read as two different sessions is refused: the upstream might take the other one, and two requests of one session
//! would run at once. Only in JSON the last of equal names counts, because the parsers of the upstreams agree on that.
//!
//! [`Session::within`] values (API keys, tenants) are secrets: only their digest is kept.

mod source;
mod text;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::HeaderMap;
use sha2::{Digest, Sha256};

pub use self::source::may_be_json;
use self::source::{Reader, Value};
use crate::policy::{KeySource, NormalPath, PathMatch, Session};

/// The key of one session, unique among the sessions of a lane. Cheap to clone.
///
/// Its text is the client's own key where it can be, at most 290 octets long, and never equal for two sessions:
///
/// | text | session |
/// |---|---|
/// | `abc` | named `abc` |
/// | `sha256:<64 digits>` | with a name of more than 256 octets |
/// | `anonymous` | shared by requests without a key |
/// | `=anonymous`, `=sha256:…`, `=<32 digits>:…`, `==…` | named like one of the others: what stands after the first `=` |
/// | `<32 digits>:…` | any of the above within a tenant, whose digest the digits are |
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey {
    /// Of the text, with a key of this process that nobody else knows: clients choose the texts. Made once; it is what
    /// every table hashes.
    hash: u64,
    text: Arc<str>,
}

impl Hash for SessionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Ord for SessionKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl PartialOrd for SessionKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl SessionKey {
    fn of_text(text: &str) -> Self {
        static KEYED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self { hash: KEYED.hash_one(text), text: text.into() }
    }

    /// The session that all requests of a tenant without a key share.
    #[must_use]
    pub fn anonymous(tenant: &Tenant) -> Self {
        Self::of_text(&text::within(tenant.digest(), text::ANONYMOUS))
    }

    /// A new session and the name for it, which the upstream and the client are told: 128 unguessable bits as 32
    /// hexadecimal digits. A request of the same tenant that brings this name is of this session.
    ///
    /// # Panics
    /// When the operating system gives no random bytes, which none does once it has started.
    #[must_use]
    pub fn made_up(tenant: &Tenant) -> (Self, Arc<str>) {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).expect("the operating system gives random bytes");
        let name = text::hex(&bits);
        (Self::named(&name, tenant), name.into())
    }

    /// The session that a tenant's requests with this name belong to.
    #[must_use]
    pub fn named(name: &str, tenant: &Tenant) -> Self {
        Self::of_text(&text::within(tenant.digest(), &text::of_name(name)))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({:?})", &*self.text)
    }
}

/// Whose sessions these are: a digest of what stands at [`Session::within`], nothing when that is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Tenant(Option<String>);

impl Tenant {
    fn digest(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Whose request it is, by what stands at `within`. `None` where that is ambiguous, is not text, or stands in a body that
    /// is not there.
    #[must_use]
    pub fn read(
        within: &[KeySource],
        route_path: &PathMatch,
        head: &HeadView<'_>,
        body: Option<&Bytes>,
    ) -> Option<Self> {
        let reader = Reader { route_path, head, body };
        let mut parts = Vec::with_capacity(within.len());
        for source in within {
            match reader.read(source).ok()? {
                Value::InBody => return None,
                Value::Absent => parts.push(None),
                Value::Present(part) => parts.push(Some(part)),
            }
        }
        Some(Self::of(parts.iter().map(Option::as_deref)))
    }

    /// Each part is told apart by its length, and an absent one from every present one.
    fn of<'v>(parts: impl Iterator<Item = Option<&'v str>>) -> Self {
        let digest = parts.fold(None, |digest: Option<Sha256>, part| {
            let digest = digest.unwrap_or_default();
            Some(match part {
                Some(part) => {
                    digest.chain_update([1]).chain_update((part.len() as u64).to_be_bytes()).chain_update(part)
                }
                None => digest.chain_update([0]),
            })
        });
        Self(digest.map(|digest| text::hex(&digest.finalize()[..16])))
    }
}

/// The parts of a head that session keys are read from.
#[derive(Debug, Clone, Copy)]
pub struct HeadView<'r> {
    pub headers: &'r HeaderMap,
    /// Of the target, without the question mark.
    pub query: Option<&'r str>,
    pub path: &'r NormalPath<'r>,
}

/// What is known once everything that matters has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyLookup {
    Found(SessionKey),
    /// No key; [`SessionKey::anonymous`] and [`SessionKey::made_up`] want to know whose request it is.
    Absent(Tenant),
}

/// What is known from the head alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadLookup {
    Known(KeyLookup),
    /// The whole body has to be read first, and then given to [`SessionKey::from_whole`].
    NeedsBody,
}

/// Why a session key is refused with 400. Says where it stands and never what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadKey {
    /// Given several times with different values.
    Ambiguous(String),
    /// Has control characters or is not UTF-8.
    NotText(String),
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ambiguous(place) => write!(f, "{place} is given several times with different values"),
            Self::NotText(place) => write!(f, "{place} has control characters or is not UTF-8"),
        }
    }
}

impl std::error::Error for BadKey {}

impl SessionKey {
    /// Reads the key from the head. Wants the body only when its content type lets it hold a key that would count.
    ///
    /// # Errors
    /// When a source that counts, or one tried before it, is ambiguous or not text.
    pub fn from_head(session: &Session, route_path: &PathMatch, head: &HeadView<'_>) -> Result<HeadLookup, BadKey> {
        lookup(session, &Reader { route_path, head, body: None })
    }

    /// Reads the key from the head and the whole body, which may be empty.
    ///
    /// A body counts for `json` when [`may_be_json`] says so, for `form` when its type is `application/x-www-form-urlencoded` or
    /// `multipart/form-data`, and for neither when it is compressed or does not parse.
    ///
    /// # Errors
    /// As [`SessionKey::from_head`].
    pub fn from_whole(
        session: &Session,
        route_path: &PathMatch,
        head: &HeadView<'_>,
        body: &Bytes,
    ) -> Result<KeyLookup, BadKey> {
        match lookup(session, &Reader { route_path, head, body: Some(body) })? {
            HeadLookup::Known(known) => Ok(known),
            HeadLookup::NeedsBody => unreachable!("a reader that has the body needs no other"),
        }
    }
}

fn lookup(session: &Session, reader: &Reader<'_>) -> Result<HeadLookup, BadKey> {
    let mut tenant = Vec::with_capacity(session.within.len());
    for source in &session.within {
        match reader.read(source)? {
            Value::InBody => return Ok(HeadLookup::NeedsBody),
            Value::Absent => tenant.push(None),
            Value::Present(part) => tenant.push(Some(part)),
        }
    }
    let tenant = Tenant::of(tenant.iter().map(Option::as_deref));
    for source in &session.key {
        match reader.read(source)? {
            Value::InBody => return Ok(HeadLookup::NeedsBody),
            Value::Absent => {}
            Value::Present(name) => return Ok(HeadLookup::Known(KeyLookup::Found(SessionKey::named(&name, &tenant)))),
        }
    }
    Ok(HeadLookup::Known(KeyLookup::Absent(tenant)))
}

#[cfg(test)]
mod tests;
