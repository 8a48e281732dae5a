use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::command::turnwise;
use crate::harness::gateway::BINARY;
use crate::harness::{Gateway, Recorder, eventually};

fn stress<'a>(url: &'a str, test: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["stress", "--quiet", "--url", url, "--test", test, "--seed", "7"][..], more].concat()
}

fn read(folder: &TempDir, file: &str) -> String {
    std::fs::read_to_string(folder.path().join(file)).expect("it was written")
}

fn path(folder: &TempDir, file: &str) -> String {
    folder.path().join(file).to_str().expect("plain names").to_owned()
}

#[test]
fn it_tells_what_it_saw_in_words_as_json_and_as_a_page() {
    let upstream = Recorder::doing(|exchange| {
        let fails = exchange.head.word(1).ends_with("/users");
        exchange.read_body();
        exchange.finish(if fails {
            &b"HTTP/1.1 503 Busy\r\nContent-Length: 8\r\n\r\nno room\n"[..]
        } else {
            &b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"[..]
        });
    });
    let folder = TempDir::new().expect("a folder");
    let (json, page) = (path(&folder, "out.json"), path(&folder, "out.html"));
    let url = upstream.url();
    let pid = std::process::id().to_string();
    let more = [
        "--requests",
        "200",
        "--concurrency",
        "8",
        "--output",
        &json,
        "--report",
        &page,
        "--api-key",
        "k",
        "--pid",
        &pid,
    ];
    let output = turnwise(&stress(&url, "full-api", &more));
    assert_eq!(output.code, 0, "{}", output.all());
    for word in ["200: ", "error rate", "p95", "throughput", "16 x 503 Service Unavailable: no room", "process"] {
        assert!(output.stdout.contains(word), "{word}: {}", output.stdout);
    }
    let told: Value = serde_json::from_str(&read(&folder, "out.json")).expect("JSON");
    assert_eq!((&told["test"], &told["url"], &told["total"]), (&"full-api".into(), &url.as_str().into(), &200.into()));
    let failed = told["failed"].as_u64().expect("a number");
    assert_eq!(told["status"]["503"], failed);
    assert_eq!(told["successful"], 200 - failed);
    assert!(failed > 5 && failed < 50 && told["turns"]["lost"].is_null(), "{told}");
    assert!(told["process"]["peak_memory_bytes"].as_u64() > Some(1024), "{told}");
    assert!(read(&folder, "out.html").starts_with("<!doctype html>"));
    let seen = upstream.seen();
    assert_eq!(seen.len(), 200);
    assert!(seen.iter().all(|seen| seen.header("x-api-key").as_deref() == Some("k")));
    let runs: Vec<&_> = seen.iter().filter(|seen| seen.target() == "/api/v1/agent/simple_agent/run").collect();
    assert!(runs.len() > 90, "{}", runs.len());
    assert!(runs.iter().all(|run| run.text().contains("message_content") && run.text().contains("session_name")));
}

#[test]
fn a_threshold_that_does_not_hold_is_exit_code_1() {
    let upstream = Recorder::doing(|exchange| {
        exchange.read_body();
        exchange.sleep(20);
        exchange.finish("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    });
    let url = upstream.url();
    for (threshold, code) in [
        (["--max-error-rate", "1"], 0),
        (["--max-error-rate", "0.5"], 1),
        (["--max-p95", "10s"], 0),
        (["--max-p95", "1ms"], 1),
        (["--max-mean", "1ms"], 1),
        (["--min-throughput", "1"], 1),
    ] {
        let more = [&["--requests", "4", "--concurrency", "2"][..], &threshold].concat();
        let output = turnwise(&stress(&url, "agent-run", &more));
        assert_eq!(output.code, code, "{threshold:?}: {}", output.all());
        assert!(output.stdout.contains(if code == 0 { "holds" } else { "BROKEN" }), "{}", output.stdout);
    }
}

#[test]
fn a_server_that_is_not_there_is_told_and_not_held_for_success() {
    let output = turnwise(&stress("http://127.0.0.1:1", "agent-run", &["--requests", "3", "--max-error-rate", "0"]));
    assert_eq!(output.code, 1, "{}", output.all());
    assert!(output.stdout.contains("no connection") && output.stdout.contains("no answers"), "{}", output.stdout);
}

#[test]
fn templates_say_what_is_sent() {
    let upstream = Recorder::start();
    let url = format!("{}/base/", upstream.url());
    let more = [
        "--requests",
        "6",
        "--concurrency",
        "1",
        "--session-count",
        "2",
        "--method",
        "PUT",
        "--path",
        "/x/{turn}",
        "-H",
        "X-Team: red",
        "--body",
        r#"{"n":"{uuid}","in":{}}"#,
        "--session-in",
        "json:/in/id",
    ];
    let output = turnwise(&stress(&url, "custom", &more));
    assert_eq!(output.code, 0, "{}", output.all());
    let seen = upstream.seen();
    assert_eq!(seen.len(), 6);
    let body: Value = serde_json::from_str(&seen[3].text()).expect("JSON");
    assert_eq!((seen[3].target(), &body["in"]["id"]), ("/base/x/1", &"stress-7-s1".into()));
    assert_eq!(seen[3].header("x-team").as_deref(), Some("red"));
    assert!(seen.iter().all(|seen| seen.head.word(0) == "PUT"));
}

#[test]
fn messages_of_a_session_are_sent_in_their_order_and_the_record_judges() {
    let upstream = Recorder::start();
    // What stood there before the run is not held against it.
    let asked = AtomicUsize::new(0);
    let record = Recorder::doing(move |exchange| {
        exchange.read_body();
        let text = if asked.fetch_add(1, Ordering::Relaxed) == 0 { OLD } else { RECORD };
        exchange.finish(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()));
    });
    let folder = TempDir::new().expect("a folder");
    let (json, url, record) = (path(&folder, "out.json"), upstream.url(), format!("{}/record", record.url()));
    let more = [
        "--session-count",
        "1",
        "--messages-per-session",
        "4",
        "--concurrency",
        "4",
        "--record",
        &record,
        "--output",
        &json,
        "--timeout",
        "2s",
        "--max-turn-faults",
        "0",
    ];
    let output = turnwise(&stress(&url, "session-queue", &more));
    let numbers: Vec<String> = upstream.seen().iter().map(crate::harness::recorder::Seen::text).collect();
    let place =
        |turn: &str| numbers.iter().position(|text| text.contains(turn)).unwrap_or_else(|| panic!("{numbers:?}"));
    assert!(place("turn 0") < place("turn 1") && place("turn 2") < place("turn 3"), "{numbers:?}");
    assert_eq!(output.code, 1, "{}", output.all());
    let told: Value = serde_json::from_str(&read(&folder, "out.json")).expect("JSON");
    let expected = serde_json::json!({ "out_of_order": 1, "overlapping": 1, "repeated": 1, "lost": 1, "wasted": 1 });
    assert_eq!(told["turns"], expected, "{}", output.stdout);
}

const OLD: &str = r#"{"stress-7-s0":[{"message":"stress-7 turn 3 of s0","start":0.1,"end":0.2,"client_gone":false}]}"#;
/// The second before the first, the third beside the first, the second once more, the fourth never; the third for nobody.
const RECORD: &str = r#"{"stress-7-s0":[
  {"message":"stress-7 turn 3 of s0","start":0.1,"end":0.2,"client_gone":false},
  {"message":"stress-7 turn 1 of s0","start":1.0,"end":2.0,"client_gone":false},
  {"message":"stress-7 turn 0 of s0","start":2.0,"end":4.0,"client_gone":false},
  {"message":"stress-7 turn 2 of s0","start":3.0,"end":5.0,"client_gone":true},
  {"message":"stress-7 turn 1 of s0","start":6.0,"end":7.0,"client_gone":false}]}"#;

#[test]
fn in_an_open_loop_a_server_that_stalls_cannot_hide() {
    let upstream = Recorder::doing(|exchange| {
        exchange.read_body();
        exchange.sleep(100);
        exchange.finish("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let folder = TempDir::new().expect("a folder");
    let (json, url) = (path(&folder, "out.json"), upstream.url());
    let more = ["--requests", "20", "--concurrency", "1", "--rate", "100", "--output", &json];
    assert_eq!(turnwise(&stress(&url, "agent-run", &more)).code, 0);
    let told: Value = serde_json::from_str(&read(&folder, "out.json")).expect("JSON");
    // The last of twenty was to start after 190 ms, and ends after two seconds.
    assert!(told["latency_ms"]["max"].as_f64() > Some(1500.0), "{told}");
    assert!(told["latency_ms"]["min"].as_f64() < Some(1000.0), "{told}");
}

#[test]
fn clients_that_leave_leak_no_place_and_what_is_done_for_them_is_told_apart() {
    let upstream = Recorder::doing(|exchange| {
        exchange.read_body();
        exchange.sleep(300);
        exchange.finish("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 4 }\ndefaults: { abandoned: cancel }\n");
    let url = format!("http://{}", gateway.address);
    let folder = TempDir::new().expect("a folder");
    let json = path(&folder, "out.json");
    let more = ["--requests", "40", "--concurrency", "8", "--leave", "50", "--output", &json];
    assert_eq!(turnwise(&stress(&url, "agent-run", &more)).code, 0);
    let told: Value = serde_json::from_str(&read(&folder, "out.json")).expect("JSON");
    let left = told["left"].as_u64().expect("a number");
    assert!(left > 5, "{told}");
    assert_eq!((&told["total"], &told["failed"]), (&(40 - left).into(), &0.into()), "{told}");
    gateway.assert_all_gauges_zero();
}

#[test]
fn ctrl_c_ends_it_with_the_summary_so_far() {
    let upstream = Recorder::start();
    let mut child = Command::new(BINARY)
        .args(stress(&upstream.url(), "agent-run", &["--duration", "10m", "--concurrency", "2"]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary");
    upstream.wait_seen(10);
    let told = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(told.success());
    eventually("it ends", || child.try_wait().expect("our child").is_some());
    let output = child.wait_with_output().expect("our child");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("ended by Ctrl-C") && text.contains("successful"), "{text}");
}

#[test]
fn a_server_that_closes_after_each_answer_without_a_word_fails_no_request_that_may_be_sent_again() {
    let upstream = Recorder::doing(|exchange| {
        exchange.read_body();
        exchange.finish("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        exchange.close();
    });
    let url = upstream.url();
    for method in ["GET", "PUT"] {
        let more = ["--method", method, "--requests", "100", "--concurrency", "2", "--max-error-rate", "0"];
        let output = turnwise(&stress(&url, "custom", &more));
        assert_eq!(output.code, 0, "{}", output.all());
    }
}

#[test]
fn what_a_server_has_read_is_what_is_told_and_a_failure_is_told_as_one() {
    // Every third request is read, and its connection closed instead of answered: new ones and kept ones.
    for (test, more) in [
        ("agent-run", &["--requests", "60"][..]),
        ("session-queue", &["--session-count", "3", "--messages-per-session", "20"]),
        ("custom", &["--requests", "60", "--body", "x"]),
    ] {
        let requests = AtomicUsize::new(0);
        let upstream = Recorder::doing(move |exchange| {
            exchange.read_body();
            if requests.fetch_add(1, Ordering::Relaxed) % 3 == 2 {
                exchange.close();
            } else {
                exchange.finish("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        });
        let folder = TempDir::new().expect("a folder");
        let (json, url) = (path(&folder, "out.json"), upstream.url());
        let output = turnwise(&stress(&url, test, &[&["--concurrency", "4", "--output", &json], more].concat()));
        assert_eq!(output.code, 0, "{}", output.all());
        let told: Value = serde_json::from_str(&read(&folder, "out.json")).expect("JSON");
        assert_eq!(upstream.count(), 60, "{test}: {told}");
        let expected = (&json!(60), &json!(40), &json!(20), &json!(0));
        assert_eq!((&told["total"], &told["successful"], &told["failed"], &told["resent"]), expected, "{test}: {told}");
        assert!(told["errors"].to_string().contains("no answer"), "{told}");
    }
}

#[test]
fn what_was_sent_again_is_told() {
    let requests = AtomicUsize::new(0);
    let upstream = Recorder::doing(move |exchange| {
        exchange.read_body();
        if requests.fetch_add(1, Ordering::Relaxed) == 1 {
            exchange.close();
        } else {
            exchange.finish("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let url = upstream.url();
    let output = turnwise(&stress(&url, "custom", &["--method", "PUT", "--requests", "3", "--concurrency", "1"]));
    assert!(output.code == 0 && output.stdout.contains("sent again       1 "), "{}", output.all());
    assert_eq!(upstream.count(), 4);
}

/// An agent that answers at once and has executed a message each time one of `after` has passed; its record is at `/record`.
/// What it does not answer it has executed all the same.
fn agent(answers: impl Fn(usize) -> bool + Send + Sync + 'static, after: &'static [Duration]) -> Recorder {
    let executed: Arc<Mutex<Vec<(Instant, Value)>>> = Arc::default();
    let runs = AtomicUsize::new(0);
    Recorder::doing(move |exchange| {
        exchange.read_body();
        if exchange.head.word(1) == "/record" {
            let now = Instant::now();
            let mut record = serde_json::Map::new();
            for (_, one) in executed.lock().expect("lock").iter().filter(|(at, _)| *at <= now) {
                let list = record.entry(one["session_name"].as_str().expect("a session")).or_insert(json!([]));
                let number = list.as_array().map_or(0, Vec::len) as f64;
                let entry = json!({ "message": one["message_content"], "start": number, "end": number + 0.5 });
                list.as_array_mut().expect("a list").push(entry);
            }
            let text = Value::from(record).to_string();
            exchange.finish(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()));
            return;
        }
        let message: Value = serde_json::from_slice(&exchange.body()).expect("JSON");
        let mut list = executed.lock().expect("lock");
        list.extend(after.iter().map(|after| (Instant::now() + *after, message.clone())));
        list.sort_by_key(|(at, _)| *at);
        drop(list);
        if answers(runs.fetch_add(1, Ordering::Relaxed)) {
            exchange.finish("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        } else {
            exchange.close();
        }
    })
}

/// Of two sessions of ten messages: those that failed, were repeated, were lost.
fn judged(agent: &Recorder, more: &[&str]) -> [u64; 3] {
    let folder = TempDir::new().expect("a folder");
    let (json, url) = (path(&folder, "out.json"), agent.url());
    let record = format!("{url}/record");
    let all = ["--session-count", "2", "--messages-per-session", "10", "--concurrency", "2", "--record", &record];
    let output = turnwise(&stress(&url, "session-queue", &[&all[..], &["--output", &json], more].concat()));
    assert_eq!(output.code, 0, "{}", output.all());
    let told: Value = serde_json::from_str(&read(&folder, "out.json")).expect("JSON");
    let turns = &told["turns"];
    [&told["failed"], &turns["repeated"], &turns["lost"]].map(|count| count.as_u64().expect("a number"))
}

const AT_ONCE: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_millis(500);
const LATE: Duration = Duration::from_millis(1500);

#[test]
fn what_was_executed_and_not_answered_is_a_failure_and_not_repeated() {
    let agent = agent(|number| number % 4 != 3, &[AT_ONCE]);
    assert_eq!(judged(&agent, &[]), [5, 0, 0]);
    assert_eq!(agent.seen().iter().filter(|seen| seen.target() != "/record").count(), 20);
}

#[test]
fn an_agent_that_executes_a_little_after_its_answer_has_lost_nothing() {
    let agent = agent(|_| true, &[LATE]);
    assert_eq!(judged(&agent, &[]), [0, 0, 0]);
}

#[test]
fn an_agent_that_executes_once_more_after_its_answer_is_seen() {
    let agent = agent(|_| true, &[AT_ONCE, SOON]);
    assert_eq!(judged(&agent, &[]), [0, 20, 0]);
}

#[test]
fn an_agent_that_never_executes_is_waited_for_no_longer_than_for_an_answer() {
    let agent = agent(|_| true, &[]);
    assert_eq!(judged(&agent, &["--timeout", "2s"]), [0, 0, 20]);
}

#[test]
fn where_the_order_of_messages_bounds_the_rate_the_summary_says_so() {
    let upstream = Recorder::start();
    let url = upstream.url();
    for (sessions, is_bound) in [("1", true), ("50", false)] {
        let more =
            ["--requests", "50", "--concurrency", "5", "--session-in", "header:x-s", "--session-count", sessions];
        let output = turnwise(&stress(&url, "custom", &more));
        assert_eq!(output.code, 0, "{}", output.all());
        assert_eq!(output.stdout.contains("--session-count makes more"), is_bound, "{}", output.stdout);
    }
}

#[test]
fn clients_have_as_many_connections_as_the_hard_limit_allows() {
    let upstream = Recorder::doing(|exchange| {
        exchange.read_body();
        exchange.sleep(100);
        exchange.finish("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let url = upstream.url();
    let arguments = stress(&url, "agent-run", &["--requests", "100", "--concurrency", "100", "--max-error-rate", "0"]);
    let output = Command::new("sh")
        .args(["-c", "ulimit -S -n 40 && exec \"$0\" \"$@\"", BINARY])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("100 successful"), "{text}");
}

#[test]
fn a_process_that_ends_amid_the_run_is_told() {
    let upstream = Recorder::start();
    let url = upstream.url();
    let mut child = Command::new("sleep").arg("600").spawn().expect("a process");
    let pid = child.id().to_string();
    let more = ["--requests", "20", "--rate", "10", "--pid", &pid];
    let output = std::thread::scope(|scope| {
        let run = scope.spawn(|| turnwise(&stress(&url, "agent-run", &more)));
        upstream.wait_seen(1);
        child.kill().expect("our child");
        run.join().expect("it ends")
    });
    child.wait().expect("our child");
    assert!(output.code == 0 && output.stdout.contains("ENDED amid the run"), "{}", output.all());
}

#[test]
fn fields_of_one_name_are_all_sent_and_no_body_is_said_to_be_none() {
    let upstream = Recorder::start();
    let url = upstream.url();
    for (method, length) in
        [("POST", Some("0")), ("PUT", Some("0")), ("PATCH", Some("0")), ("GET", None), ("DELETE", None)]
    {
        let before = upstream.count();
        let more = ["--requests", "1", "--method", method, "-H", "X-A: 1", "-H", "X-A: 2"];
        let output = turnwise(&stress(&url, "custom", &more));
        assert_eq!(output.code, 0, "{}", output.all());
        let seen = upstream.seen();
        assert_eq!(seen[before].head.all("x-a"), ["1", "2"]);
        assert_eq!(seen[before].header("content-length").as_deref(), length, "{method}");
    }
}

#[test]
fn a_body_that_gets_a_session_stays_what_it_was_elsewhere() {
    let upstream = Recorder::start();
    let url = upstream.url();
    let body = r#"{"z":12345678901234567890123,"f":1.10,"b": 2,"a":[{"s":0}]}"#;
    let more = ["--requests", "1", "--body", body, "--session-in", "json:/a/0/s"];
    let output = turnwise(&stress(&url, "custom", &more));
    assert_eq!(output.code, 0, "{}", output.all());
    assert_eq!(upstream.only().text(), body.replace(r#""s":0"#, r#""s":"stress-7-s0""#));
}

#[test]
fn figures_can_go_to_stdout_and_a_run_that_does_not_begin_leaves_no_file() {
    let upstream = Recorder::start();
    let url = upstream.url();
    let output = turnwise(&stress(&url, "agent-run", &["--requests", "3", "--output", "-"]));
    let told: Value = serde_json::from_str(&output.stdout).expect("JSON and nothing else");
    assert!(told["total"] == 3 && output.stderr.contains("3 successful"), "{}", output.all());
    assert!(!Path::new("-").exists());
    let folder = TempDir::new().expect("a folder");
    let (new, old) = (path(&folder, "new.json"), path(&folder, "old.html"));
    std::fs::write(&old, "old").expect("a file");
    let more = ["--requests", "3", "--pid", "4000000", "--output", &new, "--report", &old];
    assert_eq!(turnwise(&stress(&url, "agent-run", &more)).code, 1);
    assert!(!Path::new(&new).exists() && read(&folder, "old.html") == "old");
}

#[test]
fn messages_of_a_session_are_apart_to_the_last_one() {
    let upstream = Recorder::start();
    let url = upstream.url();
    let more = ["--session-count", "1", "--messages-per-session", "30", "--concurrency", "10"];
    assert_eq!(turnwise(&stress(&url, "session-queue", &more)).code, 0);
    let texts: Vec<String> = upstream.seen().iter().map(crate::harness::recorder::Seen::text).collect();
    for number in 0..30 {
        let place = texts.iter().position(|text| text.contains(&format!("turn {number} of"))).expect("it was sent");
        // Threads of a busy machine note what came milliseconds apart in another order. What is sent together is further off.
        assert!(place.abs_diff(number) <= 2, "turn {number} came as number {place}: {texts:?}");
    }
}

#[test]
fn an_open_loop_ends_in_time_and_tells_what_it_could_not_send() {
    let upstream = Recorder::doing(|exchange| {
        exchange.read_body();
        exchange.sleep(500);
        exchange.finish("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let url = upstream.url();
    let load = ["--duration", "1s", "--rate", "100", "--concurrency", "5"];
    let output = turnwise(&stress(&url, "agent-run", &load));
    assert!(output.code == 0 && output.stdout.contains("not sent") && upstream.count() <= 20, "{}", output.all());
    // Where something is to hold, what could not be sent is no success.
    let output = turnwise(&stress(&url, "agent-run", &[&load[..], &["--max-error-rate", "0.5"]].concat()));
    assert!(output.code == 1 && output.stdout.contains("not sent count as failed"), "{}", output.all());
}

#[test]
fn a_run_by_time_ends_also_where_messages_wait_for_one_another() {
    let upstream = Recorder::start();
    let url = upstream.url();
    for place in ["header:x-s", "query:s", "json:/s"] {
        let more = [
            "--duration",
            "300ms",
            "--concurrency",
            "8",
            "--session-count",
            "2",
            "--session-in",
            place,
            "--body",
            "{}",
        ];
        let output = turnwise(&stress(&url, "custom", &more));
        assert_eq!(output.code, 0, "{place}: {}", output.all());
    }
}

#[test]
fn what_cannot_be_is_said_before_any_load() {
    let upstream = Recorder::start();
    let url = upstream.url();
    for (arguments, code, said) in [
        (stress(&url, "agent-run", &["--output", "/nowhere/x.json"]), 1, "cannot be written"),
        (stress(&url, "agent-run", &["--pid", "4000000"]), 1, "cannot be looked at"),
        (stress(&url, "agent-run", &["--output", "-", "--report", "-"]), 2, "only one of"),
        (stress("https://a", "agent-run", &[]), 2, "https"),
        (stress("nonsense", "agent-run", &[]), 2, "--url"),
        (stress("http://no.such.host.invalid", "agent-run", &["--requests", "1"]), 1, "is not known"),
        (stress(&url, "custom", &["--path", "no slash"]), 2, "is no path"),
        (stress(&url, "custom", &["--path", "/a b"]), 2, "is no path"),
        (stress(&url, "custom", &["--body", "no JSON", "--session-in", "json:/s"]), 2, "is no JSON"),
        (stress(&url, "custom", &["--body", "{}", "--session-in", "json:/a/s"]), 2, "no object"),
        (stress(&url, "agent-run", &["--agent-name", "a b"]), 2, "is no path"),
        (stress(&url, "agent-run", &["--agent-name", "a?b"]), 2, "no name of an agent"),
        (stress(&url, "agent-run", &["--api-key", "a\nb"]), 2, "--api-key is no field value"),
        (stress(&url, "custom", &["--session-in", "body:x"]), 2, "header:NAME"),
        (stress(&url, "everything", &[]), 2, "possible values"),
        (stress(&url, "agent-run", &["--timeout", "soon"]), 2, "--timeout"),
        (stress(&url, "agent-run", &["--max-turn-faults", "0"]), 2, "--record"),
        (stress(&url, "agent-run", &["--record", "http://127.0.0.1:1/"]), 2, "count no turns"),
        (stress(&url, "custom", &["--record", "http://127.0.0.1:1/"]), 2, "{message}"),
        (stress(&url, "session-queue", &["--record", "http://127.0.0.1:1/"]), 1, "the record cannot be had"),
        (stress(&url, "session-queue", &["--duration", "1s"]), 2, "--duration is not for"),
        (stress(&url, "session-queue", &["--record", "nonsense"]), 2, "--record"),
        (stress(&url, "session-queue", &["--record", "https://127.0.0.1/record"]), 2, "https"),
        (stress(&url, "session-queue", &["--requests", "10"]), 2, "--requests is not for"),
        (stress(&url, "agent-run", &["--requests", "10", "--duration", "1s"]), 2, "--duration"),
        (stress(&url, "session-queue", &["--rate", "5000"]), 2, "too much"),
        (stress(&url, "agent-run", &["--rate", "1e-20"]), 2, "--rate"),
        (stress("http://127.0.0.1:99999", "agent-run", &[]), 2, "is no port"),
        (stress("http://a:b@127.0.0.1", "agent-run", &[]), 2, "more than a host"),
    ] {
        let output = turnwise(&arguments);
        assert_eq!(output.code, code, "{arguments:?}: {}", output.all());
        assert!(output.stderr.contains(said), "{said}: {}", output.stderr);
    }
    assert_eq!(upstream.count(), 0);
    assert!(!Path::new("/nowhere").exists());
}
