//! What a client is told of a rate limit: `RateLimit-Policy` and `RateLimit`
//! (draft-ietf-httpapi-ratelimit-headers-10), as structured fields (RFC 9651).
//!
//! Each is a list; members for several limits go into lines of their own.

use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;

/// Greatest integer of a structured field (RFC 9651, section 3.3.1).
const MAX_INTEGER: u64 = 999_999_999_999_999;

/// What one rate limit allows, the same for all its requests.
#[derive(Debug, PartialEq, Eq)]
pub struct Allowance {
    pub name: Arc<str>,
    /// Tokens of a full bucket.
    pub burst: NonZeroU32,
    /// Time after which one token comes back.
    pub interval: Duration,
    policy: HeaderValue,
    /// What `RateLimit` begins with.
    begun: Box<str>,
}

impl Allowance {
    #[must_use]
    pub fn new(name: Arc<str>, burst: NonZeroU32, interval: Duration) -> Self {
        let string = string(&name);
        let window =
            interval.as_nanos().saturating_mul(u128::from(burst.get())).div_ceil(Duration::from_secs(1).as_nanos());
        let window = u64::try_from(window).unwrap_or(MAX_INTEGER).clamp(1, MAX_INTEGER);
        let policy = Bytes::from_owner(format!("{string};q={burst};w={window}"));
        let policy = HeaderValue::from_maybe_shared(policy).expect(PRINTABLE);
        Self { name, burst, interval, policy, begun: format!("{string};r=").into() }
    }

    /// The value of `RateLimit-Policy`: `"session";q=10;w=2`.
    ///
    /// The quota `q` is the burst, the window `w` the whole seconds, at least 1, in which an empty bucket fills again when
    /// one token comes back after each interval.
    #[must_use]
    pub fn policy(&self) -> &HeaderValue {
        &self.policy
    }
}

/// The state of one rate limit's bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    pub allowance: Arc<Allowance>,
    pub remaining: u32,
    /// Until the next token comes back.
    pub reset: Duration,
}

impl Quota {
    /// Whether this one is closer to refusing than `other`.
    #[must_use]
    pub fn is_tighter_than(&self, other: &Self) -> bool {
        let part =
            |quota: &Self| u64::from(quota.remaining) * u64::from(u32::MAX) / u64::from(quota.allowance.burst.get());
        part(self) < part(other)
    }

    /// The value of `RateLimit`: `"session";r=0;t=1`.
    ///
    /// `r` are the requests that may still come at once, `t` the whole seconds after which that is more.
    #[must_use]
    pub fn state(&self) -> HeaderValue {
        let seconds = self.reset.as_secs().saturating_add(u64::from(self.reset.subsec_nanos() > 0)).min(MAX_INTEGER);
        let (mut remaining, mut reset) = (itoa::Buffer::new(), itoa::Buffer::new());
        let pieces = [&*self.allowance.begun, remaining.format(self.remaining), ";t=", reset.format(seconds)];
        // Of the exact length, so that it becomes the value without being copied.
        let mut text = Vec::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
        for piece in pieces {
            text.extend_from_slice(piece.as_bytes());
        }
        HeaderValue::try_from(text).expect(PRINTABLE)
    }
}

const PRINTABLE: &str = "printable ASCII makes a field value";

/// A string (RFC 9651, section 3.3.3). Such strings are ASCII; other octets are escaped as in URLs.
fn string(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    text.push('"');
    for octet in name.bytes() {
        match octet {
            b'"' | b'\\' => text.extend(['\\', char::from(octet)]),
            b' '..=b'~' => text.push(char::from(octet)),
            _ => drop(write!(text, "%{octet:02X}")),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allowance(name: &str, burst: u32, interval: Duration) -> Arc<Allowance> {
        Arc::new(Allowance::new(name.into(), NonZeroU32::new(burst).expect("not zero"), interval))
    }

    fn policy(burst: u32, interval: Duration) -> HeaderValue {
        allowance("session", burst, interval).policy().clone()
    }

    fn state(name: &str, remaining: u32, reset: Duration) -> HeaderValue {
        Quota { allowance: allowance(name, 1, Duration::ZERO), remaining, reset }.state()
    }

    #[test]
    fn the_window_is_the_time_in_which_an_empty_bucket_fills() {
        assert_eq!(policy(10, Duration::from_millis(200)), "\"session\";q=10;w=2");
        assert_eq!(policy(3, Duration::from_millis(500)), "\"session\";q=3;w=2");
        assert_eq!(policy(1, Duration::from_nanos(1)), "\"session\";q=1;w=1");
        assert_eq!(policy(1, Duration::from_secs(3600)), "\"session\";q=1;w=3600");
        assert_eq!(policy(u32::MAX, Duration::MAX), format!("\"session\";q={};w={MAX_INTEGER}", u32::MAX));
    }

    #[test]
    fn the_reset_is_never_too_early() {
        assert_eq!(state("session", 0, Duration::from_millis(1)), "\"session\";r=0;t=1");
        assert_eq!(state("session", 9, Duration::ZERO), "\"session\";r=9;t=0");
        assert_eq!(state("session", 0, Duration::from_millis(1001)), "\"session\";r=0;t=2");
        assert_eq!(state("session", 0, Duration::MAX), format!("\"session\";r=0;t={MAX_INTEGER}"));
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(state("a \"b\\c\u{e4}", 1, Duration::ZERO), "\"a \\\"b\\\\c%C3%A4\";r=1;t=0");
    }

    #[test]
    fn the_smaller_part_of_the_burst_is_tighter() {
        let quota = |burst, remaining| Quota {
            allowance: allowance("a", burst, Duration::ZERO),
            remaining,
            reset: Duration::ZERO,
        };
        assert!(quota(100, 10).is_tighter_than(&quota(10, 2)));
        assert!(!quota(10, 2).is_tighter_than(&quota(100, 20)));
    }

    proptest! {
        #[test]
        fn any_name_and_number_make_a_field(name: String, burst: NonZeroU32, left: u32, time: Duration) {
            let allowance = allowance(&name, burst.get(), time);
            let fields = [allowance.policy().clone(), Quota { allowance, remaining: left, reset: time }.state()];
            prop_assert!(fields.iter().all(|field| field.to_str().is_ok()));
        }
    }
}
