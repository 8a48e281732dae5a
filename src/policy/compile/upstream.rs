//! `upstreams`: groups of equal servers.

use std::sync::Arc;

use http::uri::PathAndQuery;

use super::{COUNT, MAX_LIST, NAME, SOME_TIME, address, check_name, file, tls};
use crate::config::key::{Is, Null, Parts, Required};
use crate::config::{
    Cursor, Fault, Fields, Flag, Form, Formed as _, Key, Own, Parsed, Section, Shape as _, Strict, Text, Time, Whole,
    Word, key, quoted,
};
use crate::policy::{Balance, Eject, HealthCheck, Pool, Retry, Upstream, UpstreamServer, UpstreamTls};

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum RetryOn {
    Connect,
    Status429,
    Status503,
}

mod words {
    use super::{Balance, RetryOn, Word};

    pub const BALANCE: Word<Balance> = Word(&[
        ("least_inflight", Balance::LeastInflight),
        ("round_robin", Balance::RoundRobin),
        ("session", Balance::Session),
    ]);
    pub const RETRY_ON: Word<RetryOn> =
        Word(&[("connect", RetryOn::Connect), ("status_429", RetryOn::Status429), ("status_503", RetryOn::Status503)]);
}

crate::config::keys! {
    mod keys = "upstream" {
        SERVERS: Key<Own<Vec<UpstreamServer>>, Required> = key("servers", Own(servers, servers_form), Required,
            "`http://host:port` or `https://host:port`, or a mapping with more to say");
        CONCURRENCY: Key<Whole, Null> = key("concurrency", COUNT, Null, "requests at once at all its servers together");
        BALANCE: Key<Word<Balance>> = key("balance", words::BALANCE, Is("least_inflight"),
            "which server gets the next request; `session`: same session, same server, while it is healthy");
        CONNECT_TIMEOUT: Key<Time> = key("connect_timeout", SOME_TIME, Is("2s"),
            "for one attempt to connect; then 504 after the retries");
        POOL: Key<Section, Parts> = key("pool", Section(pool_keys::KEYS), Parts, "idle connections to its servers");
        HEALTH: Key<Own<HealthCheck>, Null> = key("health", Own(health, || Form::Mapping(health_keys::KEYS)), Null,
            "active checks: a `GET` in the HTTP version of its requests, on a connection of its own; a status below \
             400 passes. `{}` for the defaults");
        EJECT: Key<Section, Parts> = key("eject", Section(eject_keys::KEYS), Parts,
            "servers that fail get no requests for a while; the last healthy one is never ejected");
        RETRY: Key<Section, Parts> = key("retry", Section(retry_keys::KEYS), Parts,
            "requests that were certainly not processed");
        HTTP2: Key<Flag> = key("http2", Flag, Is("false"),
            "speak HTTP/2 to the servers: with prior knowledge, or by ALPN where they are `https`");
        TLS: Key<Own<UpstreamTls>, Null> = key("tls", Own(tls::upstream, tls::upstream_form), Null,
            "for `https` servers");
    }
}

crate::config::keys! {
    mod server_keys = "upstream.server" {
        URL: Key<Parsed<address::ServerAddress>, Required> = key("url", address::SERVER, Required,
            "`http://host:port` or `https://host:port`; the host is a name or an address");
        WEIGHT: Key<Whole> = key("weight", Whole(1..=1000), Is("1"),
            "its part of the requests, beside the weights of the others");
        CONCURRENCY: Key<Whole, Null> = key("concurrency", COUNT, Null,
            "requests at once at this server, exempt ones not counted");
    }
}

crate::config::keys! {
    mod pool_keys = "pool" {
        // None at all is a sound wish: every request then has a connection of its own.
        MAX_IDLE: Key<Whole> = key("max_idle", Whole(0..=65_536), Is("64"),
            "idle connections kept to each server, by each worker");
        IDLE_TIMEOUT: Key<Time> = key("idle_timeout", SOME_TIME, Is("60s"), "how long they are kept");
    }
}

crate::config::keys! {
    mod health_keys = "health" {
        PATH: Key<Strict<Arc<str>>> = key("path", HEALTH_PATH, Is("/health"), "path and query of the check");
        INTERVAL: Key<Time> = key("interval", SOME_TIME, Is("5s"), "from one check to the next");
        TIMEOUT: Key<Time> = key("timeout", SOME_TIME, Is("2s"), "the longest that a check may take");
        HEALTHY_AFTER: Key<Whole> = key("healthy_after", IN_A_ROW, Is("1"),
            "successes in a row that make a server healthy again");
        UNHEALTHY_AFTER: Key<Whole> = key("unhealthy_after", IN_A_ROW, Is("3"),
            "failures in a row that make it unhealthy");
    }
}

crate::config::keys! {
    mod eject_keys = "eject" {
        AFTER_FAILURES: Key<Whole> = key("after_failures", COUNT, Is("5"),
            "failures in a row after which a server gets no requests for a while");
        FOR: Key<Time> = key("for", SOME_TIME, Is("10s"), "how long that is");
    }
}

crate::config::keys! {
    mod retry_keys = "retry" {
        ATTEMPTS: Key<Whole> = key("attempts", Whole(1..=10), Is("2"), "tries in all, the first included");
        ON: Key<Own<Vec<RetryOn>>> = key("on", Own(retry_on, retry_on_form), Is("[connect]"),
            "after what; `[]` for never");
    }
}

const IN_A_ROW: Whole = Whole(1..=1000);
const HEALTH_PATH: Strict<Arc<str>> =
    Strict(&Text { what: "a path such as `/health`", pattern: "^/[^#]*$" }, health_path);

pub(super) fn form() -> Form {
    Form::Named { name: NAME.0, of: Box::new(Form::Mapping(keys::KEYS)), least: 1, most: MAX_LIST }
}

/// In the order of the file; `None` after a problem that leaves no upstream to speak of. A place is kept for an upstream
/// with problems, so that routes that name it are not told of as well.
pub(super) fn upstreams(fields: Fields<'_>) -> Option<Vec<Upstream>> {
    let cursor = fields.required(&file::UPSTREAMS)?;
    let entries = cursor.entries()?;
    if entries.is_empty() {
        cursor.problem(Fault::new("must name at least one upstream"));
        return None;
    }
    if entries.len() > MAX_LIST {
        cursor.problem(Fault::new(format!("must be at most {MAX_LIST} upstreams")));
    }
    Some(entries.into_iter().map(|(name, cursor)| upstream(name, cursor)).collect())
}

fn upstream(name: &str, cursor: Cursor<'_>) -> Upstream {
    cursor.told(check_name(name));
    let fields = cursor.fields(keys::KEYS);
    let fields = fields.unwrap_or_else(|| Fields::absent(cursor, keys::KEYS));
    // A mapping is asked of what is one; for anything else the problem has been told.
    let servers = if cursor.is_mapping() { fields.needed(&keys::SERVERS) } else { None };
    let servers = servers.unwrap_or_default();
    let tls = fields.nullable(&keys::TLS);
    if let (Some(cursor), Some(_)) = (fields.get(&keys::TLS), &tls)
        && !servers.is_empty()
        && !servers.iter().any(|server| server.https)
    {
        cursor.problem(Fault::new("none of the servers speaks TLS").hint("write `https://` in their addresses"));
    }
    let http2 = fields.read(&keys::HTTP2);
    if http2 && servers.iter().any(|server| server.https) && !servers.iter().all(|server| server.https) {
        let cursor = fields.get(&keys::SERVERS).unwrap_or(cursor);
        cursor.problem(Fault::new("with `http2` either all servers are `https` or none"));
    }
    Upstream {
        name: name.into(),
        servers,
        tls: tls.unwrap_or_default(),
        concurrency: fields.nullable(&keys::CONCURRENCY),
        balance: fields.read(&keys::BALANCE),
        connect_timeout: fields.read(&keys::CONNECT_TIMEOUT),
        pool: pool(fields),
        health: fields.nullable(&keys::HEALTH),
        eject: eject(fields),
        retry: retry(fields),
        http2,
    }
}

fn servers_form() -> Form {
    Form::Either(vec![address::SERVER.form(), Form::Mapping(server_keys::KEYS)]).list(1, MAX_LIST)
}

fn servers(cursor: Cursor<'_>) -> Option<Vec<UpstreamServer>> {
    let items = cursor.items_up_to(MAX_LIST)?;
    if items.is_empty() {
        cursor.problem(Fault::new("must name at least one server"));
    }
    let read: Vec<(Cursor<'_>, UpstreamServer)> =
        items.into_iter().filter_map(|item| server(item).map(|server| (item, server))).collect();
    for (index, (item, server)) in read.iter().enumerate() {
        let same = |earlier: &UpstreamServer| (&earlier.host, earlier.port) == (&server.host, server.port);
        if read[..index].iter().any(|(_, earlier)| same(earlier)) {
            item.problem(Fault::new("this server is in the list already").hint("give one of them a greater `weight`"));
        }
    }
    Some(read.into_iter().map(|(_, server)| server).collect())
}

fn server(cursor: Cursor<'_>) -> Option<UpstreamServer> {
    let bare = !cursor.is_mapping();
    let known = server_keys::KEYS;
    let fields = if bare { Fields::absent(cursor, known) } else { cursor.fields(known)? };
    let url = if bare { cursor } else { fields.required(&server_keys::URL)? };
    let text = url.string()?;
    let address = address::SERVER.read(url)?;
    Some(UpstreamServer {
        url: text.into(),
        host: address.host.into(),
        port: address.port,
        https: address.https,
        weight: fields.read(&server_keys::WEIGHT),
        concurrency: fields.nullable(&server_keys::CONCURRENCY),
    })
}

fn pool(fields: Fields<'_>) -> Pool {
    let fields = fields.section(&keys::POOL);
    let max_idle = fields.read(&pool_keys::MAX_IDLE) as usize;
    Pool { max_idle, idle_timeout: fields.read(&pool_keys::IDLE_TIMEOUT) }
}

fn health(cursor: Cursor<'_>) -> Option<HealthCheck> {
    let fields = cursor.fields(health_keys::KEYS)?;
    Some(HealthCheck {
        path: fields.read(&health_keys::PATH),
        interval: fields.read(&health_keys::INTERVAL),
        timeout: fields.read(&health_keys::TIMEOUT),
        healthy_after: fields.read(&health_keys::HEALTHY_AFTER),
        unhealthy_after: fields.read(&health_keys::UNHEALTHY_AFTER),
    })
}

fn health_path(text: &str) -> Result<Arc<str>, Fault> {
    let sound = text.starts_with('/') && !text.contains('#') && text.parse::<PathAndQuery>().is_ok();
    sound
        .then(|| text.into())
        .ok_or_else(|| Fault::new(format!("must be a path such as `/health`, not `{}`", quoted(text))))
}

fn eject(fields: Fields<'_>) -> Eject {
    let fields = fields.section(&keys::EJECT);
    let after_failures = fields.read(&eject_keys::AFTER_FAILURES);
    Eject { after_failures, duration: fields.read(&eject_keys::FOR) }
}

fn retry(fields: Fields<'_>) -> Retry {
    let fields = fields.section(&keys::RETRY);
    let on = fields.read(&retry_keys::ON);
    Retry {
        attempts: fields.read(&retry_keys::ATTEMPTS),
        on_connect: on.contains(&RetryOn::Connect),
        on_429: on.contains(&RetryOn::Status429),
        on_503: on.contains(&RetryOn::Status503),
    }
}

fn retry_on_form() -> Form {
    words::RETRY_ON.form().list(0, words::RETRY_ON.0.len())
}

fn retry_on(cursor: Cursor<'_>) -> Option<Vec<RetryOn>> {
    let items = cursor.items_up_to(words::RETRY_ON.0.len())?;
    let words = items.into_iter().filter_map(|item| words::RETRY_ON.read(item).map(|word| (item, word)));
    let words: Vec<(Cursor<'_>, RetryOn)> = words.collect();
    super::unique(words.iter().copied());
    Some(words.into_iter().map(|(_, word)| word).collect())
}

#[cfg(test)]
mod tests {
    use crate::policy::compile::tests::{policy, says, warnings, with_route};

    #[test]
    fn upstreams_are_needed_and_named() {
        says("listen: ':80'", "1:1: `upstreams` is missing");
        says("upstreams: {}", "upstreams: must name at least one upstream");
        says("upstreams:\n", "upstreams: must be a mapping, not nothing");
        says("upstreams: {a: {servers: []}}", "upstreams.a.servers: must name at least one server");
        says("upstreams: {a: {}}", "upstreams.a: `servers` is missing");
        says("upstreams: {a b: {servers: ['http://a']}}", "a name has 1 to 64 letters");
        let two = "upstreams: {a: {servers: ['http://a']}, b: {servers: ['http://b']}}";
        says(two, "`routes` is missing: with several upstreams");
        says(&format!("{two}\nroutes: [{{name: x}}]"), "routes[0]: `upstream` is missing, and there are several");
        says(
            &with_route("upstream: agnets"),
            "routes[0].upstream: there is no upstream `agnets`; did you mean `agents`?",
        );
        assert_eq!(
            warnings(&format!("{two}\nroutes: [{{upstream: b}}]")),
            ["f.yaml:1:13: upstreams.a: no route leads to this upstream"]
        );
    }

    #[test]
    fn upstreams_are_checked() {
        let upstream = |text: &str| format!("upstreams: {{a: {{servers: ['http://a'], {text}}}}}");
        says(&upstream("balance: random"), "must be `least_inflight` or `round_robin` or `session`");
        says(&upstream("retry: {on: [status_500]}"), "upstreams.a.retry.on[0]: must be ");
        says(&upstream("retry: {attempts: 0}"), "must be at least 1");
        says(&upstream("health: {path: health}"), "must be a path such as `/health`");
        says("upstreams: {a: {servers: ['http://a', 'http://a:80']}}", "this server is in the list already");
        says("upstreams: {a: {servers: [{url: 'http://a', weight: 1001}]}}", "must be from 1 to 1000");
        says("upstreams: {a: {servers: ['http://me:${KEY}@a']}}", "must be an address such as");
        let policy = policy(&upstream("retry: {on: [connect, status_503]}, health: {interval: 1s}, eject: {for: 1m}"));
        let upstream = &policy.upstreams[0];
        let health = upstream.health.as_ref().expect("a health check");
        assert_eq!((upstream.retry.on_503, upstream.retry.on_429, &*health.path), (true, false, "/health"));
    }
}
