//! From the file as written to the policy it means.
//!
//! Every key of the policy file is described here, beside what reads it: its bounds, its default, its meaning. The
//! reference and the schema of the policy are made from that. A problem does not stop the reading: a default stands in
//! for the value, and the policy is dropped at the end.

mod address;
mod background;
mod defaults;
mod http_words;
mod lanes;
mod limits;
mod matching;
mod path;
mod rate_limit;
mod route;
mod server;
mod session;
mod shadow;
mod tls;
mod upstream;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Listener, Policy};
use crate::config::key::{From, Is, Null, Parts, Required};
use crate::config::{
    Cursor, Document, Fault, Fields, InPlace, Key, MAX_BYTES, MAX_DURATION, Own, Problem, Problems, Section, Strict,
    Table, Text, Time, Whole, key, keys, quoted,
};

/// No counting limit is greater.
const MAX_COUNT: u32 = 1_000_000;
/// No list of routes, servers, hosts … is longer.
const MAX_LIST: usize = 1000;
const COUNT: Whole = Whole(1..=MAX_COUNT);
/// A duration in which something must be able to happen.
const SOME_TIME: Time = Time(Duration::from_millis(1)..=MAX_DURATION);
/// A duration for which zero means something.
const ANY_TIME: Time = Time(Duration::ZERO..=MAX_DURATION);
/// Names become labels of metrics and parts of addresses.
const NAME: Strict<String> =
    Strict(&Text { what: "a name such as `agents`", pattern: "^[A-Za-z0-9_.-]{1,64}$" }, checked_name);
/// Of paths.
const ANYTHING: &str = "^.+$";

keys! {
    /// The file as a whole.
    mod file = "policy" {
        LISTEN: Key<Own<Vec<Listener>>> =
            key("listen", Own(server::listeners, server::listen_form), Is("127.0.0.1:8080"),
            "where clients connect: one address, or a list of addresses");
        ADMIN: Key<Section, Parts> = key("admin", Section(server::admin_keys::KEYS), Parts, "the port for operators");
        SERVER: Key<Section, Parts> = key("server", Section(server::server_keys::KEYS), Parts,
            "how connections of clients are treated");
        LIMITS: Key<Section, Parts> = key("limits", Section(limits::keys::KEYS), Parts, "what holds across all routes");
        UPSTREAMS: Key<InPlace, Required> = key("upstreams", InPlace(upstream::form), Required,
            "groups of equal servers, by name");
        DEFAULTS: Key<InPlace, Parts> = key("defaults", InPlace(route::defaults_form), Parts,
            "any key of a route but `name`, `match` and `upstream`; a route overrides it key by key: mappings are \
             merged, lists and `null` replace");
        ROUTES: Key<InPlace, From> =
            key("routes", InPlace(route::form), From("with one upstream, a route `default` for everything"),
            "the first whose `match` holds is the route of a request; where none does, the answer is 404 `no_route`");
        BACKGROUND: Key<InPlace, Null> = key("background", InPlace(background::form), Null,
            "the durable queue of requests that are answered later; needed by routes with `background`");
    }
}

/// All keys of the policy file, and in them all others.
#[must_use]
pub fn keys() -> &'static Table {
    file::KEYS
}

/// A policy file that holds.
#[derive(Debug, Clone)]
pub struct Compiled {
    pub policy: Policy,
    /// What is surely not meant, but harmless; in the order of the file.
    pub warnings: Vec<Problem>,
    /// The bytes of the file.
    pub source: Vec<u8>,
}

/// Reads a policy file from disk, with the process's environment.
///
/// # Errors
///
/// Every problem of the file; one problem at 1:1 when it cannot be read at all. Only regular files are read (symbolic
/// links are followed): a pipe could block for ever.
pub fn load(path: &Path) -> Result<Compiled, Problems> {
    from_content(path, read(path))
}

/// As [`load`], of a file that was [`read`] already.
///
/// # Errors
/// As [`load`].
pub fn from_content(path: &Path, content: io::Result<Vec<u8>>) -> Result<Compiled, Problems> {
    let name = path.display().to_string();
    let bytes = content.map_err(|error| Problems::of_file(&name, format!("cannot be read: {error}")))?;
    compile(&name, &bytes, &|variable| std::env::var(variable).ok())
}

/// The bytes of a policy file, at most one more than it may have.
///
/// # Errors
/// Whatever the system says; and when it is no regular file, which is then not opened.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Asked before it is opened, because opening a pipe waits for its writer.
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Compiles the text of a policy file.
///
/// # Errors
///
/// Every problem of the file, in its order. A file that is no sound YAML is not looked at further.
pub fn compile(file_name: &str, bytes: &[u8], env: &dyn Fn(&str) -> Option<String>) -> Result<Compiled, Problems> {
    let (document, sink) = Document::read(file_name, bytes, env)?;
    let policy = document.cursor(&sink).fields(file::KEYS).and_then(policy);
    match policy {
        Some(policy) if !sink.has_problems() => {
            Ok(Compiled { policy, warnings: sink.into_warnings(), source: bytes.to_vec() })
        }
        _ => Err(sink.into_problems()),
    }
}

/// `None` only after a problem was told.
fn policy(fields: Fields<'_>) -> Option<Policy> {
    let listen = server::listen(fields);
    let admin = server::admin(fields, listen.as_deref().unwrap_or_default());
    let server = server::server(fields);
    let limits = limits::limits(fields);
    let upstreams = upstream::upstreams(fields);
    let background = background::background(fields);
    let routes = route::routes(fields, &upstreams, limits.queue_bytes);
    let routes = routes?.into_iter().map(Arc::new).collect();
    let upstreams = upstreams?.into_iter().map(Arc::new).collect();
    Some(Policy { listen: listen?, admin, server, limits, upstreams, routes, background })
}

/// Names become labels of metrics and parts of addresses: 1 to 64 letters, digits, `_`, `.` and `-`.
fn check_name(name: &str) -> Result<(), Fault> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !name.is_empty() && name.len() <= 64 && name.chars().all(allowed) {
        return Ok(());
    }
    Err(Fault::new("a name has 1 to 64 letters, digits, `_`, `.` and `-`"))
}

fn checked_name(name: &str) -> Result<String, Fault> {
    check_name(name).map(|()| name.to_owned())
}

/// Tells of every item that was there before.
fn unique<'a, T: std::hash::Hash + Eq>(items: impl IntoIterator<Item = (Cursor<'a>, T)>) {
    let mut seen = HashSet::new();
    for (cursor, item) in items {
        if !seen.insert(item) {
            cursor.problem(Fault::new(format!("`{}` stands here twice", cursor.shown())));
        }
    }
}

/// A mapping with exactly one of several keys, as in `{header: X-Api-Key}`.
fn one_key<'a>(cursor: Cursor<'a>, known: &'static Table) -> Option<Fields<'a>> {
    let forms: Vec<String> = known.names().map(|key| format!("`{{{key}: …}}`")).collect();
    let fault = || Fault::new(format!("must be {}, not {}", forms.join(" or "), cursor.kind()));
    if !cursor.is_mapping() {
        cursor.problem(fault());
        return None;
    }
    let written = cursor.entries()?.len();
    let fields = cursor.fields(known)?;
    match known.names().filter(|key| cursor.inside(key).is_some()).count() {
        1 => Some(fields),
        // An unknown key has been told already.
        0 if written > 0 => None,
        0 => {
            cursor.problem(fault());
            None
        }
        _ => {
            cursor.problem(Fault::new(format!("must have one key only: {}", forms.join(" or "))));
            None
        }
    }
}

/// A name of something that is not in the file.
fn unknown(kind: &str, written: &str, known: &[&str]) -> Fault {
    let fault = Fault::new(format!("there is no {kind} `{}`", quoted(written)));
    match crate::config::nearest(written, known.iter().copied()) {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None if known.is_empty() => fault,
        None => {
            let list: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            fault.hint(format!("there is {}", list.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests;
