use super::{accept, accepted, becomes, job, policy, status};
use crate::harness::{Gateway, Recorder, get, post};

#[test]
fn a_job_is_accepted_run_and_its_answer_kept() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    let answer = gateway.ask(&job("a", "hold; status 201; echo").header("X-Request-Id", "mine"));
    let path = accepted(&answer);
    let id = path.strip_prefix("/_turnwise/jobs/").expect("the gateway's own path");
    assert_eq!(answer.json(), serde_json::json!({ "id": id, "status": "queued" }));
    assert_eq!(answer.header("preference-applied").as_deref(), Some("respond-async"));
    assert_eq!(answer.header("x-request-id").as_deref(), Some("mine"));
    assert_eq!(answer.header("content-type").as_deref(), Some("application/json"));
    upstream.wait_seen(1);
    let running = gateway.ask(&get(&path));
    assert!(running.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()));
    let running = running.json();
    assert_eq!((&running["status"], &running["attempts"]), (&"running".into(), &1.into()));
    assert_eq!((&running["finished_at"], &running["error"]), (&().into(), &().into()));
    super::result(&gateway, &path).assert_problem(409, "job_not_finished");
    upstream.release();
    let ended = becomes(&gateway, &path, "succeeded");
    assert!(ended["created_at"].as_str() < ended["finished_at"].as_str(), "{ended}");
    assert_eq!(ended["error"], serde_json::Value::Null);
    let result = super::result(&gateway, &path);
    assert_eq!((result.status, result.text().as_str()), (201, "a"));
    assert_eq!(result.header("content-type").as_deref(), Some("text/plain"));
    assert_eq!(result.header("x-request-id").as_deref(), Some("mine"));
    assert!(gateway.ask(&get(&path)).header("retry-after").is_none());
    gateway.wait_metric("turnwise_jobs", &[("status", "succeeded")], 1.0);
    gateway.wait_metric("turnwise_job_attempts_total", &[("result", "succeeded")], 1.0);
    gateway.wait_metric("turnwise_job_duration_seconds_count", &[], 1.0);
    gateway.wait_metric("turnwise_requests_total", &[("route", "runs"), ("code", "202")], 1.0);
    assert_eq!(gateway.metric("turnwise_requests_total", &[("route", "runs")]), 1.0, "a try is no request");
}

#[test]
fn what_is_sent_upstream_is_what_came() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = post("/a%20b?x=1&y", "body")
        .header("Prefer", "return=minimal, respond-async; x=\",\", wait=0")
        .header("Authorization", "Bearer secret")
        .header("X-Twice", "1")
        .header("X-Twice", "2")
        .header("Connection", "close, x-hop")
        .header("X-Hop", "gone")
        .header("Turnwise-Turn", "0123456789abcdef0123456789abcdef")
        .header("X-Forwarded-For", "6.6.6.6")
        .header("traceparent", trace)
        .header("X-Request-Id", "rid");
    let path = accept(&gateway, &request.header("Authorization", "again"));
    // It has been noted before its body has been read.
    gateway.wait_metric("turnwise_jobs", &[("status", "succeeded")], 1.0);
    let seen = upstream.only();
    assert_eq!((seen.head.word(0), seen.target(), seen.text().as_str()), ("POST", "/a%20b?x=1&y", "body"));
    assert_eq!(seen.head.all("x-twice"), ["1", "2"]);
    assert_eq!(seen.head.all("authorization"), ["Bearer secret", "again"]);
    for (name, value) in [
        ("prefer", Some("return=minimal")),
        ("x-hop", None),
        ("turnwise-turn", None),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("traceparent", Some(trace)),
        ("x-request-id", Some("rid")),
        ("content-length", Some("4")),
        ("via", Some("1.1 turnwise")),
        ("host", Some("agents.example")),
    ] {
        assert_eq!(seen.header(name).as_deref(), value, "{name}");
    }
    let id = path.rsplit('/').next().expect("an id");
    assert_eq!(seen.header("idempotency-key").as_deref(), Some(id), "the job's, where the client has none");
}

#[test]
fn the_clients_own_idempotency_key_is_sent() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    let path = accept(&gateway, &job("a", "").header("Idempotency-Key", "\"own\""));
    upstream.wait_seen(1);
    assert_eq!(upstream.only().head.all("idempotency-key"), ["\"own\""]);
    becomes(&gateway, &path, "succeeded");
}

#[test]
fn a_body_without_a_length_and_none_at_all_arrive_whole() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    let chunked = crate::harness::request("POST", "/chunked").header("Prefer", "respond-async");
    accept(&gateway, &chunked.chunked(&["one ", "two"], &[]));
    upstream.wait_seen(1);
    accept(&gateway, &get("/none").header("Prefer", "respond-async"));
    upstream.wait_seen(2);
    accept(&gateway, &post("/empty", "").header("Prefer", "respond-async"));
    upstream.wait_seen(3);
    let seen = upstream.seen();
    assert_eq!((seen[0].text().as_str(), seen[0].header("content-length").as_deref()), ("one two", Some("7")));
    assert_eq!((seen[1].head.word(0), seen[1].header("content-length")), ("GET", None));
    assert_eq!(seen[2].header("content-length").as_deref(), Some("0"));
    assert!(seen.iter().all(|seen| seen.header("transfer-encoding").is_none()));
}

#[test]
fn a_client_that_leaves_without_its_answer_leaves_no_half_of_a_job() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    // The body never comes whole.
    let cut = gateway.say("POST /cut HTTP/1.1\r\nHost: h\r\nPrefer: respond-async\r\nContent-Length: 10\r\n\r\n12345");
    cut.leave();
    let path = accept(&gateway, &job("whole", ""));
    becomes(&gateway, &path, "succeeded");
    assert_eq!(upstream.targets(), ["/whole"]);
    assert_eq!(status(&gateway, &path)["attempts"], 1);
}

#[test]
fn requests_that_do_not_prefer_it_are_served_as_ever() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    for prefer in ["wait=3", "return=minimal", "respond-asyncc", "x=\"respond-async\""] {
        let answer = gateway.ask(&post("/", "x").header("Prefer", prefer));
        assert_eq!(answer.assert_ok().header("preference-applied"), None, "{prefer}");
    }
    assert_eq!(upstream.seen()[0].header("prefer").as_deref(), Some("wait=3"), "not the gateway's business");
    assert_eq!(super::count(&gateway, "succeeded"), 0);
}

#[test]
fn without_a_queue_paths_and_preferences_are_the_upstreams() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    gateway.ask(&job("a", "")).assert_ok();
    gateway.ask(&get("/_turnwise/jobs/0123456789abcdef0123456789abcdef")).assert_ok();
    assert_eq!(upstream.count(), 2);
    assert_eq!(upstream.seen()[0].header("prefer").as_deref(), Some("respond-async"));
    assert_eq!(gateway.json("/status")["jobs"], serde_json::Value::Null);
    assert_eq!(gateway.admin(&get("/jobs")).status, 404);
}
