use crate::harness::{Gateway, Recorder, get};

const PATTERN: &str = "routes:\n  - { name: a, match: { path: \"/api/{agent}/run\" }, upstream: agents }\n";

#[test]
fn a_path_is_matched_decoded_and_forwarded_as_it_came() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, PATTERN);
    let targets = ["/%61pi/x/run", "/api/x/r%75n", "//api///x/run", "/api/%7Euser/run"];
    for target in targets {
        gateway.ask(&get(target)).assert_ok();
    }
    assert_eq!(upstream.targets(), targets);
}

#[test]
fn an_encoded_slash_is_no_slash() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, PATTERN);
    gateway.ask(&get("/api/a%2Fb/run")).assert_ok();
    gateway.ask(&get("/api%2Fx/run")).assert_problem(404, "no_route");
    gateway.ask(&get("/api/x%2frun")).assert_problem(404, "no_route");
    assert_eq!(upstream.targets(), ["/api/a%2Fb/run"]);
}
