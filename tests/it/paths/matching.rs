use crate::harness::{Gateway, Recorder, get, post, request};

/// Asks for `target` where only the route `a` exists, with this `match`.
#[track_caller]
fn matches(matching: &str, targets: &[&str], not: &[&str]) {
    let upstream = Recorder::start();
    let gateway =
        Gateway::with(&upstream, &format!("routes:\n  - {{ name: a, match: {matching}, upstream: agents }}\n"));
    for target in targets {
        gateway.ask(&get(target)).assert_ok();
    }
    for target in not {
        gateway.ask(&get(target)).assert_problem(404, "no_route");
    }
    assert_eq!(upstream.targets(), targets);
}

#[test]
fn a_pattern_matches_segment_for_segment() {
    matches(
        "{ path: \"/api/{agent}/run\" }",
        &["/api/x/run", "/api/a.b-c/run", "/api/x/run?q=1"],
        &["/api/run", "/api//run", "/api/x/y/run", "/api/x/run/", "/api/x/runs", "/API/x/run"],
    );
}

#[test]
fn a_prefix_matches_whole_segments() {
    matches("{ path_prefix: /api }", &["/api", "/api/", "/api/x", "/api?x"], &["/apix", "/", "/a/api"]);
}

#[test]
fn hosts_ignore_case_and_port() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "routes:\n  - { name: a, match: { path_prefix: /, hosts: [Api.Example] }, upstream: agents }\n",
    );
    for host in ["api.example", "API.EXAMPLE", "api.example:8080"] {
        gateway.ask(&get("/").header("Host", host)).assert_ok();
    }
    gateway.ask(&get("/").header("Host", "other.example")).assert_problem(404, "no_route");
}

#[test]
fn methods_and_headers_must_match_too() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "routes:\n  - { name: a, match: { path_prefix: /, methods: [POST], headers: { X-Kind: agent } }, upstream: agents }\n",
    );
    gateway.ask(&post("/", "").header("x-kind", "agent")).assert_ok();
    gateway.ask(&get("/").header("X-Kind", "agent")).assert_problem(404, "no_route");
    gateway.ask(&post("/", "").header("X-Kind", "other")).assert_problem(404, "no_route");
    gateway.ask(&request("POST", "/").header("Content-Length", "0")).assert_problem(404, "no_route");
}
