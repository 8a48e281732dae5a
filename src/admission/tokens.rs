//! Tokens that one request has taken, and whose buckets they came from.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use sha2::{Digest, Sha256};

use crate::admission::{Quota, RateState};
use crate::limit::rate::NotTaken;
use crate::policy::RatePer;
use crate::request::session_key::SessionKey;

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

/// Tokens taken so far. A drop keeps them spent: a client that leaves has used what it took.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    taken: Vec<(Arc<RateState>, RateKey)>,
    tightest: Option<Quota>,
}

impl Tokens {
    /// Takes one more.
    pub(super) fn take(&mut self, state: &Arc<RateState>, key: &RateKey) -> Result<(), NotTaken> {
        let taken = state.table.take(key)?;
        let quota = state.quota(key, taken.remaining);
        if self.tightest.as_ref().is_none_or(|other| quota.is_tighter_than(other)) {
            self.tightest = Some(quota);
        }
        self.taken.push((state.clone(), key.clone()));
        Ok(())
    }

    /// Gives all back: the gateway refused the request.
    pub(super) fn give_back(&mut self) {
        for (state, key) in self.taken.drain(..) {
            state.table.give_back(&key);
        }
    }

    pub(super) fn tightest(&self) -> Option<&Quota> {
        self.tightest.as_ref()
    }
}
