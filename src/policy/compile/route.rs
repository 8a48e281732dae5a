//! `routes` and `defaults`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::defaults::{inherited, under};
use super::limits::BYTES;
use super::session::{self, Whose};
use super::{ANY_TIME, COUNT, MAX_LIST, SOME_TIME, background, file, lanes, matching, rate_limit, shadow, unknown};
use crate::config::key::{Empty, From, Is, Null, Parts};
use crate::config::{
    Cursor, Fault, Fields, Flag, Form, Formed as _, InPlace, Key, Kind, Node, Own, Section, Size, Strict, Time, Whole,
    Word, key,
};
use crate::policy::{Abandoned, Later, PathMatch, Priority, RateLimit, RatePer, Route, Session, Timeouts, Upstream};

pub(super) mod words {
    use super::{Abandoned, Later, Priority, Word};

    pub const PRIORITY: Word<Priority> =
        Word(&[("high", Priority::High), ("normal", Priority::Normal), ("low", Priority::Low)]);
    pub const ABANDONED: Word<Abandoned> =
        Word(&[("auto", Abandoned::Auto), ("finish", Abandoned::Finish), ("cancel", Abandoned::Cancel)]);
    pub const BACKGROUND: Word<Later> = Word(&Later::WORDS);
}

crate::config::keys! {
    pub(super) mod keys = "route" {
        NAME: Key<Strict<String>, From> = key("name", super::super::NAME, From("`route-N`"),
            "label of metrics; state survives a reload by it");
        MATCH: Key<InPlace, From> = key("match", InPlace(|| Form::Mapping(matching::keys::KEYS)), From("everything"),
            "which requests it is for; all that is given must hold");
        UPSTREAM: Key<InPlace, From> = key("upstream", InPlace(|| super::super::NAME.form()), From("the only one"),
            "where they go; required where there are several");
        PRIORITY: Key<Word<Priority>> = key("priority", words::PRIORITY, Is("normal"),
            "where places are given out; a waiting request rises one class every 10 s");
        EXEMPT: Key<Flag> = key("exempt", Flag, Is("false"), "`true`: takes no turn and no place");
        CONCURRENCY: Key<Whole, Null> = key("concurrency", COUNT, Null, "requests of this route at once");
        BODY_LIMIT: Key<Size> = key("body_limit", BYTES, Is("16MiB"), "longest request body; else 413");
        SESSION: Key<InPlace, Null> = key("session", InPlace(session::form), Null,
            "turns; `null`: requests of this route do not wait for one another");
        RATE_LIMITS: Key<Own<Vec<Arc<RateLimit>>>, Empty> =
            key("rate_limits", Own(rate_limit::rate_limits, rate_limit::form), Empty,
            "how many requests may come in what time; all of them hold");
        TIMEOUTS: Key<Section, Parts> = key("timeouts", Section(times::KEYS), Parts,
            "how long each part of a request may take");
        ABANDONED: Key<Word<Abandoned>> = key("abandoned", words::ABANDONED, Is("auto"),
            "what becomes of a request that the backend works on when its client has gone, or was given a 504. \
             `finish`: turn and place stay taken until the answer has ended; `cancel`: the connection to the server is \
             closed at once; `auto`: `finish` before the response head, `cancel` once the body streams");
        ABANDONED_LIMIT: Key<Time> = key("abandoned_limit", SOME_TIME, Is("60s"), "how long `finish` may go on");
        BACKGROUND: Key<Word<Later>> = key("background", words::BACKGROUND, Is("off"),
            "which requests are answered later: none, those whose client says `Prefer: respond-async`, or all");
    }
}

crate::config::keys! {
    pub(super) mod times = "timeouts" {
        REQUEST: Key<Time> = key("request", SOME_TIME, Is("60s"),
            "the client's whole body; then 408. It begins when the gateway begins to read the body");
        RESPONSE: Key<Time> = key("response", SOME_TIME, Is("30s"),
            "from the server having the request to its response head; then 504. It pauses while the client owes a part \
             of its body");
        IDLE: Key<Time> = key("idle", SOME_TIME, Is("60s"),
            "between two pieces of an answer; both directions of an upgraded connection count");
        TOTAL: Key<Time> = key("total", ANY_TIME, Is("10m"), "all of it, from admission on; `0s`: none");
    }
}

/// What belongs to one route alone and has no default.
const ONLY_IN_ROUTES: [&str; 3] = [keys::NAME.name(), keys::MATCH.name(), keys::UPSTREAM.name()];

pub(super) fn form() -> Form {
    Form::Mapping(keys::KEYS).list(0, MAX_LIST)
}

pub(super) fn defaults_form() -> Form {
    Form::Without(keys::KEYS, &ONLY_IN_ROUTES)
}

/// Never empty; `None` after a problem that leaves no route to speak of.
pub(super) fn routes(fields: Fields<'_>, upstreams: &Option<Vec<Upstream>>, queue_bytes: u64) -> Option<Vec<Route>> {
    let upstreams = upstreams.as_deref().unwrap_or_default();
    let defaults = defaults(fields);
    let written = match fields.get(&file::ROUTES) {
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
    let words = routes.iter().map(|(route, read)| (route.inside(keys::BACKGROUND.name()), *route, read.background));
    background::check(fields, words.map(|(word, route, later)| (word.unwrap_or(route), later)));
    warn_of_unused(fields, upstreams, &routes);
    Some(routes.into_iter().map(|(_, route)| route).collect())
}

/// Reads `defaults` by itself, because what every route overrides would never be read otherwise.
fn defaults(fields: Fields<'_>) -> Option<&Node> {
    let cursor = fields.get(&file::DEFAULTS)?;
    let fields = cursor.fields(keys::KEYS)?;
    let misplaced: Vec<Cursor<'_>> = ONLY_IN_ROUTES.iter().filter_map(|key| cursor.inside(key)).collect();
    for cursor in &misplaced {
        cursor.problem(Fault::new("belongs to one route, not to `defaults`"));
    }
    // Only for what they tell.
    let _ = fields.present(&keys::SESSION).and_then(|cursor| session::session(cursor, Whose::Defaults));
    let _ = read_common(fields);
    misplaced.is_empty().then_some(cursor.node())
}

/// With one upstream and no routes, everything goes to it.
fn implied(fields: Fields<'_>, upstreams: &[Upstream]) -> Option<Node> {
    if upstreams.len() > 1 {
        let fault = Fault::new("`routes` is missing: with several upstreams it must say which requests go where");
        fields.get(&file::ROUTES).unwrap_or(fields.cursor()).problem(fault);
        return None;
    }
    let place = fields.get(&file::UPSTREAMS).map_or(fields.cursor().node(), Cursor::node);
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
    let fields = cursor.fields(keys::KEYS)?;
    let made_up = if all.only { "default".to_owned() } else { format!("route-{}", index + 1) };
    let name: Arc<str> = fields.given(&keys::NAME).unwrap_or(made_up).into();
    let matching = matching::matching(fields.get(&keys::MATCH));
    let common = read_common(fields);
    // A path that could not be read has been told; its variables are not missed as well.
    let path = matching::keys::PATH.name();
    let unread = fields.get(&keys::MATCH).and_then(|cursor| cursor.inside(path)).is_some()
        && !matches!(matching.path, PathMatch::Pattern(_));
    let whose = Whose::Route { name: &name, path: (!unread).then_some(&matching.path) };
    let session = if common.exempt {
        check_exempt(fields);
        None
    } else {
        fields.present(&keys::SESSION).and_then(|cursor| session::session(cursor, whose))
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
        priority: fields.read(&keys::PRIORITY),
        exempt: fields.read(&keys::EXEMPT),
        concurrency: fields.nullable(&keys::CONCURRENCY),
        body_limit: fields.read(&keys::BODY_LIMIT),
        rate_limits: fields.listed(&keys::RATE_LIMITS),
        timeouts: timeouts(fields),
        abandoned: fields.read(&keys::ABANDONED),
        abandoned_limit: fields.read(&keys::ABANDONED_LIMIT),
        background: fields.read(&keys::BACKGROUND),
    }
}

fn timeouts(fields: Fields<'_>) -> Timeouts {
    let fields = fields.section(&keys::TIMEOUTS);
    Timeouts {
        request: fields.read(&times::REQUEST),
        response: fields.read(&times::RESPONSE),
        idle: fields.read(&times::IDLE),
        total: fields.read(&times::TOTAL),
    }
}

fn upstream(fields: Fields<'_>, upstreams: &[Upstream]) -> usize {
    let names: Vec<&str> = upstreams.iter().map(|upstream| &*upstream.name).collect();
    let Some(cursor) = fields.get(&keys::UPSTREAM) else {
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
    let useless = [
        (keys::SESSION.name(), fields.get(&keys::SESSION)),
        (keys::CONCURRENCY.name(), fields.get(&keys::CONCURRENCY)),
        (keys::PRIORITY.name(), fields.get(&keys::PRIORITY)),
    ];
    for (key, cursor) in useless {
        // What comes from `defaults` is meant for the other routes.
        if let Some(cursor) = cursor.filter(|cursor| !cursor.is_null() && !inherited(cursor.node())) {
            let message = format!("`{key}` has no effect on an exempt route, which takes no turn and no place");
            cursor.problem(Fault::new(message).hint(format!("remove `{key}`, or write `exempt: false`")));
        }
    }
}

fn warn_of_limits(fields: Fields<'_>, common: &Common, session: Option<&Session>, queue_bytes: u64) {
    if let Some(cursor) = fields.get(&keys::BODY_LIMIT).filter(|_| common.body_limit > queue_bytes && !common.exempt) {
        cursor.warning(Fault::new("a request with so large a body can never wait: `limits.queue_bytes` is smaller"));
    }
    let per_session = common.rate_limits.iter().any(|limit| limit.per == RatePer::Session);
    if let Some(cursor) = fields.get(&keys::RATE_LIMITS).filter(|_| per_session && session.is_none()) {
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
        let cursor = fields.get(&file::UPSTREAMS).and_then(|upstreams| upstreams.inside(&upstream.name));
        if let Some(cursor) = cursor.filter(|_| !used) {
            cursor.warning(Fault::new("no route leads to this upstream"));
        }
    }
}
