//! Names of fields that must mean the same to the gateway and to the upstream.

use std::collections::HashSet;

use http::{HeaderMap, HeaderName};

use crate::policy::{Assign, FairBy, KeySource, Policy, RatePer};

/// Fields that frame messages, or that the gateway reads or sets whatever the policy says.
const ALWAYS: [&str; 33] = [
    "accept",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "idempotency-key",
    "keep-alive",
    "prefer",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "turnwise-joined",
    "turnwise-session",
    "turnwise-turn",
    "turnwise-when-busy",
    "upgrade",
    "via",
    "x-api-key",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
    "x-should-retry",
];

/// The fields that frame, that the gateway reads, or that one policy reads.
///
/// Many upstreams (CGI, WSGI and what follows them) read `_` in a name as `-`. A client that spells such a field with `_`
/// would be understood by them and not by the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFields {
    /// As they are read.
    exact: HashSet<HeaderName>,
    /// With `-` for `_`.
    dashed: HashSet<String>,
}

impl KnownFields {
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        let fair_by = policy.limits.fair_by.iter().filter_map(|by| match by {
            FairBy::Header(name) => Some(name.clone()),
            FairBy::ClientIp => None,
        });
        let routes = policy.routes.iter().flat_map(|route| {
            let matched = route.matching.headers.iter().map(|(name, _)| name.clone());
            let rates = route.rate_limits.iter().filter_map(|limit| match &limit.per {
                RatePer::Header(name) => Some(name.clone()),
                RatePer::Session | RatePer::ClientIp | RatePer::Route => None,
            });
            let sources = route.session.iter().flat_map(|session| session.key.iter().chain(&session.within));
            let keys = sources.filter_map(|source| match source {
                KeySource::Header(name) => Some(name.clone()),
                _ => None,
            });
            let assigned = route.session.iter().filter_map(|session| match &session.assign {
                Some(Assign::Header(name)) => Some(name.clone()),
                Some(Assign::Json(_)) | None => None,
            });
            matched.chain(rates).chain(keys).chain(assigned)
        });
        Self::reading(fair_by.chain(routes))
    }

    pub(super) fn reading(names: impl Iterator<Item = HeaderName>) -> Self {
        let exact: HashSet<_> = ALWAYS.map(HeaderName::from_static).into_iter().chain(names).collect();
        Self { dashed: exact.iter().map(|name| name.as_str().replace('_', "-")).collect(), exact }
    }

    /// Whether a field is one of these, spelt as it is read.
    #[must_use]
    pub fn reads(&self, name: &HeaderName) -> bool {
        self.exact.contains(name)
    }

    /// Drops fields that are spelt with `_` and would be one of these with `-`, unless the policy spells it so itself.
    pub fn drop_misspelt(&self, headers: &mut HeaderMap) {
        let is_misspelt = |name: &&HeaderName| {
            name.as_str().contains('_') && !self.reads(name) && self.dashed.contains(&name.as_str().replace('_', "-"))
        };
        let misspelt: Vec<HeaderName> = headers.keys().filter(is_misspelt).cloned().collect();
        for name in misspelt {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::num::NonZeroU32;
    use std::sync::Arc;
    use std::time::Duration;

    use http::HeaderValue;

    use super::*;
    use crate::policy::{
        Abandoned, Admin, Anonymous, Limits, Listener, Match, Priority, Rate, RateLimit, Route, Server, Session,
        Timeouts, WhenExceeded,
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn named(name: &'static str) -> HeaderName {
        HeaderName::from_static(name)
    }

    fn session() -> Session {
        Session {
            key: vec![KeySource::Query("q".to_owned()), KeySource::Header(named("x-key"))],
            within: vec![KeySource::Header(named("x-within"))],
            lane: "lane".into(),
            anonymous: Anonymous::Separate,
            assign: Some(Assign::Header(named("x-assigned"))),
            concurrency: NonZeroU32::MIN,
            queue: 1,
            queue_timeout: SECOND,
            when_busy: crate::policy::WhenBusy::Wait,
            when_busy_choices: Vec::new(),
            reentrant: false,
            waits_aloud: false,
            join: None,
        }
    }

    fn route() -> Route {
        let rate_limit = RateLimit {
            name: "rate".into(),
            per: RatePer::Header(named("x-rate")),
            rate: Rate { count: NonZeroU32::MIN, period: SECOND },
            burst: NonZeroU32::MIN,
            when_exceeded: WhenExceeded::Reject,
        };
        Route {
            name: "route".into(),
            matching: Match { headers: vec![(named("x-matched"), HeaderValue::from_static("1"))], ..Match::default() },
            upstream: 0,
            priority: Priority::Normal,
            exempt: false,
            concurrency: None,
            body_limit: 1,
            session: Some(session()),
            rate_limits: vec![Arc::new(rate_limit)],
            timeouts: Timeouts { request: SECOND, response: SECOND, idle: SECOND, total: SECOND },
            abandoned: Abandoned::Auto,
            abandoned_limit: SECOND,
            background: crate::policy::Later::Off,
        }
    }

    fn policy() -> Policy {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Policy {
            listen: vec![Listener { address, tls: None, proxy_protocol: false }],
            admin: Admin { listen: address, token_file: None },
            server: Server {
                workers: 1,
                max_connections: 1,
                header_timeout: SECOND,
                keep_alive_timeout: SECOND,
                max_header_bytes: 1,
                drain_delay: SECOND,
                drain_timeout: SECOND,
                trusted_proxies: Vec::new(),
            },
            limits: Limits {
                concurrency: 1,
                queue: 1,
                queue_bytes: 1,
                queue_timeout: SECOND,
                fair_by: Some(FairBy::Header(named("x-fair"))),
                queue_share: 100,
                keys: 1,
            },
            upstreams: Vec::new(),
            routes: vec![Arc::new(route())],
            background: None,
        }
    }

    #[test]
    fn every_field_that_a_policy_names_is_known() {
        let known = KnownFields::of(&policy());
        for name in ["x-key", "x-within", "x-assigned", "x-rate", "x-matched", "x-fair", "host"] {
            assert!(known.reads(&named(name)), "{name}");
        }
        assert!(!known.reads(&named("x-other")));
    }
}
