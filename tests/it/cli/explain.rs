use super::{SMALLEST, file};
use crate::harness::command::{Output, turnwise_in};

const POLICY: &str = "limits: { concurrency: 17 }
routes:
  - name: runs
    match: { path: \"/api/v1/agent/{agent}/run\", methods: [POST] }
    upstream: agents
    concurrency: 3
    session: { key: [{ header: X-Session-Id }, { json: /session_name }], queue_timeout: 44s }
    rate_limits: [{ per: client_ip, rate: 5/s, burst: 10 }]
    timeouts: { response: 33s }
  - { name: health, match: { path: /health }, upstream: agents, exempt: true }
";

#[track_caller]
fn explain(arguments: &[&str]) -> Output {
    let (folder, _) = file(format!("{SMALLEST}{POLICY}"));
    turnwise_in(folder.path(), &[&["explain", "-c", "gateway.yaml"], arguments].concat(), &[])
}

#[track_caller]
fn says(output: &Output, words: &[&str]) {
    assert_eq!(output.code, 0, "{}", output.all());
    for word in words {
        assert!(output.stdout.contains(word), "{word:?} is not in\n{}", output.all());
    }
}

#[test]
fn it_names_route_session_limits_timeouts_and_upstream() {
    let url = "http://api.example/api/v1/agent/simple/run";
    let by_header = explain(&["POST", url, "-H", "X-Session-Id: ann-1"]);
    says(&by_header, &["runs", "ann-1", "17", "3", "5/s", "33s", "44s", "agents", "http://127.0.0.1:8000"]);
    let body = "{\"message_content\":\"hi\",\"session_name\":\"bob-2\"}";
    says(&explain(&["POST", url, "-H", "Content-Type: application/json", "-d", body]), &["runs", "bob-2"]);
}

#[test]
fn it_says_when_a_request_takes_no_turn() {
    says(&explain(&["GET", "/health"]), &["health", "exempt"]);
}

#[test]
fn no_route_exits_1() {
    for arguments in [["GET", "/api/v1/agent/simple/run"], ["POST", "/other"]] {
        let output = explain(&arguments);
        assert_eq!(output.code, 1, "{}", output.all());
        assert!(!output.all().trim().is_empty());
    }
}

#[test]
fn a_request_that_its_route_refuses_exits_1_with_the_reason() {
    let (folder, _) = file(format!(
        "{SMALLEST}routes: [{{ name: runs, session: {{ key: [{{ header: X-Session-Id }}], anonymous: reject }} }}]\n"
    ));
    for (fields, reason) in
        [(vec![], "session_required"), (vec!["-H", "X-Session-Id: a", "-H", "X-Session-Id: b"], "bad_request")]
    {
        let arguments = [&["explain", "-c", "gateway.yaml", "GET", "/"][..], &fields].concat();
        let output = turnwise_in(folder.path(), &arguments, &[]);
        assert_eq!(output.code, 1, "{}", output.all());
        assert!(output.stdout.contains(&format!("refused: 400 {reason}")), "{}", output.all());
        assert!(output.stdout.contains("route        runs"), "{}", output.all());
    }
}

#[test]
fn a_bad_policy_explains_nothing() {
    let (folder, _) = file("limits: {}\n");
    let output = turnwise_in(folder.path(), &["explain", "-c", "gateway.yaml", "GET", "/"], &[]);
    assert_eq!(output.code, 1);
}
