//! `session`: how requests of one conversation take turns.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::{ANY_TIME, MAX_COUNT, SOME_TIME, http_words, name, one_key, unknown};
use crate::config::{Cursor, Fault, Fields};
use crate::policy::{Anonymous, Assign, Join, KeySource, PathMatch, Segment, Session, WhenBusy};

const SESSION: [&str; 14] = [
    "key",
    "within",
    "lane",
    "anonymous",
    "assign",
    "concurrency",
    "queue",
    "queue_timeout",
    "when_busy",
    "when_busy_choices",
    "reentrant",
    "while_waiting",
    "duplicates",
    "replay_for",
];
const SOURCES: [&str; 6] = ["header", "json", "form", "query", "cookie", "path"];
const ANONYMOUS: [(&str, Anonymous); 3] =
    [("separate", Anonymous::Separate), ("shared", Anonymous::Shared), ("reject", Anonymous::Reject)];

/// Keys that may be looked for in one request.
const MAX_SOURCES: usize = 16;

/// What the session is read for.
#[derive(Clone, Copy)]
pub(super) enum Whose<'a> {
    /// `defaults` need not be complete and have no path.
    Defaults,
    Route {
        name: &'a Arc<str>,
        /// `None`: unknown, so that any variable may be in it.
        path: Option<&'a PathMatch>,
    },
}

/// `None` after a problem, and always for `defaults`.
pub(super) fn session(cursor: Cursor<'_>, whose: Whose<'_>) -> Option<Session> {
    let fields = cursor.fields(&SESSION)?;
    let key = key(fields, whose);
    let within = fields.or("within", Vec::new(), |cursor| sources(cursor, whose));
    let lane = fields.nullable("lane", name).map(Arc::from);
    let anonymous = fields.or("anonymous", Anonymous::Separate, |cursor| cursor.word(&ANONYMOUS));
    let assign = fields.nullable("assign", assign);
    check_assign(fields, assign.as_ref(), anonymous, key.as_deref());
    let concurrency = fields.or("concurrency", 1, |cursor| cursor.integer(1..=MAX_COUNT));
    let queue = fields.or("queue", 32, |cursor| cursor.integer(1..=MAX_COUNT));
    let queue_timeout = fields.or("queue_timeout", Duration::from_secs(60), |cursor| cursor.duration(SOME_TIME));
    let when_busy = fields.or("when_busy", WhenBusy::Wait, |cursor| cursor.word(&WhenBusy::WORDS));
    let when_busy_choices = fields.or("when_busy_choices", Vec::new(), choices);
    let reentrant = fields.or("reentrant", false, Cursor::bool);
    let waits_aloud = fields.or("while_waiting", false, |cursor| cursor.word(&[("silent", false), ("comments", true)]));
    let join = join(fields);
    let Whose::Route { name, .. } = whose else { return None };
    Some(Session {
        key: key?,
        within,
        lane: lane.unwrap_or_else(|| Arc::clone(name)),
        anonymous,
        assign,
        concurrency: NonZeroU32::new(concurrency).unwrap_or(NonZeroU32::MIN),
        queue,
        queue_timeout,
        when_busy,
        when_busy_choices,
        reentrant,
        waits_aloud,
        join,
    })
}

fn choices(cursor: Cursor<'_>) -> Option<Vec<WhenBusy>> {
    let items = cursor.items_up_to(WhenBusy::WORDS.len())?;
    let mut choices = Vec::with_capacity(items.len());
    for item in items {
        let choice = item.word(&WhenBusy::WORDS)?;
        if choices.contains(&choice) {
            item.problem(Fault::new("this choice stands in the list already"));
        }
        choices.push(choice);
    }
    Some(choices)
}

fn join(fields: Fields<'_>) -> Option<Join> {
    let joins = fields.or("duplicates", false, |cursor| cursor.word(&[("off", false), ("join", true)]));
    let replay_for = fields.or("replay_for", Duration::ZERO, |cursor| cursor.duration(ANY_TIME));
    if !joins
        && replay_for > Duration::ZERO
        && let Some(cursor) = fields.get("replay_for")
    {
        let fault = Fault::new("no answer is kept: `replay_for` is for `duplicates: join`");
        cursor.warning(fault.hint("add `duplicates: join`"));
    }
    joins.then_some(Join { replay_for })
}

fn key(fields: Fields<'_>, whose: Whose<'_>) -> Option<Vec<KeySource>> {
    let cursor = match whose {
        Whose::Defaults => fields.get("key")?,
        Whose::Route { .. } => fields.required("key")?,
    };
    let found = sources(cursor, whose)?;
    if cursor.items().is_some_and(|items| items.is_empty()) {
        cursor.problem(Fault::new("must name at least one place to look for the key"));
    }
    (!found.is_empty()).then_some(found)
}

fn sources(cursor: Cursor<'_>, whose: Whose<'_>) -> Option<Vec<KeySource>> {
    let items = cursor.items_up_to(MAX_SOURCES)?;
    let read = items.into_iter().filter_map(|item| source(item, whose).map(|source| (item, source)));
    let read: Vec<(Cursor<'_>, KeySource)> = read.collect();
    for (index, (item, source)) in read.iter().enumerate() {
        if read[..index].iter().any(|(_, earlier)| earlier == source) {
            item.problem(Fault::new("this place stands in the list already"));
        }
    }
    Some(read.into_iter().map(|(_, source)| source).collect())
}

fn source(cursor: Cursor<'_>, whose: Whose<'_>) -> Option<KeySource> {
    let (kind, value) = one_key(cursor, &SOURCES)?;
    let text = value.string()?;
    match kind {
        "header" => value.told(http_words::header_name(text)).map(KeySource::Header),
        "json" => value.told(http_words::json_pointer(text)).map(KeySource::Json),
        "form" => value.told(http_words::field_name(text)).map(KeySource::Form),
        "query" => value.told(http_words::field_name(text)).map(KeySource::Query),
        "cookie" => value.told(http_words::cookie_name(text)).map(KeySource::Cookie),
        _ => value.told(variable(text, whose)).map(KeySource::Path),
    }
}

fn variable(text: &str, whose: Whose<'_>) -> Result<String, Fault> {
    let Whose::Route { path: Some(path), .. } = whose else {
        return Ok(text.to_owned());
    };
    let PathMatch::Pattern(segments) = path else {
        return Err(Fault::new(format!("there is no variable `{}`", crate::config::quoted(text)))
            .hint("give the route a `match.path` with `{…}` in it"));
    };
    let variables = segments.iter().filter_map(|segment| match segment {
        Segment::Variable(name) => Some(name.as_str()),
        Segment::Literal(_) => None,
    });
    let variables: Vec<&str> = variables.collect();
    if variables.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(unknown("variable of the route's path", text, &variables))
}

fn assign(cursor: Cursor<'_>) -> Option<Assign> {
    let (kind, value) = one_key(cursor, &["header", "json"])?;
    let text = value.string()?;
    match kind {
        "header" => value.told(http_words::header_to_set(text)).map(Assign::Header),
        _ => value.told(http_words::json_pointer(text)).map(Assign::Json),
    }
}

fn check_assign(fields: Fields<'_>, assign: Option<&Assign>, anonymous: Anonymous, key: Option<&[KeySource]>) {
    let (Some(assign), Some(cursor)) = (assign, fields.get("assign")) else {
        return;
    };
    if anonymous != Anonymous::Separate {
        let fault =
            Fault::new("`assign` is for `anonymous: separate`: other requests without a key are never given one");
        cursor.problem(fault.hint("remove one of them"));
    }
    let same = |source: &KeySource| match (assign, source) {
        (Assign::Header(set), KeySource::Header(read)) => set == read,
        (Assign::Json(set), KeySource::Json(read)) => set == read,
        _ => false,
    };
    if key.is_some_and(|key| !key.iter().any(same)) {
        let fault = Fault::new("a key that is assigned here is not found here again: no source of `key` looks there");
        cursor.warning(fault.hint("add the same place to `key`"));
    }
}
