//! Tokens that one request has taken, and whose buckets they came from.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use sha2::{Digest, Sha256};

use crate::admission::{Quota, RateState, RouteGates};
use crate::limit::rate::NotTaken;
use crate::policy::RatePer;
use crate::request::session_key::SessionKey;
use crate::time;

/// Whose bucket it is, within one rate limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RateKey {
    /// The route's only one.
    Route,
    Client(IpAddr),
    Session(SessionKey),
    /// Digest of a header's value: values may be secrets, and are of any length.
    Header([u8; 16]),
    /// All requests without the header.
    WithoutHeader,
}

impl RateKey {
    /// The bucket of a request. An anonymous one counts by its client's address.
    #[must_use]
    pub fn of(per: &RatePer, session: Option<&SessionKey>, client: IpAddr, headers: &HeaderMap) -> Self {
        match per {
            RatePer::Route => Self::Route,
            RatePer::ClientIp => Self::Client(client),
            RatePer::Session => session.map_or(Self::Client(client), |key| Self::Session(key.clone())),
            RatePer::Header(name) => headers.get(name).map_or(Self::WithoutHeader, |value| {
                let digest = Sha256::digest(value.as_bytes());
                let mut short = [0; 16];
                short.copy_from_slice(&digest[..16]);
                Self::Header(short)
            }),
        }
    }
}

#[derive(Debug)]
struct Token {
    /// The place of its rate limit among the route's.
    limit: usize,
    /// Where it was taken, if a later policy had defined the limit anew.
    later: Option<Arc<RateState>>,
    key: RateKey,
    /// When the bucket has it back by itself; to give it back then would be to give it twice.
    back_at: Instant,
}

/// Tokens taken so far, all of the limits of one route. A drop keeps them spent: a client that leaves has used what it
/// took.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    // Most routes have one limit.
    first: Option<Token>,
    more: Vec<Token>,
    tightest: Option<Quota>,
}

impl Tokens {
    /// Takes one more, of the limit at place `limit` of `gates`, from its buckets or from those of a later definition.
    pub(super) fn take(
        &mut self,
        gates: &RouteGates,
        limit: usize,
        state: &Arc<RateState>,
        key: RateKey,
    ) -> Result<(), NotTaken> {
        let taken = state.table.take(&key)?;
        let quota = state.quota(taken);
        if self.tightest.as_ref().is_none_or(|other| quota.is_tighter_than(other)) {
            self.tightest = Some(quota);
        }
        let later = (!Arc::ptr_eq(state, &gates.rates[limit].state)).then(|| state.clone());
        let token = Token { limit, later, key, back_at: time::after(time::now(), taken.until_full) };
        match &mut self.first {
            none @ None => *none = Some(token),
            Some(_) => self.more.push(token),
        }
        Ok(())
    }

    /// Gives all back: the gateway refused the request.
    pub(super) fn give_back(&mut self, gates: &RouteGates) {
        let now = time::now();
        for token in self.first.take().into_iter().chain(self.more.drain(..)).filter(|token| token.back_at > now) {
            token.later.as_ref().unwrap_or(&gates.rates[token.limit].state).table.give_back(&token.key);
        }
    }

    pub(super) fn tightest(&self) -> Option<&Quota> {
        self.tightest.as_ref()
    }
}
