use serde_json::Value;

use crate::harness::{Gateway, Recorder, eventually, get};

const POLICY: &str = "limits: { concurrency: 1, queue: 1 }
routes:
  - { name: runs, match: { path_prefix: /runs }, upstream: agents, session: { key: [{ header: X-Session-Id }] } }
  - { name: rest, upstream: agents }
";

fn samples(history: &Value) -> &Vec<Value> {
    history["samples"].as_array().unwrap_or_else(|| panic!("no samples: {history}"))
}

#[test]
fn a_sample_every_few_seconds_tells_what_ran_waited_ended_and_was_refused() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, POLICY);
    let empty = gateway.json("/history");
    assert!(empty["began"].as_str().is_some_and(|began| began.ends_with('Z')), "{empty}");
    assert_eq!((&empty["interval_seconds"], &empty["kept"]), (&5.into(), &120.into()), "{empty}");
    let mut all = vec![gateway.begin(&get("/runs").session("a").making("hold"))];
    upstream.wait_seen(1);
    all.push(gateway.begin(&get("/runs").session("a")));
    gateway.wait_for_turn(1);
    all.push(gateway.begin(&get("/rest")));
    gateway.wait_for_place(1);
    gateway.ask(&get("/rest")).assert_problem(503, "queue_full");

    let held = |sample: &Value| sample["waiting"]["turn"] == 1 && sample["waiting"]["place"] == 1;
    eventually("a sample of it", || samples(&gateway.json("/history")).iter().any(held));
    let history = gateway.json("/history");
    let sample = samples(&history).iter().find(|sample| held(sample)).expect("just seen");
    assert_eq!(
        (&sample["in_flight"], &sample["waiting"]["rate"], &sample["sessions"]),
        (&1.into(), &0.into(), &1.into()),
        "{sample}"
    );
    assert!(sample["oldest_wait_seconds"].as_f64() > Some(0.0), "{sample}");
    assert!(sample["oldest_in_flight_seconds"].as_f64() > Some(0.0), "{sample}");
    assert!(sample["connections"].as_u64() >= Some(3), "{sample}");
    assert_eq!(sample["queue_bytes"], 0, "{sample}");
    assert!(sample["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{sample}");
    assert_eq!(sample["routes"]["runs"]["in_flight"], 1, "{sample}");
    assert_eq!(sample["routes"]["runs"]["waiting"]["turn"], 1, "{sample}");
    assert_eq!(sample["routes"]["rest"]["waiting"]["place"], 1, "{sample}");
    let minute = &history["last_minute"];
    assert_eq!(minute["refused"], serde_json::json!({ "queue_full": 1 }), "{minute}");
    assert_eq!(minute["routes"]["rest"]["refused"]["queue_full"], 1, "{minute}");
    assert_eq!(
        minute["ended"],
        serde_json::json!({ "ok": 0, "client_error": 0, "server_error": 1, "left": 0 }),
        "{minute}"
    );

    upstream.open();
    for connection in &mut all {
        connection.response().assert_ok();
    }
    eventually("their end is in it", || gateway.json("/history")["last_minute"]["ended"]["ok"] == 3);
    let history = gateway.json("/history");
    let minute = &history["last_minute"];
    for queue in ["turn", "place"] {
        let wait = &minute["wait"][queue];
        assert!(wait["count"].as_u64() >= Some(2), "{queue}: {minute}");
        assert!(wait["p50_seconds"].as_f64() <= wait["p95_seconds"].as_f64(), "{queue}: {minute}");
    }
    assert!(minute["routes"]["runs"]["wait"]["turn"]["p95_seconds"].as_f64() > Some(0.1), "{minute}");
    assert!(minute["wait"]["rate"]["p50_seconds"].is_null(), "{minute}");
    assert_eq!(minute["upstreams"]["agents"]["head"]["count"], 3, "{minute}");
    assert_eq!(minute["upstreams"]["agents"]["errors"], serde_json::json!({}), "{minute}");
    let refused: u64 = samples(&history).iter().filter_map(|sample| sample["refused"]["queue_full"].as_u64()).sum();
    assert_eq!(refused, 1, "it is in one sample: {history}");
}

#[test]
fn who_has_some_samples_gets_the_later_ones() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    eventually("there are two", || samples(&gateway.json("/history")).len() >= 2);
    let numbers = |path: &str| -> Vec<u64> {
        samples(&gateway.json(path)).iter().filter_map(|sample| sample["number"].as_u64()).collect()
    };
    let all = numbers("/history");
    assert_eq!(all[..2], [1, 2]);
    assert_eq!(numbers("/history?after=1")[0], 2);
    assert!(numbers("/history?after=1000000").is_empty());
    assert_eq!(gateway.admin(&get("/history?after=x")).status, 400);
    assert_eq!(gateway.admin(&get("/history?after=-1")).status, 400);
}
