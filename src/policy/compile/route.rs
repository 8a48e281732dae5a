//! `routes` and `defaults`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::defaults::{inherited, under};
use super::limits::MAX_BYTES;
use super::session::{Whose, session};
use super::{ANY_TIME, MAX_COUNT, MAX_LIST, SOME_TIME, background, lanes, matching, name, rate_limit, shadow, unknown};
use crate::config::{Cursor, Fault, Fields, Kind, Node};
use crate::policy::{Abandoned, Later, PathMatch, Priority, RateLimit, RatePer, Route, Session, Timeouts, Upstream};

const ROUTE: [&str; 13] = [
    "name",
    "match",
    "upstream",
    "priority",
    "exempt",
    "concurrency",
    "body_limit",
    "session",
    "rate_limits",
    "timeouts",
    "abandoned",
    "abandoned_limit",
    "background",
];
/// What belongs to one route alone and has no default.
const ONLY_IN_ROUTES: [&str; 3] = ["name", "match", "upstream"];
/// What a request that takes neither turn nor place has no use for.
const NOT_WHEN_EXEMPT: [&str; 3] = ["session", "concurrency", "priority"];
const PRIORITY: [(&str, Priority); 3] =
    [("high", Priority::High), ("normal", Priority::Normal), ("low", Priority::Low)];
const ABANDONED: [(&str, Abandoned); 3] =
    [("auto", Abandoned::Auto), ("finish", Abandoned::Finish), ("cancel", Abandoned::Cancel)];

/// Never empty; `None` after a problem that leaves no route to speak of.
pub(super) fn routes(fields: Fields<'_>, upstreams: &Option<Vec<Upstream>>, queue_bytes: u64) -> Option<Vec<Route>> {
    let upstreams = upstreams.as_deref().unwrap_or_default();
    let defaults = defaults(fields);
    let written = match fields.get("routes") {
        Some(cursor) => cursor.items_up_to(MAX_LIST)?,
        None => Vec::new(),
    };
    let nodes: Vec<Cow<'_, Node>> = if written.is_empty() {
        vec![Cow::Owned(under(&implied(fields, upstreams)?, defaults).into_owned())]
    } else {
        written.iter().map(|cursor| under(cursor.node(), defaults)).collect()
    };
    let all = All { upstreams, queue_bytes, only: written.is_empty() };
    let cursors = nodes.iter().map(|node| fields.cursor().over(node));
    let routes = cursors.enumerate().filter_map(|(index, cursor)| Some((cursor, route(cursor, index, all)?)));
    let routes: Vec<(Cursor<'_>, Route)> = routes.collect();
    check_names(&routes);
    lanes::check(&routes);
    shadow::check(&routes);
    background::check(fields, &routes);
    warn_of_unused(fields, upstreams, &routes);
    Some(routes.into_iter().map(|(_, route)| route).collect())
}

/// Reads `defaults` by itself, because what every route overrides would never be read otherwise.
fn defaults(fields: Fields<'_>) -> Option<&Node> {
    let cursor = fields.get("defaults")?;
    let fields = cursor.fields(&ROUTE)?;
    let misplaced: Vec<Cursor<'_>> = ONLY_IN_ROUTES.iter().filter_map(|key| fields.get(key)).collect();
    for cursor in &misplaced {
        cursor.problem(Fault::new("belongs to one route, not to `defaults`"));
    }
    // Only for what they tell.
    let _ = fields.nullable("session", |cursor| session(cursor, Whose::Defaults));
    let _ = read_common(fields);
    misplaced.is_empty().then_some(cursor.node())
}

/// With one upstream and no routes, everything goes to it.
fn implied(fields: Fields<'_>, upstreams: &[Upstream]) -> Option<Node> {
    if upstreams.len() > 1 {
        let fault = Fault::new("`routes` is missing: with several upstreams it must say which requests go where");
        fields.get("routes").unwrap_or(fields.cursor()).problem(fault);
        return None;
    }
    let place = fields.get("upstreams").map_or(fields.cursor().node(), Cursor::node);
    Some(Node { kind: Kind::Mapping(Vec::new()), ..place.clone() })
}

#[derive(Clone, Copy)]
struct All<'a> {
    upstreams: &'a [Upstream],
    queue_bytes: u64,
    /// The route is the implied one.
    only: bool,
}

fn route(cursor: Cursor<'_>, index: usize, all: All<'_>) -> Option<Route> {
    let fields = cursor.fields(&ROUTE)?;
    let made_up = if all.only { "default".to_owned() } else { format!("route-{}", index + 1) };
    let name: Arc<str> = fields.get("name").and_then(name).map_or_else(|| made_up.into(), Arc::from);
    let matching = matching::matching(fields);
    let common = read_common(fields);
    // A path that could not be read has been told; its variables are not missed as well.
    let unread = fields.get("match").and_then(|cursor| cursor.inside("path")).is_some()
        && !matches!(matching.path, PathMatch::Pattern(_));
    let whose = Whose::Route { name: &name, path: (!unread).then_some(&matching.path) };
    let session = if common.exempt {
        check_exempt(fields);
        None
    } else {
        fields.nullable("session", |cursor| session(cursor, whose))
    };
    warn_of_limits(fields, &common, session.as_ref(), all.queue_bytes);
    Some(Route {
        name,
        matching,
        upstream: upstream(fields, all.upstreams),
        priority: common.priority,
        exempt: common.exempt,
        concurrency: common.concurrency.filter(|_| !common.exempt),
        body_limit: common.body_limit,
        session,
        rate_limits: common.rate_limits,
        timeouts: common.timeouts,
        abandoned: common.abandoned,
        abandoned_limit: common.abandoned_limit,
        background: common.background,
    })
}

/// What a route and `defaults` read alike.
struct Common {
    priority: Priority,
    exempt: bool,
    concurrency: Option<u32>,
    body_limit: u64,
    rate_limits: Vec<Arc<RateLimit>>,
    timeouts: Timeouts,
    abandoned: Abandoned,
    abandoned_limit: Duration,
    background: Later,
}

fn read_common(fields: Fields<'_>) -> Common {
    Common {
        priority: fields.or("priority", Priority::Normal, |cursor| cursor.word(&PRIORITY)),
        exempt: fields.or("exempt", false, Cursor::bool),
        concurrency: fields.nullable("concurrency", |cursor| cursor.integer(1..=MAX_COUNT)),
        body_limit: fields.or("body_limit", 16 << 20, |cursor| cursor.size(1..=MAX_BYTES)),
        rate_limits: fields.or("rate_limits", Vec::new(), rate_limit::rate_limits),
        timeouts: timeouts(fields),
        abandoned: fields.or("abandoned", Abandoned::Auto, |cursor| cursor.word(&ABANDONED)),
        abandoned_limit: fields.or("abandoned_limit", Duration::from_secs(60), |cursor| cursor.duration(SOME_TIME)),
        background: fields.or("background", Later::Off, |cursor| cursor.word(&Later::WORDS)),
    }
}

fn timeouts(fields: Fields<'_>) -> Timeouts {
    let fields = fields.section("timeouts", &["request", "response", "idle", "total"]);
    let time = |key, seconds| fields.or(key, Duration::from_secs(seconds), |cursor| cursor.duration(SOME_TIME));
    Timeouts {
        request: time("request", 60),
        response: time("response", 30),
        idle: time("idle", 60),
        // Zero is the wish for none.
        total: fields.or("total", Duration::from_secs(600), |cursor| cursor.duration(ANY_TIME)),
    }
}

fn upstream(fields: Fields<'_>, upstreams: &[Upstream]) -> usize {
    let names: Vec<&str> = upstreams.iter().map(|upstream| &*upstream.name).collect();
    let Some(cursor) = fields.get("upstream") else {
        if names.len() > 1 {
            fields.cursor().problem(Fault::new("`upstream` is missing, and there are several"));
        }
        return 0;
    };
    let Some(written) = cursor.string() else { return 0 };
    names.iter().position(|name| *name == written).unwrap_or_else(|| {
        // Without any upstream that is the problem, and it has been told.
        if !names.is_empty() {
            cursor.problem(unknown("upstream", &cursor.shown(), &names));
        }
        0
    })
}

fn check_exempt(fields: Fields<'_>) {
    for key in NOT_WHEN_EXEMPT {
        // What comes from `defaults` is meant for the other routes.
        if let Some(cursor) = fields.get(key).filter(|cursor| !cursor.is_null() && !inherited(cursor.node())) {
            let message = format!("`{key}` has no effect on an exempt route, which takes no turn and no place");
            cursor.problem(Fault::new(message).hint(format!("remove `{key}`, or write `exempt: false`")));
        }
    }
}

fn warn_of_limits(fields: Fields<'_>, common: &Common, session: Option<&Session>, queue_bytes: u64) {
    if let Some(cursor) = fields.get("body_limit").filter(|_| common.body_limit > queue_bytes && !common.exempt) {
        cursor.warning(Fault::new("a request with so large a body can never wait: `limits.queue_bytes` is smaller"));
    }
    let per_session = common.rate_limits.iter().any(|limit| limit.per == RatePer::Session);
    if let Some(cursor) = fields.get("rate_limits").filter(|_| per_session && session.is_none()) {
        let fault = Fault::new("this route has no session: `per: session` counts by client address");
        cursor.warning(fault.hint("write `per: client_ip`, or give the route a `session`"));
    }
}

fn check_names(routes: &[(Cursor<'_>, Route)]) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (cursor, route) in routes {
        let place = cursor.inside("name").unwrap_or(*cursor);
        if let Some(line) = seen.get(&*route.name) {
            let fault = Fault::new(format!("the name `{}` is taken by the route in line {line}", route.name));
            place.problem(fault);
        } else {
            seen.insert(&route.name, cursor.node().at.line);
        }
    }
}

fn warn_of_unused(fields: Fields<'_>, upstreams: &[Upstream], routes: &[(Cursor<'_>, Route)]) {
    for (index, upstream) in upstreams.iter().enumerate() {
        let used = routes.iter().any(|(_, route)| route.upstream == index);
        let cursor = fields.get("upstreams").and_then(|upstreams| upstreams.inside(&upstream.name));
        if let Some(cursor) = cursor.filter(|_| !used) {
            cursor.warning(Fault::new("no route leads to this upstream"));
        }
    }
}
