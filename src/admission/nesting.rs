//! Requests that a running request makes: nested turns.
//!
//! An agent that calls its own API within its session would wait for itself. So a request of a `reentrant` route goes to
//! its server with a token, and a request that brings it back is nested in it:
//!
//! - it takes no place: else parents that hold all places would wait for their children for ever;
//! - in a session whose turn it is nested in, it runs inside that turn; for another session's turn it waits as usual;
//! - the turn and the place of a request last until everything nested in it has ended.
//!
//! ```text
//!   root (turn of s, place) ◀── child in s (nothing) ◀── child in t (turn of t)
//!        └──────────── held until the last of them has ended ───────────┘
//! ```
//!
//! Lock order: the list of those who wait, then a lane's shard or the gate. Nothing else is locked under the tokens.

mod deadlock;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use http::HeaderValue;

use crate::admission::{LaneKey, Rejection, RouteGates, SessionTurn};
use crate::limit::gate::Place;
use crate::limit::places::Scope;
use crate::request::Tenant;
use crate::request::exchange::{EndedBy, Exchange};
use crate::sync::Mutex;

/// How deep requests may be nested in one another.
pub const MOST_DEEP: u8 = 4;
/// How many nested requests may stand in lines at once, in all. They take no places, so no limit of the policy bounds them, and
/// each one's arrival looks at the others.
pub const MOST_WAITING: u32 = 1000;

/// 128 unguessable bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token([u8; 16]);

impl Token {
    fn new() -> Self {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits).expect("the operating system gives random bytes");
        Self(bits)
    }

    /// Reads what [`value`](Self::value) writes, and nothing else.
    #[must_use]
    pub fn read(value: &HeaderValue) -> Option<Self> {
        let digits: &[u8; 32] = value.as_bytes().try_into().ok()?;
        let mut bits = [0; 16];
        for (octet, pair) in bits.iter_mut().zip(digits.as_chunks::<2>().0) {
            let is_ours = pair.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
            let text = std::str::from_utf8(pair).ok().filter(|_| is_ours)?;
            *octet = u8::from_str_radix(text, 16).ok()?;
        }
        Some(Self(bits))
    }

    /// 32 hexadecimal digits.
    #[must_use]
    pub fn value(self) -> HeaderValue {
        let text: String = self.0.iter().map(|octet| format!("{octet:02x}")).collect();
        HeaderValue::try_from(text).expect("digits make a field value")
    }
}

/// A request that others may be nested in, or that is nested itself.
#[derive(Debug)]
pub struct Nest {
    token: Token,
    exchange: Arc<Exchange>,
    /// Whose turn it waits for or holds; none where it needs none of its own.
    lane: Option<LaneKey>,
    /// Where it has or will have a place.
    scopes: Option<(Scope, Scope)>,
    gates: Arc<RouteGates>,
    tenant: Tenant,
    depth: u8,
    held: Mutex<Held>,
    nesting: Arc<Nesting>,
    // After what is held: an inner turn ends before the outer one.
    parent: Option<Arc<Nest>>,
}

/// What a request holds until everything nested in it has ended. The place goes back before the turn.
#[derive(Debug, Default)]
struct Held {
    place: Option<Place>,
    turn: Option<SessionTurn>,
}

/// What is to become a [`Nest`].
#[derive(Debug)]
pub(super) struct Nested {
    pub exchange: Arc<Exchange>,
    pub gates: Arc<RouteGates>,
    pub lane: Option<LaneKey>,
    pub scopes: Option<(Scope, Scope)>,
    pub tenant: Tenant,
    pub parent: Option<Arc<Nest>>,
}

impl Nest {
    /// The token by which others are nested in it.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }

    #[must_use]
    pub fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    #[must_use]
    pub fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref()
    }

    /// The session's line that it stands in itself.
    #[must_use]
    pub fn lane(&self) -> Option<&LaneKey> {
        self.lane.as_ref()
    }

    /// Whether a turn of `lane` is held by it or by what it is nested in.
    #[must_use]
    pub fn is_inside(&self, lane: &LaneKey) -> bool {
        self.chain().any(|nest| nest.lane.as_ref() == Some(lane))
    }

    /// Who ended it or what it is nested in.
    #[must_use]
    pub fn ended_by(&self) -> Option<EndedBy> {
        self.chain().find_map(|nest| nest.exchange.ended_by())
    }

    /// Whether a request of `tenant_of` each one's own tenant may be nested in it. What a token gives is for the tenant whose
    /// turn it is.
    pub fn is_open_to(&self, mut tenant_of: impl FnMut(&RouteGates) -> Option<Tenant>) -> bool {
        self.chain().all(|nest| tenant_of(&nest.gates).as_ref() == Some(&nest.tenant))
    }

    pub(super) fn hold(&self, place: Option<Place>, turn: Option<SessionTurn>) {
        *self.held.lock() = Held { place, turn };
    }

    /// Whether it holds a place for itself and what is nested in it.
    #[must_use]
    pub(super) fn holds_place(&self) -> bool {
        self.held.lock().place.is_some()
    }

    /// Ends everything that is nested in it.
    pub fn end_inside(&self, by: EndedBy) {
        self.nesting.all().iter().filter(|nest| nest.is_nested_in(self)).for_each(|nest| nest.exchange.end(by));
    }

    fn is_nested_in(&self, outer: &Self) -> bool {
        self.chain().skip(1).any(|nest| std::ptr::eq(nest, outer))
    }

    fn root(&self) -> &Self {
        self.chain().last().unwrap_or(self)
    }

    /// Itself, and what it is nested in, from the inside out.
    fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |nest| nest.parent.as_deref())
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        self.nesting.nests.lock().remove(&self.token);
        self.nesting.count.fetch_sub(1, Relaxed);
        let Held { place, turn } = std::mem::take(&mut *self.held.lock());
        drop(place);
        drop(turn);
    }
}

/// All that are open to nested requests, and those of them that wait for a turn.
#[derive(Debug, Default)]
pub struct Nesting {
    nests: Mutex<HashMap<Token, Weak<Nest>, RandomState>>,
    count: AtomicUsize,
    waiting: Mutex<Vec<Arc<Nest>>>,
}

impl Nesting {
    /// Whether there is any token that could be brought.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.count.load(Relaxed) > 0
    }

    /// The turn of a token, while it lasts.
    #[must_use]
    pub fn find(&self, token: Token) -> Option<Arc<Nest>> {
        self.nests.lock().get(&token).and_then(Weak::upgrade)
    }

    /// Everyone that others may be nested in.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Nest>> {
        self.nests.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// # Errors
    /// When it would be nested too deep, or what it is nested in has been ended.
    pub(super) fn begin(self: &Arc<Self>, nested: Nested) -> Result<Arc<Nest>, Rejection> {
        let Nested { exchange, gates, lane, scopes, tenant, parent } = nested;
        let depth = parent.as_ref().map_or(0, |parent| parent.depth + 1);
        if depth > MOST_DEEP {
            return Err(Rejection::NestedTooDeep { most: MOST_DEEP });
        }
        let token = Token::new();
        let (nesting, held) = (self.clone(), Mutex::new(Held::default()));
        let nest = Arc::new(Nest { token, exchange, lane, scopes, gates, tenant, depth, held, nesting, parent });
        self.count.fetch_add(1, Relaxed);
        self.nests.lock().insert(token, Arc::downgrade(&nest));
        // Whoever ends what it is nested in either finds it on the list, or has said so before it came there.
        let ended = nest.parent.as_ref().and_then(|parent| parent.ended_by());
        match ended {
            Some(by) => Err(Rejection::Interrupted(by)),
            None => Ok(nest),
        }
    }
}

/// A nested request in a line of another session. Struck out by its drop.
#[derive(Debug)]
pub(super) struct WaitsNested {
    nesting: Arc<Nesting>,
    nest: Arc<Nest>,
}

impl Drop for WaitsNested {
    fn drop(&mut self) {
        self.nesting.waiting.lock().retain(|nest| !Arc::ptr_eq(nest, &self.nest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_written_and_in_no_other_way() {
        let token = Token::new();
        let text = token.value().to_str().expect("digits").to_owned();
        assert_eq!(Token::read(&token.value()), Some(token));
        for other in [text.to_uppercase() + "A", text[1..].to_owned(), format!("+{}", &text[1..]), format!(" {text}")] {
            assert_eq!(HeaderValue::try_from(other.clone()).ok().as_ref().and_then(Token::read), None, "{other}");
        }
        assert_ne!(Token::new(), token);
    }
}
