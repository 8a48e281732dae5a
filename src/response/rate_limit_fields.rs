//! `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10), as structured fields (RFC 9651).
//!
//! Each is a list; members for several limits go into lines of their own.

use std::num::NonZeroU32;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Greatest integer of a structured field (RFC 9651, section 3.3.1).
const MAX_INTEGER: u64 = 999_999_999_999_999;

/// What a limit allows: `"session";q=10;w=2`.
///
/// The quota `q` is the burst, the window `w` the whole seconds, at least 1, in which an empty bucket fills again when one
/// token comes back after each `interval`.
#[must_use]
pub fn rate_limit_policy(name: &str, burst: NonZeroU32, interval: Duration) -> HeaderValue {
    let window =
        interval.as_nanos().saturating_mul(u128::from(burst.get())).div_ceil(Duration::from_secs(1).as_nanos());
    member(name, &format!("q={burst};w={}", integer(window).max(1)))
}

/// What is left of it: `"session";r=0;t=1`.
///
/// `r` are the requests that may still come at once, `t` the whole seconds after which that is more.
#[must_use]
pub fn rate_limit(name: &str, remaining: u32, reset: Duration) -> HeaderValue {
    let seconds = reset.as_nanos().div_ceil(Duration::from_secs(1).as_nanos());
    member(name, &format!("r={remaining};t={}", integer(seconds)))
}

fn integer(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(MAX_INTEGER).min(MAX_INTEGER)
}

/// A string (RFC 9651, section 3.3.3) with parameters. Such strings are ASCII; other octets are escaped as in URLs.
fn member(name: &str, parameters: &str) -> HeaderValue {
    let mut text = String::with_capacity(name.len() + parameters.len() + 3);
    text.push('"');
    for octet in name.bytes() {
        match octet {
            b'"' | b'\\' => text.extend(['\\', char::from(octet)]),
            b' '..=b'~' => text.push(char::from(octet)),
            _ => text.push_str(&format!("%{octet:02X}")),
        }
    }
    text.push_str("\";");
    text.push_str(parameters);
    HeaderValue::try_from(text).expect("printable ASCII makes a field value")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(burst: u32, interval: Duration) -> HeaderValue {
        rate_limit_policy("session", NonZeroU32::new(burst).expect("not zero"), interval)
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
        assert_eq!(rate_limit("session", 0, Duration::from_millis(1)), "\"session\";r=0;t=1");
        assert_eq!(rate_limit("session", 9, Duration::ZERO), "\"session\";r=9;t=0");
        assert_eq!(rate_limit("session", 0, Duration::from_millis(1001)), "\"session\";r=0;t=2");
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(rate_limit("a \"b\\c\u{e4}", 1, Duration::ZERO), "\"a \\\"b\\\\c%C3%A4\";r=1;t=0");
    }

    proptest! {
        #[test]
        fn any_name_and_number_make_a_field(name: String, burst: NonZeroU32, left: u32, time: Duration) {
            let fields = [rate_limit_policy(&name, burst, time), rate_limit(&name, left, time)];
            prop_assert!(fields.iter().all(|field| field.to_str().is_ok()));
        }
    }
}
