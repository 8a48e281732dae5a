//! What `/status` and the sessions tell when something is wrong.

use crate::harness::{Gateway, Recorder, eventually, get, post, request};

const POLICY: &str = "server: { drain_delay: 20s, drain_timeout: 20s, max_connections: 100 }
limits: { concurrency: 3, queue_timeout: 25s, queue_bytes: 1MiB }
upstreams: { agents: { servers: [\"{upstream}\"], health: null, concurrency: 1 } }
routes:
  - { name: probes, match: { path: /probe }, upstream: agents, exempt: true }
  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ header: X-Session-Id }], queue: 1, queue_timeout: 21s, lane: talk } }
";

#[test]
fn the_status_tells_limits_refusals_and_who_waits_by_route() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, POLICY);
    let quiet = gateway.json("/status");
    assert_eq!(quiet["refused"], serde_json::json!([]));
    assert_eq!(quiet["routes"][1]["oldest_wait_seconds"], 0.0, "{quiet}");
    let mut all = vec![gateway.begin(&get("/").session("a").making("hold"))];
    upstream.wait_seen(1);
    all.push(gateway.begin(&get("/").session("a")));
    gateway.wait_for_turn(1);
    gateway.ask(&get("/").session("a")).assert_problem(429, "session_queue_full");
    let status = gateway.json("/status");
    let limits = &status["limits"];
    assert_eq!(
        (&limits["queue_bytes_limit"], &limits["queue_timeout_seconds"]),
        (&1_048_576.into(), &25.0.into()),
        "{limits}"
    );
    assert_eq!(status["max_connections"], 100, "{status}");
    assert_eq!(status["refused"], serde_json::json!([{ "route": "runs", "reason": "session_queue_full", "total": 1 }]));
    let (probes, runs) = (&status["routes"][0], &status["routes"][1]);
    assert_eq!((&probes["exempt"], &probes["session"]), (&true.into(), &serde_json::Value::Null), "{probes}");
    assert_eq!(runs["exempt"], false, "{runs}");
    assert_eq!(
        runs["session"],
        serde_json::json!({ "lane": "talk", "concurrency": 1, "queue": 1, "queue_timeout_seconds": 21.0 })
    );
    assert!(runs["oldest_wait_seconds"].as_f64() > Some(0.0), "{runs}");
    assert!(runs["oldest_in_flight_seconds"].as_f64() > Some(0.0), "{runs}");
    assert_eq!(probes["oldest_in_flight_seconds"], 0.0, "{probes}");
    assert!(status["drain"].is_null(), "{status}");
    assert_eq!(status["permit_leaks"], 0, "{status}");
    upstream.open();
    all.iter_mut().for_each(|connection| {
        connection.response().assert_ok();
    });
}

#[test]
fn the_status_tells_what_is_wrong_with_servers() {
    let (gone, upstream) = (Recorder::start(), Recorder::start());
    gone.stop_listening();
    let servers = format!("\"{}\", \"{}\"", gone.url(), upstream.url());
    let gateway = Gateway::with(
        &upstream,
        &format!(
            "upstreams: {{ agents: {{ servers: [{servers}], balance: round_robin, eject: {{ after_failures: 1, for: 60s }} }} }}\n"
        ),
    );
    for _ in 0..3 {
        gateway.ask(&get("/")).assert_ok();
    }
    let upstreams = gateway.json("/status")["upstreams"][0].clone();
    assert_eq!(
        (&upstreams["errors"], &upstreams["retries"]),
        (&serde_json::json!({ "connect": 1 }), &1.into()),
        "{upstreams}"
    );
    let servers = &upstreams["servers"];
    assert_eq!(
        (&servers[0]["ejections"], &servers[0]["ejected"], &servers[0]["passes_checks"]),
        (&1.into(), &true.into(), &true.into())
    );
    assert_eq!((&servers[1]["ejections"], &servers[1]["ejected"]), (&0.into(), &false.into()), "{servers}");
}

#[test]
fn a_reload_that_failed_is_told_with_line_and_column_and_since_when() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let policy = gateway.json("/status")["policy"].clone();
    assert_eq!(
        (&policy["problems"], &policy["failed_at"]),
        (&serde_json::json!([]), &serde_json::Value::Null),
        "{policy}"
    );
    gateway.write_policy(&upstream, "limits:\n  concurency: 7\n");
    assert_eq!(gateway.admin(&post("/-/reload", "")).status, 422);
    let policy = gateway.json("/status")["policy"].clone();
    let problem = &policy["problems"][0];
    assert_eq!((&problem["path"], &problem["column"]), (&"limits.concurency".into(), &3.into()), "{policy}");
    assert!(problem["line"].as_u64() > Some(1), "{policy}");
    assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("concurrency")), "{policy}");
    assert!(policy["failed_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{policy}");
    gateway.reload(&upstream, "limits: { concurrency: 7 }\n");
    let policy = gateway.json("/status")["policy"].clone();
    assert_eq!(
        (&policy["problems"], &policy["failed_at"]),
        (&serde_json::json!([]), &serde_json::Value::Null),
        "{policy}"
    );
}

#[test]
fn a_drain_tells_how_long_what_is_left_may_take() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, POLICY);
    let mut running = gateway.begin(&get("/").session("a").making("hold"));
    upstream.wait_seen(1);
    assert_eq!(gateway.admin(&post("/-/drain", "")).status, 200);
    let drain = gateway.json("/status")["drain"].clone();
    assert_eq!(drain["requests_left"], 1, "{drain}");
    let left = drain["seconds_left"].as_f64().expect("a number");
    assert!(left > 0.0 && left <= 40.0, "{drain}");
    eventually("it goes down", || gateway.json("/status")["drain"]["seconds_left"].as_f64() < Some(left));
    upstream.open();
    running.response().assert_ok();
    // Nothing is left, so that one word is enough.
    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), 0);
}

#[test]
fn the_longest_wait_comes_first_when_it_is_asked_for() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        &POLICY.replace("queue: 1,", "queue: 9,").replace("concurrency: 1 }", "concurrency: 9 }"),
    );
    let mut all = Vec::new();
    let mut waiting = 0;
    for (session, behind) in [("idle", 0), ("long", 1), ("many", 3)] {
        let before = upstream.count();
        all.push(gateway.begin(&get("/").session(session).making("hold")));
        upstream.wait_seen(before + 1);
        for _ in 0..behind {
            all.push(gateway.begin(&get("/").session(session)));
            waiting += 1;
            gateway.wait_for_turn(waiting);
        }
    }
    let keys = |sort: &str| -> Vec<String> {
        let list = gateway.json(&format!("/sessions?sort={sort}"));
        let rows = list.as_array().expect("a list").iter();
        rows.map(|row| row["key"].as_str().expect("a key").to_owned()).collect()
    };
    assert_eq!(keys("longest"), ["long", "many", "idle"]);
    assert_eq!(keys("waiting"), ["many", "long", "idle"]);
    assert_eq!(keys("age"), ["idle", "long", "many"]);
    assert_eq!(gateway.admin(&get("/sessions?sort=other")).status, 400);
    upstream.open();
    all.iter_mut().for_each(|connection| {
        connection.response().assert_ok();
    });
}

#[test]
fn each_request_tells_its_client_and_how_long_it_has_been_so() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, POLICY);
    let mut connection = gateway.connect_from(7);
    connection.ask(&get("/").session("a").making("hold"));
    upstream.wait_seen(1);
    let request = gateway.json("/sessions/a")["requests"][0].clone();
    assert_eq!(request["client"], "127.0.0.7", "{request}");
    let (so_far, age) = (request["seconds"].as_f64(), request["age_seconds"].as_f64());
    assert!(so_far > Some(0.0) && so_far <= age, "{request}");
    upstream.open();
    connection.response().assert_ok();
}

#[test]
fn a_key_that_no_path_can_have_is_named_in_the_query() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, POLICY);
    let mut all = vec![gateway.begin(&get("/").session("..").making("hold"))];
    upstream.wait_seen(1);
    all.push(gateway.begin(&get("/").session("..")));
    gateway.wait_for_turn(1);
    assert_eq!(gateway.json("/session?key=%2E%2e")["requests"].as_array().map(Vec::len), Some(2));
    assert_eq!(gateway.admin(&get("/session")).status, 400);
    assert_eq!(gateway.admin(&get("/session?key=nobody")).status, 404);
    let cleared = gateway.admin(&request("DELETE", "/session?key=.."));
    assert_eq!(cleared.assert_ok().json()["ended"], 1);
    all[1].response().assert_problem(409, "interrupted");
    let ended = gateway.admin(&request("DELETE", "/session?key=..&running=true"));
    assert_eq!(ended.assert_ok().json()["ended"], 1);
    all[0].response().assert_problem(409, "interrupted");
    upstream.open();
}
