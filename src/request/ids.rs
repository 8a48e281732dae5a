//! Names for one request: `X-Request-Id`, and `traceparent` of W3C Trace Context.

use std::cell::Cell;
use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::telemetry::traces::{TRACEPARENT, TRACESTATE, is_traceparent};

/// Longest request id that is kept, in octets.
const MAX_REQUEST_ID: usize = 128;

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a request is called in logs, problems and at the upstream. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The client's own id when it is one line of 1 to 128 visible ASCII characters, else a new one.
    ///
    /// A new one is 32 hexadecimal digits: unlike any other, but not unguessable.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut lines = headers.get_all(X_REQUEST_ID).iter();
        match (lines.next(), lines.next()) {
            (Some(own), None) if is_request_id(own.as_bytes()) => Self(own.clone()),
            _ => Self::new(),
        }
    }

    fn new() -> Self {
        let mut digits = [0; 32];
        write_hex(&mut digits[..16], next_random());
        write_hex(&mut digits[16..], next_random());
        // The octets have an owner from the start, since the id is always shared: by the exchange, both heads and the log.
        Self(HeaderValue::from_maybe_shared(Bytes::from_owner(digits)).expect(HEXADECIMAL))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().expect("only visible ASCII is kept")
    }

    #[must_use]
    pub fn as_value(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn is_request_id(value: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic)
}

/// Lets a valid `traceparent` and its `tracestate` pass. Begins a trace otherwise, and then drops `tracestate`, which
/// belongs to the trace that could not be read (Trace Context, section 4.3).
pub fn continue_trace(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let valid = lines.next().is_some_and(|own| is_traceparent(own.as_bytes())) && lines.next().is_none();
    if !valid {
        headers.remove(TRACESTATE);
        begin_trace(headers);
    }
}

/// Begins a trace, where there is no field of another one.
pub fn begin_trace(headers: &mut HeaderMap) {
    headers.insert(TRACEPARENT, new_traceparent());
}

fn new_traceparent() -> HeaderValue {
    let mut text = *b"00-................................-................-01";
    write_hex(&mut text[3..19], next_random());
    // An id of zeros would be invalid.
    write_hex(&mut text[19..35], next_random().max(1));
    write_hex(&mut text[36..52], next_random().max(1));
    HeaderValue::from_bytes(&text).expect(HEXADECIMAL)
}

const HEXADECIMAL: &str = "hexadecimal digits and dashes make a field value";

/// Writes `number` as 16 hexadecimal digits.
fn write_hex(digits: &mut [u8], number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (two, octet) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        two[0] = DIGITS[usize::from(octet >> 4)];
        two[1] = DIGITS[usize::from(octet & 15)];
    }
}

/// The next number of this thread's generator (SplitMix64), which begins at a random place.
fn next_random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(getrandom::u64().expect("the operating system gives random bytes"));
    }
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn with(name: HeaderName, lines: &[&str]) -> HeaderMap {
        let values = lines.iter().map(|line| HeaderValue::from_str(line).expect("a field value"));
        values.map(|value| (name.clone(), value)).collect()
    }

    #[test]
    fn a_good_request_id_is_kept() {
        let longest = "x".repeat(128);
        for own in ["a", "req_01-\u{7e}!", &longest] {
            assert_eq!(RequestId::of(&with(X_REQUEST_ID, &[own])).as_str(), own);
        }
    }

    #[test]
    fn any_other_request_id_is_made_anew() {
        let too_long = "x".repeat(129);
        for lines in [&[][..], &[""], &["a b"], &["a\u{e4}"], &[too_long.as_str()], &["a", "a"]] {
            let id = RequestId::of(&with(X_REQUEST_ID, lines));
            assert!(id.as_str().len() == 32 && id.as_str().bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
        }
        assert_ne!(RequestId::of(&HeaderMap::new()), RequestId::of(&HeaderMap::new()));
    }

    #[test]
    fn a_valid_trace_goes_on() {
        let later = ["01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", &PARENT.replacen("00", "cc", 1)]
            .map(str::to_owned);
        for own in [PARENT, &later[0], &later[1]] {
            let mut headers = with(TRACEPARENT, &[own]);
            headers.insert(TRACESTATE, HeaderValue::from_static("a=1"));
            let before = headers.clone();
            continue_trace(&mut headers);
            assert_eq!(headers, before);
        }
    }

    #[test]
    fn an_invalid_trace_is_begun_anew_without_its_state() {
        let (upper, longer, broken) = (PARENT.to_uppercase(), format!("{PARENT}-x"), PARENT.replace('-', "_"));
        let no_trace = PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let no_parent = PARENT.replace("00f067aa0ba902b7", &"0".repeat(16));
        let version = PARENT.replacen("00", "ff", 1);
        let later = PARENT.replacen("00", "01", 1) + "x";
        let bad = [&upper, &longer, &broken, &no_trace, &no_parent, &version, &later, &PARENT[..54], ""];
        for lines in bad.iter().map(|&one| vec![one]).chain([vec![], vec![PARENT, PARENT]]) {
            let mut headers = with(TRACEPARENT, &lines);
            headers.insert(TRACESTATE, HeaderValue::from_static("a=1"));
            continue_trace(&mut headers);
            let new: Vec<_> = headers.get_all(TRACEPARENT).iter().collect();
            assert!(new.len() == 1 && is_traceparent(new[0].as_bytes()) && new[0] != PARENT, "{lines:?}");
            assert!(!headers.contains_key(TRACESTATE), "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_the_standard_library_writes_them(number: u64) {
            let mut digits = [0; 16];
            write_hex(&mut digits, number);
            prop_assert_eq!(digits.to_vec(), format!("{number:016x}").into_bytes());
        }

        #[test]
        fn any_traceparent_is_read_without_panic(value: Vec<u8>, near in "[0-9a-f-]{50,60}") {
            let _ = is_traceparent(&value);
            let _ = is_traceparent(near.as_bytes());
        }
    }
}
