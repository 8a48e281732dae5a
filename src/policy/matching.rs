//! Which route a request takes: the first one that matches.
//!
//! Literals of patterns and prefixes are in the normal form of [`NormalPath`]; the last segment of a pattern that ends
//! with a slash is an empty literal. Nothing here allocates.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use super::{Match, NormalPath, PathMatch, Policy, Segment};

/// The parts of a request that choose its route.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub method: &'a Method,
    /// As the client named it, port included.
    pub host: Option<&'a str>,
    pub path: &'a NormalPath<'a>,
    pub headers: &'a HeaderMap,
}

impl Policy {
    /// The place in [`Policy::routes`] of the first route that matches.
    #[must_use]
    pub fn route(&self, request: &Target<'_>) -> Option<usize> {
        self.routes.iter().position(|route| route.matching.matches(request))
    }
}

/// Some servers would read a path as one of an earlier route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InDoubt;

impl Policy {
    /// As [`route`](Self::route), unless there are servers that would read the path as one of an earlier route: what that one
    /// limits must not be walked around.
    ///
    /// # Errors
    /// [`InDoubt`].
    pub fn route_or_doubt(&self, request: &Target<'_>) -> Result<Option<usize>, InDoubt> {
        let found = self.route(request);
        for path in request.path.other_readings() {
            let other = self.route(&Target { path: &path, ..*request });
            if let (Some(found), Some(other)) = (found, other)
                && other < found
            {
                return Err(InDoubt);
            }
        }
        Ok(found)
    }
}

impl Match {
    /// Whether all that is asked for holds.
    #[must_use]
    pub fn matches(&self, request: &Target<'_>) -> bool {
        self.path.matches(request.path)
            && (self.methods.is_empty() || self.methods.contains(request.method))
            && (self.hosts.is_empty() || request.host.is_some_and(|host| self.names_host(host)))
            && self.headers.iter().all(|(name, value)| request.headers.get_all(name).iter().any(|line| line == value))
    }

    fn names_host(&self, asked: &str) -> bool {
        let asked = host_name(asked);
        self.hosts.iter().any(|host| same_host(host_name(host), asked))
    }
}

impl PathMatch {
    /// Whether a path is one of these. `*` is only matched by [`PathMatch::Any`].
    #[must_use]
    pub fn matches(&self, path: &NormalPath<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => path
                .as_str()
                .strip_prefix(prefix.trim_end_matches('/'))
                .is_some_and(|rest| rest.starts_with('/') || rest.is_empty()),
            Self::Pattern(pattern) => matches_pattern(pattern, path),
        }
    }

    /// The octets that a variable of the pattern stands for, with their escapes decoded. They need not be UTF-8.
    ///
    /// `None` when the pattern does not match or has no such variable. A name given twice means its first place.
    #[must_use]
    pub fn variable<'p>(&self, path: &'p NormalPath<'_>, name: &str) -> Option<Cow<'p, [u8]>> {
        let Self::Pattern(pattern) = self else { return None };
        if !matches_pattern(pattern, path) {
            return None;
        }
        let place = pattern.iter().position(|segment| matches!(segment, Segment::Variable(own) if own == name))?;
        path.segments().nth(place).map(|segment| percent_decode_str(segment).into())
    }
}

fn matches_pattern(pattern: &[Segment], path: &NormalPath<'_>) -> bool {
    if pattern.is_empty() {
        return path.as_str() == "/";
    }
    let mut segments = path.segments();
    path.as_str().starts_with('/')
        && pattern.iter().all(|part| {
            segments.next().is_some_and(|segment| match part {
                Segment::Literal(literal) => literal == segment,
                Segment::Variable(_) => !segment.is_empty(),
            })
        })
        && segments.next().is_none()
}

/// A host without its port, the brackets of an IPv6 literal and the dot of the DNS root.
fn host_name(host: &str) -> &str {
    if let Some(literal) = host.strip_prefix('[') {
        return literal.split(']').next().unwrap_or(literal);
    }
    let name = match host.split_once(':') {
        // A second colon: an IPv6 literal that somebody wrote without brackets.
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

fn same_host(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
        || (one.contains(':')
            && other.contains(':')
            && matches!((one.parse::<Ipv6Addr>(), other.parse::<Ipv6Addr>()), (Ok(one), Ok(other)) if one == other))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn path(raw: &str) -> NormalPath<'_> {
        NormalPath::parse(raw).expect("a good path")
    }

    fn pattern(text: &str) -> PathMatch {
        let segments =
            text[1..].split('/').map(|part| match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
                Some(name) => Segment::Variable(name.to_owned()),
                None => Segment::Literal(part.to_owned()),
            });
        PathMatch::Pattern(segments.collect())
    }

    fn matches(matching: &Match, method: &Method, host: Option<&str>, raw: &str, headers: &HeaderMap) -> bool {
        matching.matches(&Target { method, host, path: &path(raw), headers })
    }

    #[test]
    fn a_prefix_ends_where_a_segment_ends() {
        let api = PathMatch::Prefix("/api".to_owned());
        for (raw, expected) in
            [("/api", true), ("/api/", true), ("/api/x", true), ("//api//x", true), ("/%61pi/x", true)]
                .into_iter()
                .chain([
                    ("/apix", false),
                    ("/", false),
                    ("/API", false),
                    ("/x/api", false),
                    ("/api%2Fx", false),
                    ("*", false),
                ])
        {
            assert_eq!(api.matches(&path(raw)), expected, "{raw}");
        }
    }

    #[test]
    fn the_shortest_prefix_matches_every_path() {
        for prefix in ["", "/"] {
            let all = PathMatch::Prefix(prefix.to_owned());
            assert!(all.matches(&path("/")) && all.matches(&path("/x")) && !all.matches(&path("*")), "{prefix}");
        }
    }

    #[test]
    fn a_pattern_is_compared_segment_for_segment() {
        let run = pattern("/agent/{agent}/run");
        for (raw, expected) in [
            ("/agent/a/run", true),
            ("//agent//a/run", true),
            ("/agent/a%2Fb/run", true),
            ("/agent/a/run/", false),
            ("/agent//run", false),
            ("/agent/a/b/run", false),
            ("/agent/a", false),
            ("/agent/a/Run", false),
        ] {
            assert_eq!(run.matches(&path(raw)), expected, "{raw}");
        }
        assert!(pattern("/").matches(&path("/")) && PathMatch::Pattern(Vec::new()).matches(&path("/")));
        assert!(pattern("/a/").matches(&path("/a/")) && !pattern("/a/").matches(&path("/a")));
        assert!(!pattern("/{x}").matches(&path("*")));
    }

    #[test]
    fn a_variable_is_decoded() {
        let run = pattern("/agent/{agent}/run");
        let taken = path("/agent/a%2Fb%20c/run");
        assert_eq!(run.variable(&taken, "agent").as_deref(), Some(&b"a/b c"[..]));
        assert_eq!(run.variable(&taken, "other"), None);
        assert_eq!(run.variable(&path("/agent/a/stop"), "agent"), None);
        assert_eq!(PathMatch::Any.variable(&taken, "agent"), None);
    }

    #[test]
    fn hosts_ignore_case_port_and_root_dot() {
        let hosts = ["api.example.com", "[::1]", "10.0.0.1"].map(str::to_owned).to_vec();
        let matching = Match { hosts, ..Match::default() };
        for (host, expected) in [
            ("API.Example.com", true),
            ("api.example.com:8080", true),
            ("api.example.com.", true),
            ("[::1]:80", true),
            ("[0:0:0:0:0:0:0:1]", true),
            ("10.0.0.1:1", true),
            ("example.com", false),
            ("api.example.com.evil", false),
            ("[::2]", false),
        ] {
            assert_eq!(matches(&matching, &Method::GET, Some(host), "/", &HeaderMap::new()), expected, "{host}");
        }
        assert!(!matches(&matching, &Method::GET, None, "/", &HeaderMap::new()));
    }

    #[test]
    fn any_line_of_a_header_may_be_the_one_asked_for() {
        let name = HeaderName::from_static("x-kind");
        let headers = vec![(name.clone(), HeaderValue::from_static("a"))];
        let matching = Match { headers, methods: vec![Method::POST], ..Match::default() };
        let mut lines = HeaderMap::new();
        lines.append(&name, HeaderValue::from_static("b"));
        assert!(!matches(&matching, &Method::POST, None, "/", &lines));
        lines.append(&name, HeaderValue::from_static("a"));
        assert!(matches(&matching, &Method::POST, None, "/", &lines));
        assert!(!matches(&matching, &Method::GET, None, "/", &lines));
    }

    proptest! {
        #[test]
        fn any_host_is_compared_without_panic(host in "\\PC*", own in "\\PC*") {
            same_host(host_name(&host), host_name(&own));
        }

        #[test]
        fn a_variable_is_there_exactly_when_the_pattern_matches(raw in "/[a-c/%]{0,12}") {
            if let Ok(path) = NormalPath::parse(&raw) {
                let own = pattern("/a/{x}");
                prop_assert_eq!(own.variable(&path, "x").is_some(), own.matches(&path));
            }
        }
    }
}
