//! `session`: how requests of one conversation take turns.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::{ANY_TIME, COUNT, NAME, SOME_TIME, http_words, one_key, unknown};
use crate::config::key::{Empty, From, Inherited, Is, Null};
use crate::config::{
    Cursor, Fault, Fields, Flag, Form, Formed as _, InPlace, Key, Own, Shape as _, Strict, Text, Time, Whole, Word, key,
};
use crate::policy::{Anonymous, Assign, Join, KeySource, PathMatch, Segment, Session, WhenBusy};

crate::config::keys! {
    mod keys = "session" {
        KEY_SOURCES: Key<InPlace, Inherited> = key("key", InPlace(|| places(1)), Inherited,
            "where the session's name stands; the first place that has one wins");
        WITHIN: Key<InPlace, Empty> = key("within", InPlace(|| places(0)), Empty,
            "made part of the key, so that equal names of two tenants are two sessions");
        LANE: Key<Strict<String>, Null> = key("lane", NAME, Null,
            "routes that name the same lane take turns together; `null`: the route's name");
        ANONYMOUS: Key<Word<Anonymous>> = key("anonymous", words::ANONYMOUS, Is("separate"),
            "no name found: `separate` (each is a session of its own), `shared` (all are one), `reject` (400)");
        ASSIGN: Key<Own<Assign>, Null> = key("assign", Own(assign, || Form::OneKey(assigned::KEYS)), Null,
            "with `anonymous: separate`: where a nameless request gets a made-up name on its way to the backend");
        CONCURRENCY: Key<Whole> = key("concurrency", COUNT, Is("1"),
            "running at once for one key; 1 is strictly one after another");
        QUEUE: Key<Whole> = key("queue", COUNT, Is("32"),
            "waiting for one key; those beyond get 429 `session_queue_full`");
        QUEUE_TIMEOUT: Key<Time> = key("queue_timeout", SOME_TIME, Is("60s"),
            "the longest wait for the turn; then 429 `session_queue_timeout`");
        WHEN_BUSY: Key<Word<WhenBusy>> = key("when_busy", words::WHEN_BUSY, Is("wait"),
            "what a request does whose session is busy: it waits, is refused (409), takes the place of those who wait, \
             or ends the one that runs as well");
        WHEN_BUSY_CHOICES: Key<Own<Vec<WhenBusy>>, Empty> = key("when_busy_choices", Own(choices, choices_form), Empty,
            "which of them a request may choose for itself, in `Turnwise-When-Busy`");
        DUPLICATES: Key<Word<bool>> = key("duplicates", Word(&[("off", false), ("join", true)]), Is("off"),
            "`join`: a request equal to one that waits or runs shares its answer");
        REPLAY_FOR: Key<Time> = key("replay_for", ANY_TIME, Is("0s"),
            "with `join`: how long a finished answer still serves an equal request");
        REENTRANT: Key<Flag> = key("reentrant", Flag, Is("false"),
            "requests that one of this route makes while it runs may be nested in it");
        WHILE_WAITING: Key<Word<bool>> =
            key("while_waiting", Word(&[("silent", false), ("comments", true)]), Is("silent"),
            "`comments`: whoever waits and listens for events hears of it");
    }
}

crate::config::keys! {
    /// A place where a part of the key may stand.
    mod source_keys = "place" {
        HEADER: Key<Strict<HeaderName>, From> = key("header", http_words::SESSION_HEADER, NONE,
            "the value of a header");
        JSON: Key<Strict<Vec<String>>, From> = key("json", http_words::POINTER, NONE,
            "a member of a JSON body, as a JSON pointer");
        FORM: Key<Strict<String>, From> = key("form", http_words::FIELD, NONE,
            "a field of a form, urlencoded or multipart");
        QUERY: Key<Strict<String>, From> = key("query", http_words::FIELD, NONE, "a parameter of the query");
        COOKIE: Key<Strict<String>, From> = key("cookie", http_words::COOKIE, NONE, "a cookie");
        PATH: Key<InPlace, From> = key("path", InPlace(|| Form::Text(&VARIABLE)), NONE, "a variable of `match.path`");
    }
}

crate::config::keys! {
    /// A place where a name is put.
    mod assigned = "assigned" {
        HEADER: Key<Strict<HeaderName>, From> = key("header", http_words::HEADER_TO_SET, NONE, "as this header");
        JSON: Key<Strict<Vec<String>>, From> = key("json", http_words::POINTER, NONE,
            "as this member of the JSON body");
    }
}

/// Of several keys there is one.
const NONE: From = From("");
const VARIABLE: Text = Text { what: "a variable such as `agent`", pattern: "^.+$" };

mod words {
    use super::{Anonymous, WhenBusy, Word};

    pub const ANONYMOUS: Word<Anonymous> =
        Word(&[("separate", Anonymous::Separate), ("shared", Anonymous::Shared), ("reject", Anonymous::Reject)]);
    pub const WHEN_BUSY: Word<WhenBusy> = Word(&WhenBusy::WORDS);
}

/// Keys that may be looked for in one request.
const MAX_SOURCES: usize = 16;

pub(super) fn form() -> Form {
    Form::Mapping(keys::KEYS)
}

fn places(least: usize) -> Form {
    Form::OneKey(source_keys::KEYS).list(least, MAX_SOURCES)
}

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
    let fields = cursor.fields(keys::KEYS)?;
    let own_key = own_key(fields, whose);
    let within = fields.get(&keys::WITHIN).and_then(|cursor| sources(cursor, whose)).unwrap_or_default();
    let lane = fields.nullable(&keys::LANE).map(Arc::from);
    let anonymous = fields.read(&keys::ANONYMOUS);
    let assign = fields.nullable(&keys::ASSIGN);
    check_assign(fields, assign.as_ref(), anonymous, own_key.as_deref());
    let concurrency = fields.read(&keys::CONCURRENCY);
    let queue = fields.read(&keys::QUEUE);
    let queue_timeout = fields.read(&keys::QUEUE_TIMEOUT);
    let when_busy = fields.read(&keys::WHEN_BUSY);
    let when_busy_choices = fields.listed(&keys::WHEN_BUSY_CHOICES);
    let reentrant = fields.read(&keys::REENTRANT);
    let waits_aloud = fields.read(&keys::WHILE_WAITING);
    let join = join(fields);
    let Whose::Route { name, .. } = whose else { return None };
    Some(Session {
        key: own_key?,
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

fn choices_form() -> Form {
    words::WHEN_BUSY.form().list(0, WhenBusy::WORDS.len())
}

fn choices(cursor: Cursor<'_>) -> Option<Vec<WhenBusy>> {
    let items = cursor.items_up_to(WhenBusy::WORDS.len())?;
    let mut choices = Vec::with_capacity(items.len());
    for item in items {
        let choice = words::WHEN_BUSY.read(item)?;
        if choices.contains(&choice) {
            item.problem(Fault::new("this choice stands in the list already"));
        }
        choices.push(choice);
    }
    Some(choices)
}

fn join(fields: Fields<'_>) -> Option<Join> {
    let joins = fields.read(&keys::DUPLICATES);
    let replay_for = fields.read(&keys::REPLAY_FOR);
    if !joins
        && replay_for > Duration::ZERO
        && let Some(cursor) = fields.get(&keys::REPLAY_FOR)
    {
        let fault = Fault::new("no answer is kept: `replay_for` is for `duplicates: join`");
        cursor.warning(fault.hint("add `duplicates: join`"));
    }
    joins.then_some(Join { replay_for })
}

fn own_key(fields: Fields<'_>, whose: Whose<'_>) -> Option<Vec<KeySource>> {
    let cursor = match whose {
        Whose::Defaults => fields.get(&keys::KEY_SOURCES)?,
        Whose::Route { .. } => fields.required(&keys::KEY_SOURCES)?,
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
    // Only one of them is there.
    let fields = one_key(cursor, source_keys::KEYS)?;
    let path = || {
        let value = fields.get(&source_keys::PATH)?;
        value.told(variable(value.string()?, whose))
    };
    let header = fields.given(&source_keys::HEADER).map(KeySource::Header);
    header
        .or_else(|| fields.given(&source_keys::JSON).map(KeySource::Json))
        .or_else(|| fields.given(&source_keys::FORM).map(KeySource::Form))
        .or_else(|| fields.given(&source_keys::QUERY).map(KeySource::Query))
        .or_else(|| fields.given(&source_keys::COOKIE).map(KeySource::Cookie))
        .or_else(|| path().map(KeySource::Path))
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
    let fields = one_key(cursor, assigned::KEYS)?;
    let header = fields.given(&assigned::HEADER).map(Assign::Header);
    header.or_else(|| fields.given(&assigned::JSON).map(Assign::Json))
}

fn check_assign(fields: Fields<'_>, assign: Option<&Assign>, anonymous: Anonymous, key: Option<&[KeySource]>) {
    let (Some(assign), Some(cursor)) = (assign, fields.get(&keys::ASSIGN)) else {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::policy::compile::tests::{policy, refused, says, warnings, with_route};
    use crate::policy::{Anonymous, Assign, Join, KeySource, WhenBusy};

    #[test]
    fn sessions_are_checked() {
        let session = |text: &str| with_route(&format!("match: {{path: '/a/{{agent}}'}}\nsession: {{{text}}}"));
        says(&session(""), "routes[0].session: `key` is missing");
        says(&session("key: []"), "must name at least one place");
        says(&session("key: {header: X}"), "routes[0].session.key: must be a list, not a mapping");
        says(&session("key: [{path: agnt}]"), "there is no variable of the route's path `agnt`; did you mean `agent`?");
        says(&session("key: [{json: session_id}]"), "did you mean `/session_id`?");
        says(&session("key: [{header: X, query: q}]"), "must have one key only");
        says(&session("key: [header]"), "must be `{header: …}` or `{json: …}`");
        says(&session("key: [{query: q}, {query: q}]"), "this place stands in the list already");
        says(
            &session("key: [{query: q}], anonymous: shared, assign: {header: X}"),
            "`assign` is for `anonymous: separate`",
        );
        says(&session("key: [{header: Host}], assign: {header: Host}"), "frames the request");
        says(&with_route("session: {key: [{path: a}]}"), "there is no variable `a`; give the route a `match.path`");
        let found = warnings(&session("key: [{query: q}], assign: {header: X}"));
        assert!(found[0].contains("is not found here again"), "{found:?}");
    }

    #[test]
    fn what_a_busy_session_does_is_checked() {
        let session = |text: &str| with_route(&format!("session: {{key: [{{query: q}}], {text}}}"));
        let of = |text: &str| policy(&session(text)).routes[0].session.clone().expect("a session");
        let silent = of("queue: 1");
        assert_eq!(
            (silent.when_busy, silent.reentrant, silent.waits_aloud, silent.join),
            (WhenBusy::Wait, false, false, None)
        );
        let all =
            of("when_busy: interrupt, when_busy_choices: [reject, wait], reentrant: true, while_waiting: comments, \
                      duplicates: join, replay_for: 5s");
        assert_eq!((all.when_busy, all.reentrant, all.waits_aloud), (WhenBusy::Interrupt, true, true));
        assert_eq!(all.when_busy_choices, [WhenBusy::Reject, WhenBusy::Wait]);
        assert_eq!(all.join, Some(Join { replay_for: Duration::from_secs(5) }));
        says(&session("when_busy: rejct"), "did you mean `reject`?");
        says(&session("when_busy_choices: [wait, wait]"), "stands in the list already");
        says(&session("when_busy_choices: [leave]"), "must be `wait` or `reject`");
        says(&session("while_waiting: coments"), "did you mean `comments`?");
        assert!(warnings(&session("replay_for: 5s"))[0].contains("is for `duplicates: join`"));
    }

    #[test]
    fn every_place_of_a_key_is_read() {
        let policy = policy(&with_route(
            "match: {path: '/a/{agent}/run'}\nsession:\n  key: [{header: X-Session-Id}, {json: /a~1b/c}, {form: f}, \
             {query: q}, {cookie: sid}, {path: agent}]\n  assign: {json: /a~1b/c}\n  lane: shared",
        ));
        let session = policy.routes[0].session.as_ref().expect("a session");
        let tokens = vec!["a/b".to_owned(), "c".to_owned()];
        assert_eq!(session.key[0], KeySource::Header(http::HeaderName::from_static("x-session-id")));
        assert_eq!(session.key[1], KeySource::Json(tokens.clone()));
        assert_eq!(session.key[5], KeySource::Path("agent".to_owned()));
        assert_eq!((session.key.len(), &session.assign, &*session.lane), (6, &Some(Assign::Json(tokens)), "shared"));
    }

    #[test]
    fn a_session_has_every_default() {
        let policy = policy(&with_route("session: {key: [{header: X-Session-Id}]}"));
        let session = policy.routes[0].session.as_ref().expect("a session");
        assert_eq!((&*session.lane, session.anonymous, &session.assign), ("r", Anonymous::Separate, &None));
        assert_eq!((session.concurrency.get(), session.queue), (1, 32));
        assert_eq!((session.queue_timeout, session.within.len()), (Duration::from_secs(60), 0));
    }

    #[test]
    fn a_path_that_is_wrong_is_told_without_its_variables() {
        let said = refused(&with_route("match: {path: 'a/{agent}'}\nsession: {key: [{path: agent}]}"));
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
