//! `upstreams`: groups of equal servers.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;

use super::{MAX_COUNT, MAX_LIST, SOME_TIME, address, check_name, tls};
use crate::config::{Cursor, Fault, Fields, quoted};
use crate::policy::{Balance, Eject, HealthCheck, Pool, Retry, Upstream, UpstreamServer};

const UPSTREAM: [&str; 10] =
    ["servers", "concurrency", "balance", "connect_timeout", "pool", "health", "eject", "retry", "http2", "tls"];
const BALANCE: [(&str, Balance); 3] =
    [("least_inflight", Balance::LeastInflight), ("round_robin", Balance::RoundRobin), ("session", Balance::Session)];

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum RetryOn {
    Connect,
    Status429,
    Status503,
}

const RETRY_ON: [(&str, RetryOn); 3] =
    [("connect", RetryOn::Connect), ("status_429", RetryOn::Status429), ("status_503", RetryOn::Status503)];

/// In the order of the file; `None` after a problem that leaves no upstream to speak of. A place is kept for an upstream
/// with problems, so that routes that name it are not told of as well.
pub(super) fn upstreams(fields: Fields<'_>) -> Option<Vec<Upstream>> {
    let cursor = fields.required("upstreams")?;
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
    let fields = cursor.fields(&UPSTREAM);
    let fields = fields.unwrap_or_else(|| Fields::absent(cursor));
    // A mapping is asked of what is one; for anything else the problem has been told.
    let servers = if cursor.is_mapping() { fields.required("servers").and_then(servers) } else { None };
    let servers = servers.unwrap_or_default();
    let tls = fields.nullable("tls", tls::upstream);
    if let (Some(cursor), Some(_)) = (fields.get("tls"), &tls)
        && !servers.is_empty()
        && !servers.iter().any(|server| server.https)
    {
        cursor.problem(Fault::new("none of the servers speaks TLS").hint("write `https://` in their addresses"));
    }
    let http2 = fields.or("http2", false, Cursor::bool);
    if http2 && servers.iter().any(|server| server.https) && !servers.iter().all(|server| server.https) {
        let cursor = fields.get("servers").unwrap_or(cursor);
        cursor.problem(Fault::new("with `http2` either all servers are `https` or none"));
    }
    Upstream {
        name: name.into(),
        servers,
        tls: tls.unwrap_or_default(),
        concurrency: fields.nullable("concurrency", |cursor| cursor.integer(1..=MAX_COUNT)),
        balance: fields.or("balance", Balance::LeastInflight, |cursor| cursor.word(&BALANCE)),
        connect_timeout: fields.or("connect_timeout", Duration::from_secs(2), |cursor| cursor.duration(SOME_TIME)),
        pool: pool(fields),
        health: fields.nullable("health", health),
        eject: eject(fields),
        retry: retry(fields),
        http2,
    }
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
    let fields = if bare { Fields::absent(cursor) } else { cursor.fields(&["url", "weight", "concurrency"])? };
    let url = if bare { cursor } else { fields.required("url")? };
    let text = url.string()?;
    let address = url.parsed(address::server, "an address such as `http://127.0.0.1:8000`")?;
    Some(UpstreamServer {
        url: text.into(),
        host: address.host.into(),
        port: address.port,
        https: address.https,
        weight: fields.or("weight", 1, |cursor| cursor.integer(1..=1000)),
        concurrency: fields.nullable("concurrency", |cursor| cursor.integer(1..=MAX_COUNT)),
    })
}

fn pool(fields: Fields<'_>) -> Pool {
    let fields = fields.section("pool", &["max_idle", "idle_timeout"]);
    Pool {
        // None at all is a sound wish: every request then has a connection of its own.
        max_idle: fields.or("max_idle", 64, |cursor| cursor.integer(0..=65_536)) as usize,
        idle_timeout: fields.or("idle_timeout", Duration::from_secs(60), |cursor| cursor.duration(SOME_TIME)),
    }
}

fn health(cursor: Cursor<'_>) -> Option<HealthCheck> {
    let fields = cursor.fields(&["path", "interval", "timeout", "healthy_after", "unhealthy_after"])?;
    let time = |key, seconds| fields.or(key, Duration::from_secs(seconds), |cursor| cursor.duration(SOME_TIME));
    let count = |key, default| fields.or(key, default, |cursor| cursor.integer(1..=1000));
    let path: Option<Arc<str>> = match fields.get("path") {
        None => Some("/health".into()),
        Some(path) => path.string().and_then(|text| path.told(health_path(text))),
    };
    Some(HealthCheck {
        path: path?,
        interval: time("interval", 5),
        timeout: time("timeout", 2),
        healthy_after: count("healthy_after", 1),
        unhealthy_after: count("unhealthy_after", 3),
    })
}

fn health_path(text: &str) -> Result<Arc<str>, Fault> {
    let sound = text.starts_with('/') && !text.contains('#') && text.parse::<PathAndQuery>().is_ok();
    sound
        .then(|| text.into())
        .ok_or_else(|| Fault::new(format!("must be a path such as `/health`, not `{}`", quoted(text))))
}

fn eject(fields: Fields<'_>) -> Eject {
    let fields = fields.section("eject", &["after_failures", "for"]);
    Eject {
        after_failures: fields.or("after_failures", 5, |cursor| cursor.integer(1..=MAX_COUNT)),
        duration: fields.or("for", Duration::from_secs(10), |cursor| cursor.duration(SOME_TIME)),
    }
}

fn retry(fields: Fields<'_>) -> Retry {
    let fields = fields.section("retry", &["attempts", "on"]);
    let on = fields.or("on", vec![RetryOn::Connect], |cursor| {
        let words = cursor.items()?.into_iter().filter_map(|item| item.word(&RETRY_ON).map(|word| (item, word)));
        let words: Vec<(Cursor<'_>, RetryOn)> = words.collect();
        super::unique(words.iter().copied());
        Some(words.into_iter().map(|(_, word)| word).collect())
    });
    Retry {
        attempts: fields.or("attempts", 2, |cursor| cursor.integer(1..=10)),
        on_connect: on.contains(&RetryOn::Connect),
        on_429: on.contains(&RetryOn::Status429),
        on_503: on.contains(&RetryOn::Status503),
    }
}
