use std::path::Path;

use serde_json::Value;

use super::{SMALLEST, file};
use crate::harness::command::{Output, turnwise_in};

#[track_caller]
fn check(text: impl AsRef<[u8]>, environment: &[(&str, &str)]) -> Output {
    let (folder, _) = file(text);
    turnwise_in(folder.path(), &["check", "-c", "gateway.yaml"], environment)
}

#[track_caller]
fn problems(text: impl AsRef<[u8]>) -> Vec<Value> {
    let (folder, _) = file(text);
    let output = turnwise_in(folder.path(), &["check", "-c", "gateway.yaml", "--format", "json"], &[]);
    let said: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.all()));
    assert_eq!(said["valid"], output.code == 0, "{said}");
    said["problems"].as_array().unwrap_or_else(|| panic!("no list: {said}")).clone()
}

/// That this text has a problem at this path.
#[track_caller]
fn wrong(text: &str, path: &str) {
    let found = problems(text);
    assert!(found.iter().any(|problem| problem["path"] == path), "{path} is not among {found:?}\n{text}");
}

#[test]
fn the_smallest_policy_is_valid() {
    let output = check(SMALLEST, &[]);
    assert_eq!(output.code, 0, "{}", output.all());
    assert!(problems(SMALLEST).is_empty());
}

#[test]
fn the_shipped_policy_is_valid() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.yaml");
    let output = turnwise_in(Path::new("/"), &["check", "-c", shipped.to_str().expect("UTF-8")], &[]);
    assert_eq!(output.code, 0, "{}", output.all());
}

#[test]
fn every_problem_has_file_line_column_path_and_advice() {
    let text = format!("{SMALLEST}limits:\n  concurency: 5\n  queue: 0\nserver:\n    header_timeout: soon\n");
    let output = check(&text, &[]);
    assert_eq!(output.code, 1);
    let said = output.all();
    for start in [
        "gateway.yaml:3:3: limits.concurency: ",
        "gateway.yaml:4:3: limits.queue: ",
        "gateway.yaml:6:5: server.header_timeout: ",
    ] {
        assert!(said.lines().any(|line| line.starts_with(start)), "no line starts with {start:?} in\n{said}");
    }
    assert!(said.contains("did you mean"), "{said}");
}

#[test]
fn the_same_in_json() {
    let found = problems(format!("{SMALLEST}limits:\n  concurency: 5\n"));
    assert_eq!(found.len(), 1, "{found:?}");
    let problem = &found[0];
    assert!(problem["file"].as_str().is_some_and(|file| file.ends_with("gateway.yaml")));
    assert_eq!((&problem["line"], &problem["column"]), (&3.into(), &3.into()));
    assert_eq!(problem["path"], "limits.concurency");
    assert!(problem["message"].as_str().is_some_and(|message| !message.is_empty()));
    assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("concurrency")), "{problem}");
}

#[test]
fn places_in_lists_are_written_with_their_number() {
    wrong(
        &format!(
            "{SMALLEST}routes:\n  - {{ name: a, upstream: agents }}\n  - {{ name: b, upstream: agents, match: {{ pth: /x }} }}\n"
        ),
        "routes[1].match.pth",
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let route = |more: &str| format!("{SMALLEST}routes:\n  - {{ name: a, upstream: agents, {more} }}\n");
    wrong(&format!("{SMALLEST}limits: {{ concurrency: 0 }}\n"), "limits.concurrency");
    wrong(&format!("{SMALLEST}limits: {{ queue_bytes: lots }}\n"), "limits.queue_bytes");
    wrong(&format!("{SMALLEST}limits: {{ queue_share: 0% }}\n"), "limits.queue_share");
    wrong(&format!("{SMALLEST}limits: {{ queue_timeout: -5s }}\n"), "limits.queue_timeout");
    wrong(&format!("{SMALLEST}listen: nowhere\n"), "listen");
    wrong(&format!("{SMALLEST}routes:\n  - {{ name: a, upstream: agentz }}\n"), "routes[0].upstream");
    wrong(&route("priority: highest"), "routes[0].priority");
    wrong(&route("concurrency: 0"), "routes[0].concurrency");
    wrong(&route("session: { key: [] }"), "routes[0].session.key");
    wrong(&route("session: { key: [{ header: X }], concurrency: 0 }"), "routes[0].session.concurrency");
    wrong(&route("rate_limits: [{ per: route, rate: 5 }]"), "routes[0].rate_limits[0].rate");
    wrong(&route("rate_limits: [{ per: route, rate: 0/s }]"), "routes[0].rate_limits[0].rate");
    wrong(&route("timeouts: { idle: never }"), "routes[0].timeouts.idle");
    wrong(&route("abandoned: sometimes"), "routes[0].abandoned");
}

#[test]
fn a_route_that_answers_later_needs_the_durable_queue() {
    let route = |more: &str| format!("{SMALLEST}routes:\n  - {{ name: a, upstream: agents, {more} }}\n");
    wrong(&route("background: prefer"), "routes[0].background");
    assert!(problems(format!("{}background: {{}}\n", route("background: prefer"))).is_empty());
    wrong(&format!("{SMALLEST}background: {{ workers: 0 }}\n"), "background.workers");
}

#[test]
fn two_routes_of_one_name_and_lanes_that_disagree_are_refused() {
    let two = |first: &str, second: &str| {
        format!("{SMALLEST}routes:\n  - {{ upstream: agents, {first} }}\n  - {{ upstream: agents, {second} }}\n")
    };
    assert!(!problems(two("name: a", "name: a")).is_empty());
    let lane = |name: &str, width: u32| {
        format!("name: {name}, session: {{ key: [{{ header: X }}], lane: one, concurrency: {width} }}")
    };
    assert!(problems(two(&lane("a", 2), &lane("b", 2))).is_empty());
    assert!(!problems(two(&lane("a", 1), &lane("b", 2))).is_empty());
}

#[test]
fn a_key_given_twice_is_refused() {
    assert!(!problems(format!("{SMALLEST}limits: {{ concurrency: 1 }}\nlimits: {{ concurrency: 2 }}\n")).is_empty());
}

#[test]
fn variables_come_from_the_environment_or_their_default() {
    let text =
        "upstreams: { agents: { servers: [\"${AGENT_URL}\"] } }\nlimits: { concurrency: \"${AGENT_LIMIT:-5}\" }\n";
    assert_eq!(check(text, &[("AGENT_URL", "http://127.0.0.1:1")]).code, 0);
    let output = check(text, &[]);
    assert_eq!(output.code, 1);
    assert!(output.all().contains("AGENT_URL"), "{}", output.all());
    assert_eq!(check(text, &[("AGENT_URL", "http://127.0.0.1:1"), ("AGENT_LIMIT", "0")]).code, 1);
}

#[test]
fn the_file_can_come_from_the_environment() {
    let (folder, path) = file(SMALLEST);
    let path = path.to_str().expect("UTF-8");
    assert_eq!(turnwise_in(Path::new("/"), &["check"], &[("TURNWISE_CONFIG", path)]).code, 0);
    assert_eq!(turnwise_in(folder.path(), &["check"], &[]).code, 0, "gateway.yaml is the default");
    assert_eq!(turnwise_in(Path::new("/"), &["check", "-c", "/nonexistent.yaml"], &[]).code, 1);
}
