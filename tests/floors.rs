//! Keeps the plan of the house: what stands on which floor, and what must not be found where.
//!
//! Inside one crate the compiler lets every module import every other; only this test does not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the crate, the floor it stands on, and why there. Imports only go to lower floors: never up, and
/// never to a neighbour, so there is no circle anywhere.
const PLAN: &[(&str, u32, &str)] = &[
    ("cli", 12, "arguments in, exit codes out; nobody calls it but `main`"),
    ("gateway", 11, "the process: opens both doors, starts threads, hears signals"),
    ("demo", 11, "a room apart: a sample agent, and the gateway as a process of its own"),
    ("stress", 10, "a room apart: loads and judges an agent API from outside, over HTTP"),
    ("admin", 10, "the operators' door: shows what runs and tells it what to do"),
    ("control", 9, "wires the parts, reloads, drains; knows nothing of who asks for it"),
    ("server", 8, "the clients' door: connections and their deadlines, nothing of sessions"),
    ("proxy", 7, "the life of a request, from its head to the guarded answer"),
    ("response", 6, "what a client gets: the body that owns the permit, and refusals as HTTP"),
    ("upstream", 5, "sends what has a permit: servers, connections, retries, fields"),
    ("background", 4, "jobs: accepted when on disk, run in their order; knows neither upstreams nor turns"),
    ("admission", 4, "who may go on and when: the gates in order, metrics around the mechanisms"),
    ("request", 3, "what came in, read without waiting: framing, address, session key"),
    ("tls", 3, "certificates from files, for those who greet and for those who connect"),
    ("policy", 2, "what the file means; knows HTTP's words and no state"),
    ("limit", 2, "the mechanisms of waiting; knows neither HTTP nor the policy"),
    ("config", 1, "the file as written, with the place of every key"),
    ("telemetry", 1, "names of metrics, the form of log lines and of spans; knows nothing of what is measured"),
    ("sync", 0, "the locks, so that a model checker can replace them"),
    ("time", 0, "the one clock"),
];

/// Crates whose subject a room has nothing to do with.
const NOT_THEIR_SUBJECT: &[(&str, &[&str])] = &[
    ("limit", &["http", "http_body", "hyper", "hyper_util", "serde", "serde_json", "prometheus", "tower", "tracing"]),
    ("config", &["http", "hyper", "hyper_util", "tokio", "prometheus", "tower"]),
    ("policy", &["hyper", "hyper_util", "tokio", "prometheus", "tower", "governor"]),
    ("request", &["tokio", "hyper_util", "prometheus", "tower", "governor"]),
    ("admission", &["hyper", "hyper_util", "serde", "tower"]),
    ("background", &["hyper", "hyper_util", "serde", "serde_json", "prometheus", "tower"]),
    ("upstream", &["serde", "serde_json", "prometheus", "tower"]),
    ("response", &["hyper_util", "prometheus", "tower", "governor"]),
    ("proxy", &["serde", "prometheus", "tower", "governor"]),
    ("server", &["serde", "serde_json", "governor"]),
];

/// Names that say nothing of what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "types", "helper", "helpers", "manager", "handler", "misc"];

const MOST_LINES: usize = 500;

/// One file without its comments and its tests.
struct Source {
    /// Below `src`, with `/`.
    path: String,
    room: String,
    lines: usize,
    /// With their numbers, from 1.
    code: Vec<(usize, String)>,
}

impl Source {
    fn read(root: &Path, path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("sources are readable");
        let below = path.strip_prefix(root).expect("it was found below");
        let room = below.iter().next().and_then(|first| Path::new(first).file_stem()).expect("a name");
        let path = below.to_str().expect("plain names").to_owned();
        let is_test = path.ends_with("/tests.rs");
        let code = if is_test { Vec::new() } else { code_of(&text) };
        Self { room: room.to_str().expect("plain names").to_owned(), lines: text.lines().count(), path, code }
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs")
    }

    fn at(&self, line: usize) -> String {
        format!("src/{}:{line}", self.path)
    }
}

/// Lines of code: without comments, and without what is compiled for tests only.
fn code_of(text: &str) -> Vec<(usize, String)> {
    let mut code = Vec::new();
    let mut lines = text.lines().enumerate().map(|(number, line)| (number + 1, line));
    while let Some((number, line)) = lines.next() {
        if line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test") {
            // To the end of the item: its own line, or the brace that closes it.
            let (_, item) = lines.next().expect("an attribute stands before something");
            if !item.ends_with(';') {
                lines.by_ref().find(|(_, line)| *line == "}").expect("an item ends");
            }
            continue;
        }
        let line = line.split_once("// ").map_or(line, |(code, _)| code);
        let comment = line.trim_start().starts_with("//");
        if !comment && !line.trim().is_empty() {
            code.push((number, line.to_owned()));
        }
    }
    code
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    assert!(files.len() > 50, "the sources are there");
    files.iter().map(|path| Source::read(&root, path)).collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("folders are readable") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The words that follow `prefix` in `line`, where `prefix` does not end a longer word.
fn after<'l>(line: &'l str, prefix: &str) -> Vec<&'l str> {
    line.match_indices(prefix)
        .filter(|(place, _)| !line[..*place].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
        .map(|(place, _)| word(&line[place + prefix.len()..]))
        .collect()
}

fn word(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())]
}

fn floor_of(room: &str) -> u32 {
    PLAN.iter().find(|(name, ..)| *name == room).unwrap_or_else(|| panic!("`{room}` is not in the plan")).1
}

/// Fails with all that is wrong, not with the first of it.
fn none(wrong: Vec<String>, rule: &str) {
    assert!(wrong.is_empty(), "{rule}\n  {}", wrong.join("\n  "));
}

#[test]
fn every_module_has_its_place_in_the_plan() {
    let declared: BTreeSet<String> = sources()
        .iter()
        .filter(|source| source.path == "lib.rs")
        .flat_map(|source| source.code.clone())
        .flat_map(|(_, line)| after(&line, "mod ").into_iter().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let planned: BTreeSet<String> = PLAN.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(declared, planned);
}

#[test]
fn imports_only_go_down() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| source.path != "lib.rs" && source.path != "main.rs") {
        let floor = floor_of(&source.room);
        for (number, line) in &source.code {
            assert!(!line.contains("crate::{"), "{}: one path in one line, so that it can be read", source.at(*number));
            for target in after(line, "crate::").into_iter().filter(|target| *target != source.room) {
                if floor_of(target) >= floor {
                    wrong.push(format!("{}: `{}` must not know `{target}`", source.at(*number), source.room));
                }
            }
        }
    }
    none(wrong, "imports only go to a lower floor");
}

#[test]
fn the_outside_is_reached_through_the_command_line_alone() {
    let main = sources().into_iter().find(|source| source.path == "main.rs").expect("there is a binary");
    let used: BTreeSet<String> =
        main.code.iter().flat_map(|(_, line)| after(line, "turnwise::")).map(str::to_owned).collect();
    assert_eq!(used, BTreeSet::from(["cli".to_owned()]));
}

#[test]
fn no_room_deals_with_another_rooms_subject() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some((_, foreign)) = NOT_THEIR_SUBJECT.iter().find(|(room, _)| *room == source.room) else {
            continue;
        };
        for (number, line) in &source.code {
            for name in foreign.iter().filter(|name| !after(line, &format!("{name}::")).is_empty()) {
                wrong.push(format!("{}: `{}` has nothing to do with `{name}`", source.at(*number), source.room));
            }
        }
    }
    none(wrong, "each room keeps to its subject");
}

/// Codes that other rooms may compare an answer of a server with: those that say where it ends.
const CODES_THAT_FRAME: &[&str] = &["CONTINUE", "SWITCHING_PROTOCOLS", "NO_CONTENT"];

#[test]
fn only_refusals_name_the_codes_of_the_gateways_answers() {
    let mut wrong = Vec::new();
    for source in sources() {
        // What is said of a job is no refusal either. The sample agent of the demonstration is somebody else's server. The admin port has answers of its own, to other people; a connection to a server reads that server's; an answer
        // that is begun before there is one is no refusal.
        let exempt = ["response/refusal.rs", "response/aloud.rs", "response/job.rs", "upstream/http1.rs"];
        if exempt.contains(&source.path.as_str()) || ["admin", "demo"].contains(&source.room.as_str()) {
            continue;
        }
        for (number, line) in &source.code {
            let named = after(line, "StatusCode::")
                .into_iter()
                .filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase()) && !CODES_THAT_FRAME.contains(name));
            wrong.extend(named.map(|name| format!("{}: {name}", source.at(*number))));
            let built = ["Response::builder(", "Response::new(", "StatusCode::from_u16(", "*answer.status_mut()"];
            wrong.extend(built.iter().filter(|b| line.contains(*b)).map(|b| format!("{}: {b}", source.at(*number))));
        }
    }
    none(wrong, "an answer of the gateway itself is made in response/refusal.rs");
}

#[test]
fn there_is_one_clock_and_one_kind_of_lock() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (number, line) in &source.code {
            let other_clock = line.contains("Instant::now(") && !line.contains("tokio::time::Instant::now(");
            let other_lock =
                line.contains("std::sync::Mutex") || line.contains("RwLock") || line.contains("parking_lot");
            if (other_clock && source.room != "time") || (other_lock && source.room != "sync") {
                wrong.push(format!("{}: {}", source.at(*number), line.trim()));
            }
        }
    }
    none(wrong, "time is read in `time`, and locks come from `sync`");
}

#[test]
fn nothing_unwraps_and_nothing_leaves_the_process() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (number, line) in &source.code {
            let leaves = line.contains("process::exit(") || line.contains("process::abort(");
            if line.contains(".unwrap()") || leaves {
                wrong.push(format!("{}: {}", source.at(*number), line.trim()));
            }
        }
    }
    none(wrong, "what cannot fail says why, and the way out is an exit code");
}

#[test]
fn files_have_names_that_say_something_and_a_length_that_can_be_read() {
    let mut wrong = Vec::new();
    for source in sources() {
        let name = Path::new(&source.path).file_stem().and_then(|name| name.to_str()).expect("plain names");
        if name == "mod" {
            wrong.push(format!("src/{}: `foo.rs` stands beside `foo/`", source.path));
        }
        let empty = source.path.split(['/', '.']).filter(|part| EMPTY_NAMES.contains(part));
        wrong.extend(empty.map(|part| format!("src/{}: `{part}` says nothing", source.path)));
        if source.lines > MOST_LINES && !source.is_test() {
            wrong.push(format!("src/{}: {} lines, more than {MOST_LINES}", source.path, source.lines));
        }
    }
    none(wrong, "names and lengths");
}

#[test]
fn every_module_file_stands_beside_its_folder() {
    let paths: BTreeMap<String, ()> = sources().into_iter().map(|source| (source.path, ())).collect();
    let folders: BTreeSet<&str> =
        paths.keys().filter_map(|path| path.rsplit_once('/')).map(|(folder, _)| folder).collect();
    let lonely: Vec<String> = folders
        .into_iter()
        .filter(|folder| !paths.contains_key(&format!("{folder}.rs")))
        .map(|folder| format!("src/{folder}/ has no {folder}.rs beside it"))
        .collect();
    none(lonely, "`foo.rs` beside `foo/`");
}
