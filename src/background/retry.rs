//! When a job is tried again. Pure: no clock, no chance of its own.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};

/// No job and no upstream is left alone for longer, whatever the policy's delay has grown to.
const LONGEST: Duration = Duration::from_secs(3600);
/// The longest for which a `Retry-After` is believed.
const LONGEST_ASKED: Duration = Duration::from_secs(24 * 3600);
/// An upstream that is down is looked at at least that often.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// By so much of itself a delay is lengthened at most, so that those who failed together do not come back together.
const JITTER: f64 = 0.25;

/// Whether an upstream's answer says: not now.
#[must_use]
pub fn is_temporary(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// How long to wait after so many tries (at least one). `chance` is from 0 to 1. Never less than the policy's delay,
/// doubled with each try; never less than what the upstream asked for.
#[must_use]
pub fn delay(base: Duration, tries: u32, asked: Option<Duration>, chance: f64) -> Duration {
    let doubled = base.saturating_mul(1_u32.checked_shl(tries.saturating_sub(1).min(31)).unwrap_or(u32::MAX));
    // The policy's own delay is kept, however long it is.
    let own = doubled.min(LONGEST.max(base));
    let own = own + own.mul_f64(JITTER * chance.clamp(0.0, 1.0));
    own.max(asked.unwrap_or_default().min(LONGEST_ASKED))
}

/// How long an upstream is left alone after so many failed looks at it.
#[must_use]
pub fn pause(base: Duration, looks: u32) -> Duration {
    delay(base, looks, None, 0.0).min(LONGEST_PAUSE.max(base))
}

/// What `Retry-After` asks for (RFC 9110, section 10.2.3), counted from `now`.
#[must_use]
pub fn asked_for(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds.min(LONGEST_ASKED.as_secs())));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default().min(LONGEST_ASKED))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn delays_double_and_are_lengthened_by_a_quarter_at_most() {
        let seconds = |tries, chance| delay(5 * SECOND, tries, None, chance).as_secs_f64();
        assert_eq!([1, 2, 3, 4].map(|tries| seconds(tries, 0.0)), [5.0, 10.0, 20.0, 40.0]);
        assert_eq!(seconds(1, 1.0), 6.25);
        assert_eq!(seconds(100, 0.0), 3600.0);
        assert_eq!(delay(7200 * SECOND, 1, None, 0.0), 7200 * SECOND);
    }

    #[test]
    fn what_the_upstream_asks_for_is_the_least() {
        assert_eq!(delay(5 * SECOND, 1, Some(30 * SECOND), 1.0), 30 * SECOND);
        assert_eq!(delay(5 * SECOND, 4, Some(30 * SECOND), 0.0), 40 * SECOND);
        assert_eq!(delay(5 * SECOND, 1, Some(Duration::MAX), 0.0), LONGEST_ASKED);
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, http::HeaderValue::from_static(text));
            asked_for(&headers, now)
        };
        assert_eq!(of("120"), Some(120 * SECOND));
        assert_eq!(of("Sun, 06 Nov 1994 08:50:07 GMT"), Some(30 * SECOND));
        assert_eq!(of("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(of("99999999999"), Some(LONGEST_ASKED));
        assert_eq!([of("soon"), of("-1"), of("1.5"), of("")], [None; 4]);
        assert_eq!(asked_for(&HeaderMap::new(), now), None);
    }

    proptest! {
        #[test]
        fn a_delay_is_never_shorter_than_the_policys_and_grows(
            base in 1_u64..100_000_000, tries: u32, asked: Option<u32>, chance in 0.0..=1.0,
        ) {
            let base = Duration::from_millis(base);
            let asked = asked.map(|seconds| Duration::from_secs(seconds.into()));
            let own = delay(base, tries, asked, chance);
            prop_assert!(own >= base && own <= LONGEST_ASKED.max(base).mul_f64(1.0 + JITTER));
            prop_assert!(delay(base, tries.saturating_add(1), asked, 0.0) >= delay(base, tries, asked, 0.0));
            prop_assert!(pause(base, tries) <= LONGEST_PAUSE.max(base));
        }
    }
}
