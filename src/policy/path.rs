//! The form of a path that routes are compared with.
//!
//! Two spellings that every server reads alike must meet the same route, and a spelling that servers read differently
//! must meet none. So escapes of unreserved characters are decoded, repeated slashes are merged, other escapes get upper
//! case digits, and octets beyond ASCII are escaped (RFC 3986, sections 2.3, 6.2.2.1 and 6.2.2.2). An escaped slash is
//! no slash and stays an escape. Dot segments are refused, because the upstream might resolve them to another route.
//!
//! What is read differently by some servers and not refused as such ([`NormalPath::other_readings`]) must not be a way around a
//! route: where another reading meets an earlier one, the request is refused ([`Policy::route_or_doubt`](super::Policy)).
//!
//! The result is only for matching: what goes upstream is the path as it came.

use std::borrow::Cow;
use std::fmt;

/// A path in the one spelling that routes know. Starts with `/`, or is `*` (RFC 9112, section 3.2.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalPath<'a>(Cow<'a, str>);

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathProblem {
    /// Neither `*` nor starting with `/`.
    NotAbsolute,
    /// A `%` that is not followed by two hexadecimal digits.
    MalformedEscape,
    /// A segment that is `.` or `..`, in whatever spelling.
    DotSegment,
}

impl fmt::Display for PathProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "the path does not start with a slash",
            Self::MalformedEscape => "the path has a percent sign without two hexadecimal digits after it",
            Self::DotSegment => "the path has a dot segment",
        })
    }
}

impl std::error::Error for PathProblem {}

impl Default for NormalPath<'_> {
    /// The root.
    fn default() -> Self {
        Self(Cow::Borrowed("/"))
    }
}

impl<'a> NormalPath<'a> {
    /// Reads the path of a request target, without its query. Borrows when it was in normal form already.
    ///
    /// An empty path is `/`, as in `http://example.com`. The work is linear in the length of the path.
    ///
    /// # Errors
    /// See [`PathProblem`].
    pub fn parse(raw: &'a str) -> Result<Self, PathProblem> {
        if raw.is_empty() {
            return Ok(Self(Cow::Borrowed("/")));
        }
        if raw == "*" {
            return Ok(Self(Cow::Borrowed(raw)));
        }
        if !raw.starts_with('/') {
            return Err(PathProblem::NotAbsolute);
        }
        let plain = raw.is_ascii() && !raw.contains('%') && !raw.contains("//");
        let text = if plain { Cow::Borrowed(raw) } else { Cow::Owned(rewritten(raw)?) };
        if text.split('/').any(has_dot_segment) {
            return Err(PathProblem::DotSegment);
        }
        Ok(Self(match text {
            Cow::Owned(same) if same == raw => Cow::Borrowed(raw),
            other => other,
        }))
    }

    /// The paths that servers see in it which take an escaped slash or a backslash for a separator, or cut parameters (`;…`) off
    /// segments; none for paths with nothing of that.
    pub fn other_readings(&self) -> impl Iterator<Item = NormalPath<'static>> {
        let text = &*self.0;
        // Nearly all paths have neither.
        let separators = text.contains('\\') || text.contains("%2F") || text.contains("%5C");
        let parameters = text.contains(';');
        let separated = separators.then(|| text.replace("%2F", "/").replace("%5C", "/").replace('\\', "/"));
        let both = (separators && parameters).then(|| separated.as_deref().map(without_parameters)).flatten();
        let cut = parameters.then(|| without_parameters(text));
        [separated, cut, both].into_iter().flatten().map(|path| NormalPath(Cow::Owned(merged(&path))))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts between the slashes. A trailing slash gives an empty last one.
    pub(super) fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.strip_prefix('/').unwrap_or(&self.0).split('/')
    }
}

/// As Java servers read it: what stands behind a `;` of a segment is no part of its name.
fn without_parameters(path: &str) -> String {
    path.split('/').map(|segment| segment.split(';').next().unwrap_or(segment)).collect::<Vec<_>>().join("/")
}

fn merged(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    out
}

fn rewritten(raw: &str) -> Result<String, PathProblem> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' => {
                let (Some(high), Some(low)) = (hex_digit(after.first()), hex_digit(after.get(1))) else {
                    return Err(PathProblem::MalformedEscape);
                };
                push_octet(&mut out, high << 4 | low);
                rest = &after[2..];
            }
            b'/' if out.ends_with('/') => {}
            _ if first.is_ascii() => out.push(char::from(first)),
            _ => push_octet(&mut out, first),
        }
    }
    Ok(out)
}

/// Unreserved characters (RFC 3986, section 2.3) stand for themselves, all else is an escape.
fn push_octet(out: &mut String, octet: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~') {
        out.push(char::from(octet));
    } else {
        out.push('%');
        out.push(char::from(DIGITS[usize::from(octet >> 4)]));
        out.push(char::from(DIGITS[usize::from(octet & 15)]));
    }
}

fn hex_digit(digit: Option<&u8>) -> Option<u8> {
    // A hexadecimal digit is at most 15, so nothing is cut.
    digit.and_then(|&digit| char::from(digit).to_digit(16)).map(|digit| digit as u8)
}

/// Whether some server would see `.` or `..` in this segment: Java servers cut path parameters off (`..;x`), others take
/// a backslash or an escaped slash for a separator.
fn has_dot_segment(segment: &str) -> bool {
    // Nearly all segments have no dot at an edge that matters.
    segment.contains('.')
        && segment
            .split('\\')
            .flat_map(|part| part.split("%2F"))
            .flat_map(|part| part.split("%5C"))
            .map(|part| part.split(';').next().unwrap_or(part))
            .any(|name| name == "." || name == "..")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(raw: &str) -> String {
        NormalPath::parse(raw).expect("a good path").as_str().to_owned()
    }

    #[test]
    fn unreserved_escapes_are_decoded_and_others_get_upper_case() {
        assert_eq!(normal("/%61gent/%7Ex/%3a"), "/agent/~x/%3A");
    }

    #[test]
    fn a_slash_that_is_escaped_is_no_slash() {
        assert_eq!(normal("/a%2fb//c"), "/a%2Fb/c");
    }

    #[test]
    fn raw_and_escaped_octets_beyond_ascii_are_alike() {
        assert_eq!(normal("/k\u{e4}se"), normal("/k%c3%a4se"));
    }

    #[test]
    fn a_normal_path_is_borrowed() {
        for raw in ["/", "*", "", "/api/v1/agent/a%2Fb/run/"] {
            assert!(matches!(NormalPath::parse(raw), Ok(NormalPath(Cow::Borrowed(_)))), "{raw}");
        }
    }

    #[test]
    fn dot_segments_are_refused_in_every_spelling() {
        for raw in [
            "/..",
            "/a/../b",
            "/a/./b",
            "/a/.",
            "/%2e%2E/b",
            "/.%2e",
            "/a/..;x=1/b",
            "/.;",
            "/a/..%2fb",
            "/a%2f..",
            "/a\\..\\b",
            "/a/..%5cb",
            "//..//",
        ] {
            assert_eq!(NormalPath::parse(raw), Err(PathProblem::DotSegment), "{raw}");
        }
    }

    #[test]
    fn dots_within_a_name_are_welcome() {
        for raw in ["/a..b", "/...", "/.well-known/x", "/v1.2/", "/a.;x", "/%252e%252e"] {
            assert!(NormalPath::parse(raw).is_ok(), "{raw}");
        }
    }

    #[test]
    fn malformed_escapes_are_refused() {
        for raw in ["/%", "/%4", "/%zz", "/%+1", "/%%34%31", "/a%2"] {
            assert_eq!(NormalPath::parse(raw), Err(PathProblem::MalformedEscape), "{raw}");
        }
    }

    #[test]
    fn a_path_starts_with_a_slash() {
        assert_eq!(NormalPath::parse("a/b"), Err(PathProblem::NotAbsolute));
        assert_eq!(NormalPath::parse("**"), Err(PathProblem::NotAbsolute));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(raw in "\\PC*") {
            let _ = NormalPath::parse(&raw);
        }

        #[test]
        fn a_normal_path_stays_as_it_is(raw in "/([a-z./;%\\\\\u{e4}]|%[0-9a-fA-F]{2}){0,20}") {
            if let Ok(once) = NormalPath::parse(&raw) {
                prop_assert_eq!(NormalPath::parse(once.as_str()), Ok(NormalPath(Cow::Borrowed(once.as_str()))));
            }
        }

        #[test]
        fn escapes_of_unreserved_characters_make_no_difference(raw in "/[a-zA-Z0-9._~/-]{0,30}", choices: u64) {
            let escaped: String = raw.char_indices().map(|(at, c)| {
                if c != '/' && choices >> (at % 64) & 1 == 1 { format!("%{:02x}", u32::from(c)) } else { c.to_string() }
            }).collect();
            prop_assert_eq!(
                NormalPath::parse(&raw).map(|path| path.as_str().to_owned()),
                NormalPath::parse(&escaped).map(|path| path.as_str().to_owned())
            );
        }
    }
}
