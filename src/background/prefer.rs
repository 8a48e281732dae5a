//! `Prefer: respond-async, wait=N` (RFC 7240).
//!
//! ```text
//! Prefer     = 1#preference
//! preference = token [ BWS "=" BWS word ] *( OWS ";" [ OWS parameter ] )
//! word       = token / quoted-string
//! ```
//!
//! Names compare without regard to case. An empty value is none. Of a preference that comes twice the first counts. What
//! cannot be read is a preference that nobody knows, and is passed over.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

pub const PREFER: HeaderName = HeaderName::from_static("prefer");

/// What a client prefers, as far as it is about when it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Preferred {
    /// Not to wait for the answer.
    pub respond_async: bool,
    /// To wait so long for it first.
    pub wait: Option<Duration>,
}

impl Preferred {
    /// Reads all lines of the field.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let (mut found, mut waits) = (Self::default(), false);
        for preference in preferences(headers) {
            let (name, value) = preference.name_and_value();
            if name.eq_ignore_ascii_case(b"respond-async") {
                found.respond_async |= value.is_empty();
            } else if name.eq_ignore_ascii_case(b"wait") && !waits {
                waits = true;
                found.wait = seconds(&value);
            }
        }
        found
    }
}

/// Takes out what the gateway has seen to itself: a server that knows it too would answer before it has done the work.
pub fn take_out(headers: &mut HeaderMap) {
    let is_ours = |preference: &Preference<'_>| {
        let (name, _) = preference.name_and_value();
        name.eq_ignore_ascii_case(b"respond-async") || name.eq_ignore_ascii_case(b"wait")
    };
    if !preferences(headers).any(|preference| is_ours(&preference)) {
        return;
    }
    // Line by line: what stands in quotes that nobody closes must not reach into the next one.
    let lines = headers.get_all(PREFER).iter().map(|line| {
        let rest: Vec<&[u8]> = members(line).filter(|it| !is_ours(it)).map(|it| it.0).collect();
        rest.join(&b", "[..])
    });
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    headers.remove(PREFER);
    for line in lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok()) {
        headers.append(PREFER, line);
    }
}

/// Whole seconds. More digits than any wait has are as long as can be.
fn seconds(value: &[u8]) -> Option<Duration> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(value).ok()?.parse::<u32>().unwrap_or(u32::MAX);
    Some(Duration::from_secs(number.into()))
}

/// One member of the list, with its parameters.
struct Preference<'h>(&'h [u8]);

impl Preference<'_> {
    /// The value without its quotes; empty where there is none.
    fn name_and_value(&self) -> (&[u8], Vec<u8>) {
        let own = Split { rest: Some(self.0), separator: b';' }.next().unwrap_or_default();
        let Some(equals) = own.iter().position(|octet| *octet == b'=') else {
            return (own.trim_ascii(), Vec::new());
        };
        (own[..equals].trim_ascii(), unquoted(own[equals + 1..].trim_ascii()))
    }
}

fn preferences(headers: &HeaderMap) -> impl Iterator<Item = Preference<'_>> {
    headers.get_all(PREFER).iter().flat_map(members)
}

fn members(line: &HeaderValue) -> impl Iterator<Item = Preference<'_>> {
    let members = Split { rest: Some(line.as_bytes()), separator: b',' };
    members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()).map(Preference)
}

fn unquoted(word: &[u8]) -> Vec<u8> {
    let Some(inner) = word.strip_prefix(b"\"").and_then(|word| word.strip_suffix(b"\"")) else {
        return word.to_vec();
    };
    let mut value = Vec::with_capacity(inner.len());
    let mut octets = inner.iter();
    while let Some(octet) = octets.next() {
        value.push(if *octet == b'\\' { *octets.next().unwrap_or(octet) } else { *octet });
    }
    value
}

/// Splits at separators outside of quoted strings.
struct Split<'h> {
    rest: Option<&'h [u8]>,
    separator: u8,
}

impl<'h> Iterator for Split<'h> {
    type Item = &'h [u8];

    fn next(&mut self) -> Option<&'h [u8]> {
        let rest = self.rest?;
        let (mut quoted, mut escaped) = (false, false);
        let cut = rest.iter().position(|octet| {
            if escaped {
                escaped = false;
                return false;
            }
            escaped = quoted && *octet == b'\\';
            quoted ^= *octet == b'"';
            *octet == self.separator && !quoted
        });
        self.rest = cut.map(|cut| &rest[cut + 1..]);
        Some(cut.map_or(rest, |cut| &rest[..cut]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (PREFER, HeaderValue::from_bytes(line.as_bytes()).expect("a field value"))).collect()
    }

    fn of(lines: &[&str]) -> (bool, Option<u64>) {
        let Preferred { respond_async, wait } = Preferred::of(&headers(lines));
        (respond_async, wait.map(|wait| wait.as_secs()))
    }

    #[test]
    fn what_the_rfc_shows_is_read() {
        assert_eq!(of(&["respond-async, wait=10"]), (true, Some(10)));
        assert_eq!(of(&["respond-async", "wait=100"]), (true, Some(100)));
        assert_eq!(of(&["wait=100, respond-async"]), (true, Some(100)));
        assert_eq!(of(&["Respond-Async; foo=bar , WAIT = 5;x"]), (true, Some(5)));
        assert_eq!(of(&["foo; bar=\"\", respond-async=\"\""]), (true, None));
        assert_eq!(of(&["return=minimal"]), (false, None));
        assert_eq!(of(&[]), (false, None));
    }

    #[test]
    fn commas_and_semicolons_within_quotes_separate_nothing() {
        assert_eq!(of(&["note=\"respond-async, wait=1\""]), (false, None));
        assert_eq!(of(&["note=\"a\\\", respond-async\", wait=\"7\""]), (false, Some(7)));
        assert_eq!(of(&["note=\"a;b\"; c=\",\", respond-async"]), (true, None));
        assert_eq!(of(&["note=\"unclosed, respond-async"]), (false, None));
    }

    #[test]
    fn the_first_of_two_counts_and_nonsense_is_passed_over() {
        assert_eq!(of(&["wait=1, wait=2"]), (false, Some(1)));
        assert_eq!(of(&["wait=soon, wait=2"]), (false, None));
        assert_eq!(of(&["wait=-1"]), (false, None));
        assert_eq!(of(&["wait=1.5"]), (false, None));
        assert_eq!(of(&["wait"]), (false, None));
        assert_eq!(of(&["wait=0"]), (false, Some(0)));
        assert_eq!(of(&["wait=99999999999999999999"]), (false, Some(u32::MAX.into())));
        assert_eq!(of(&["respond-async=no"]), (false, None));
        assert_eq!(of(&["respond-asynchronously"]), (false, None));
        assert_eq!(of(&[", ,,respond-async,"]), (true, None));
    }

    #[test]
    fn what_the_gateway_sees_to_is_taken_out_and_the_rest_stays() {
        let left = |lines: &[&str]| {
            let mut headers = headers(lines);
            take_out(&mut headers);
            headers.get_all(PREFER).iter().map(|it| it.to_str().expect("text").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(left(&["respond-async, wait=10"]), [""; 0]);
        assert_eq!(left(&["return=minimal; x=\",\", respond-async", "Wait=1, b"]), ["return=minimal; x=\",\"", "b"]);
        assert_eq!(left(&["return=minimal", "b"]), ["return=minimal", "b"]);
    }

    proptest! {
        #[test]
        fn any_field_is_read_without_panic_and_nothing_of_ours_is_left(
            lines in proptest::collection::vec("(respond-async|wait|[,;=\" \\\\a1]){0,12}", 0..4),
        ) {
            let mut headers: HeaderMap = lines
                .iter()
                .filter_map(|line| HeaderValue::from_bytes(line.as_bytes()).ok())
                .map(|line| (PREFER, line))
                .collect();
            let _ = Preferred::of(&headers);
            take_out(&mut headers);
            prop_assert_eq!(Preferred::of(&headers), Preferred::default());
        }
    }
}
