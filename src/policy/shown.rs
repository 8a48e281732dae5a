//! The policy in force, in the words of the policy file, with every default filled in and secrets hidden.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    Abandoned, Anonymous, Assign, Background, Balance, FairBy, Identity, KeySource, Listener, Match, PathMatch, Policy,
    Priority, RateLimit, RatePer, Route, Segment, Session, Upstream, UpstreamTls, WhenExceeded,
};
use crate::config::{show_duration, show_rate, show_size};

/// Stands for what may be a secret: the values that a route asks header fields to have.
const HIDDEN: &str = "***";

impl Policy {
    /// For `GET /config`.
    #[must_use]
    pub fn shown(&self) -> Value {
        let upstreams: Map<String, Value> =
            self.upstreams.iter().map(|upstream| (upstream.name.to_string(), upstream.shown())).collect();
        let routes: Vec<Value> = self.routes.iter().map(|route| self.route_shown(route)).collect();
        let server = &self.server;
        let limits = &self.limits;
        json!({
            "listen": self.listen.iter().map(Listener::shown).collect::<Vec<_>>(),
            "admin": {
                "listen": self.admin.listen.to_string(),
                "token_file": self.admin.token_file.as_ref().map(|file| file.path.display().to_string()),
            },
            "server": {
                "workers": server.workers,
                "max_connections": server.max_connections,
                "header_timeout": show_duration(server.header_timeout),
                "keep_alive_timeout": show_duration(server.keep_alive_timeout),
                "max_header_bytes": show_size(server.max_header_bytes as u64),
                "drain_delay": show_duration(server.drain_delay),
                "drain_timeout": show_duration(server.drain_timeout),
                "trusted_proxies": server.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
            },
            "limits": {
                "concurrency": limits.concurrency,
                "queue": limits.queue,
                "queue_bytes": show_size(limits.queue_bytes),
                "queue_timeout": show_duration(limits.queue_timeout),
                "fair_by": limits.fair_by.as_ref().map(|fair_by| match fair_by {
                    FairBy::ClientIp => json!("client_ip"),
                    FairBy::Header(name) => json!({ "header": name.as_str() }),
                }),
                "queue_share": format!("{}%", limits.queue_share),
                "keys": limits.keys,
            },
            "upstreams": upstreams,
            "routes": routes,
            "background": self.background.as_ref().map(Background::shown),
        })
    }

    fn route_shown(&self, route: &Route) -> Value {
        let timeouts = &route.timeouts;
        let mut shown = json!({
            "name": &*route.name,
            "match": route.matching.shown(),
            "upstream": &*self.upstreams[route.upstream].name,
            "priority": match route.priority {
                Priority::High => "high",
                Priority::Normal => "normal",
                Priority::Low => "low",
            },
            "exempt": route.exempt,
            "concurrency": route.concurrency,
            "body_limit": show_size(route.body_limit),
            "session": route.session.as_ref().map(Session::shown),
            "rate_limits": route.rate_limits.iter().map(|limit| limit.shown()).collect::<Vec<_>>(),
            "timeouts": {
                "request": show_duration(timeouts.request),
                "response": show_duration(timeouts.response),
                "idle": show_duration(timeouts.idle),
                "total": show_duration(timeouts.total),
            },
            "abandoned": match route.abandoned {
                Abandoned::Finish => "finish",
                Abandoned::Cancel => "cancel",
                Abandoned::Auto => "auto",
            },
            "abandoned_limit": show_duration(route.abandoned_limit),
            "background": route.background.word(),
        });
        if let (true, Value::Object(shown)) = (route.exempt, &mut shown) {
            // It stands in no line that has classes, and the file may not say so either.
            shown.remove("priority");
        }
        shown
    }
}

impl Background {
    fn shown(&self) -> Value {
        json!({
            "store": self.store.display().to_string(),
            "store_bytes": show_size(self.store_bytes),
            "workers": self.workers,
            "queue": self.queue,
            "attempts": self.attempts,
            "retry_delay": show_duration(self.retry_delay),
            "keep_results": show_duration(self.keep_results),
            "max_result": show_size(self.max_result),
        })
    }
}

impl Listener {
    fn shown(&self) -> Value {
        if self.tls.is_none() && !self.proxy_protocol {
            return self.address.to_string().into();
        }
        let tls = self.tls.as_ref().map(|tls| {
            json!({
                "cert": tls.identity.cert.path.display().to_string(),
                "key": tls.identity.key.path.display().to_string(),
                "client_ca": tls.client_ca.as_ref().map(|file| file.path.display().to_string()),
                "certificates": tls.others.iter().map(Identity::shown).collect::<Vec<_>>(),
            })
        });
        json!({ "address": self.address.to_string(), "tls": tls, "proxy_protocol": self.proxy_protocol })
    }
}

impl Identity {
    fn shown(&self) -> Value {
        json!({ "cert": self.cert.path.display().to_string(), "key": self.key.path.display().to_string() })
    }
}

impl UpstreamTls {
    fn shown(&self) -> Value {
        json!({
            "ca": self.ca.as_ref().map(|file| file.path.display().to_string()),
            "cert": self.identity.as_ref().map(|identity| identity.cert.path.display().to_string()),
            "key": self.identity.as_ref().map(|identity| identity.key.path.display().to_string()),
            "server_name": self.server_name.as_deref(),
        })
    }
}

impl Upstream {
    fn shown(&self) -> Value {
        let servers = self
            .servers
            .iter()
            .map(|server| json!({ "url": &*server.url, "weight": server.weight, "concurrency": server.concurrency }));
        let retried =
            [(self.retry.on_connect, "connect"), (self.retry.on_429, "status_429"), (self.retry.on_503, "status_503")];
        json!({
            "servers": servers.collect::<Vec<_>>(),
            "concurrency": self.concurrency,
            "balance": match self.balance {
                Balance::LeastInflight => "least_inflight",
                Balance::RoundRobin => "round_robin",
                Balance::Session => "session",
            },
            "connect_timeout": show_duration(self.connect_timeout),
            "pool": { "max_idle": self.pool.max_idle, "idle_timeout": show_duration(self.pool.idle_timeout) },
            "health": self.health.as_ref().map(|health| json!({
                "path": &*health.path,
                "interval": show_duration(health.interval),
                "timeout": show_duration(health.timeout),
                "healthy_after": health.healthy_after,
                "unhealthy_after": health.unhealthy_after,
            })),
            "eject": { "after_failures": self.eject.after_failures, "for": show_duration(self.eject.duration) },
            "retry": {
                "attempts": self.retry.attempts,
                "on": retried.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect::<Vec<_>>(),
            },
            "http2": self.http2,
            "tls": self.servers.iter().any(|server| server.https).then(|| self.tls.shown()),
        })
    }
}

impl Match {
    fn shown(&self) -> Value {
        let mut shown = Map::new();
        match &self.path {
            PathMatch::Any => {}
            PathMatch::Prefix(prefix) => drop(shown.insert("path_prefix".into(), json!(prefix))),
            PathMatch::Pattern(segments) => {
                let path = segments.iter().map(|segment| match segment {
                    Segment::Literal(text) => format!("/{text}"),
                    Segment::Variable(name) => format!("/{{{name}}}"),
                });
                shown.insert("path".into(), json!(path.collect::<String>()));
            }
        }
        if !self.methods.is_empty() {
            let methods: Vec<&str> = self.methods.iter().map(|method| method.as_str()).collect();
            shown.insert("methods".into(), json!(methods));
        }
        if !self.hosts.is_empty() {
            shown.insert("hosts".into(), json!(self.hosts));
        }
        if !self.headers.is_empty() {
            let headers: Map<_, _> = self.headers.iter().map(|(name, _)| (name.to_string(), json!(HIDDEN))).collect();
            shown.insert("headers".into(), Value::Object(headers));
        }
        Value::Object(shown)
    }
}

impl Session {
    fn shown(&self) -> Value {
        json!({
            "key": self.key.iter().map(KeySource::shown).collect::<Vec<_>>(),
            "within": self.within.iter().map(KeySource::shown).collect::<Vec<_>>(),
            "lane": &*self.lane,
            "anonymous": match self.anonymous {
                Anonymous::Separate => "separate",
                Anonymous::Shared => "shared",
                Anonymous::Reject => "reject",
            },
            "assign": self.assign.as_ref().map(|assign| match assign {
                Assign::Header(name) => json!({ "header": name.as_str() }),
                Assign::Json(pointer) => json!({ "json": pointer_shown(pointer) }),
            }),
            "concurrency": self.concurrency,
            "queue": self.queue,
            "queue_timeout": show_duration(self.queue_timeout),
            "when_busy": self.when_busy.word(),
            "when_busy_choices": self.when_busy_choices.iter().map(|choice| choice.word()).collect::<Vec<_>>(),
            "reentrant": self.reentrant,
            "while_waiting": if self.waits_aloud { "comments" } else { "silent" },
            "duplicates": if self.join.is_some() { "join" } else { "off" },
            "replay_for": show_duration(self.join.map_or(Duration::ZERO, |join| join.replay_for)),
        })
    }
}

impl KeySource {
    fn shown(&self) -> Value {
        match self {
            Self::Header(name) => json!({ "header": name.as_str() }),
            Self::Json(pointer) => json!({ "json": pointer_shown(pointer) }),
            Self::Form(name) => json!({ "form": name }),
            Self::Query(name) => json!({ "query": name }),
            Self::Cookie(name) => json!({ "cookie": name }),
            Self::Path(name) => json!({ "path": name }),
        }
    }
}

impl RateLimit {
    fn shown(&self) -> Value {
        let mut shown = json!({
            "name": &*self.name,
            "per": match &self.per {
                RatePer::Session => json!("session"),
                RatePer::ClientIp => json!("client_ip"),
                RatePer::Route => json!("route"),
                RatePer::Header(name) => json!({ "header": name.as_str() }),
            },
            "rate": show_rate(self.rate.count, self.rate.period),
            "burst": self.burst,
        });
        match self.when_exceeded {
            WhenExceeded::Reject => shown["when_exceeded"] = json!("reject"),
            WhenExceeded::Wait { queue, queue_timeout } => {
                shown["when_exceeded"] = json!("wait");
                shown["queue"] = json!(queue);
                shown["queue_timeout"] = json!(show_duration(queue_timeout));
            }
        }
        shown
    }
}

/// As a JSON pointer writes it (RFC 6901).
fn pointer_shown(pointer: &[String]) -> String {
    pointer.iter().map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1"))).collect()
}

#[cfg(test)]
mod tests {
    use crate::policy::compile::compile;

    #[test]
    fn what_is_shown_can_be_read_again_and_means_the_same() {
        let text = "upstreams: { a: { servers: ['http://127.0.0.1:1'], health: { path: /h } } }
limits: { fair_by: { header: X-Api-Key }, queue_share: 40% }
routes:
  - name: r
    match: { path: '/x/{y}', methods: [POST], hosts: [h] }
    session:
      { key: [{ path: y }, { json: /a~1b }], assign: { header: X-Id }, within: [{ header: X-K }], reentrant: true,
        when_busy: replace, when_busy_choices: [wait, interrupt], while_waiting: comments, duplicates: join, replay_for: 9s }
    rate_limits: [{ per: session, rate: 90/min, when_exceeded: wait }]
  - { name: rest, background: always }
background: { store: /var/lib/jobs, workers: 2, retry_delay: 1500ms, max_result: 3KiB }
";
        let policy = compile("p", text.as_bytes(), &|_| None).expect("a good policy").policy;
        let shown = policy.shown().to_string();
        let again = compile("p", shown.as_bytes(), &|_| None).expect("what is shown is YAML too").policy;
        assert_eq!(again, policy);
    }

    #[test]
    fn values_of_header_fields_are_hidden() {
        let text = "upstreams: { a: { servers: ['http://127.0.0.1:1'] } }
routes: [{ name: r, match: { headers: { X-Key: s3cret } } }]
";
        let shown = compile("p", text.as_bytes(), &|_| None).expect("a good policy").policy.shown().to_string();
        assert!(shown.contains("x-key") && !shown.contains("s3cret"), "{shown}");
    }
}
