//! `Server-Timing` of an answer (W3C Server Timing).

use std::time::Duration;

use http::HeaderValue;
use itoa::Buffer;

/// Two durations of the greatest number of digits fit, with what stands around them.
const LONGEST: usize = 80;

/// `queue;dur=1.2, upstream;dur=20.0`: milliseconds, to the nearest tenth.
pub(super) fn server_timing(queued: Duration, upstream: Duration) -> HeaderValue {
    let mut line = Line { octets: [0; LONGEST], length: 0 };
    line.push(b"queue;dur=");
    line.milliseconds(queued);
    line.push(b", upstream;dur=");
    line.milliseconds(upstream);
    HeaderValue::from_bytes(&line.octets[..line.length]).expect("letters, digits and punctuation make a field value")
}

/// A line on the stack: it is made for every answer.
struct Line {
    octets: [u8; LONGEST],
    length: usize,
}

impl Line {
    fn push(&mut self, octets: &[u8]) {
        let end = self.length + octets.len();
        self.octets[self.length..end].copy_from_slice(octets);
        self.length = end;
    }

    fn milliseconds(&mut self, time: Duration) {
        let fraction = u64::from((time.subsec_nanos() + 50_000) / 100_000);
        let tenths = time.as_secs().saturating_mul(10_000).saturating_add(fraction);
        self.push(Buffer::new().format(tenths / 10).as_bytes());
        self.push(&[b'.', b'0' + (tenths % 10) as u8]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_told_to_the_nearest_tenth_of_a_millisecond() {
        for (nanos, told) in [
            (0, "0.0"),
            (49_999, "0.0"),
            (50_000, "0.1"),
            (1_234_000, "1.2"),
            (20_000_000, "20.0"),
            (999_949_999, "999.9"),
            (999_950_000, "1000.0"),
            (61_000_000_000, "61000.0"),
        ] {
            let line = server_timing(Duration::from_nanos(nanos), Duration::ZERO);
            assert_eq!(line, format!("queue;dur={told}, upstream;dur=0.0"));
        }
    }

    #[test]
    fn the_longest_times_fit() {
        let longest = server_timing(Duration::MAX, Duration::MAX);
        assert!(longest.len() <= LONGEST && longest.to_str().is_ok(), "{longest:?}");
    }

    proptest! {
        #[test]
        fn times_read_as_floating_point_would_write_them(queued in 0_u64..1 << 40, upstream in 0_u64..1 << 40) {
            // Between two tenths both are right.
            prop_assume!([queued, upstream].iter().all(|nanos| nanos % 100_000 != 50_000));
            let milliseconds = |nanos| Duration::from_nanos(nanos).as_secs_f64() * 1e3;
            let told = format!("queue;dur={:.1}, upstream;dur={:.1}", milliseconds(queued), milliseconds(upstream));
            prop_assert_eq!(server_timing(Duration::from_nanos(queued), Duration::from_nanos(upstream)), told);
        }
    }
}
