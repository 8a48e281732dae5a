//! A policy that does not validate changes nothing, however many times and ways the file changes.

use std::fs;

use super::{in_force, limit};
use crate::harness::{Gateway, Recorder, eventually, get, post};

/// Whether the last reload went well, as the metrics say.
#[track_caller]
fn went_well(gateway: &Gateway, well: bool) {
    gateway.wait_metric("turnwise_config_last_reload_successful", &[], f64::from(u8::from(well)));
}

#[test]
fn the_last_good_one_stays() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &limit(7));
    let good = gateway.policy(&upstream, &limit(8));
    let half = good.as_bytes()[..good.len() - 4].to_vec();
    let large = [good.as_bytes(), &b"# comment\n".repeat(120_000)].concat();
    let cases: [(&str, Vec<u8>); 9] = [
        ("empty", Vec::new()),
        ("only a comment", b"# soon\n".to_vec()),
        ("half-written", half),
        ("an unknown key", [good.as_bytes(), b"limitz: { queue: 1 }\n"].concat()),
        ("a limit of 0", gateway.policy(&upstream, &limit(0)).into_bytes()),
        ("not UTF-8", [good.as_bytes(), b"# \xff\xfe\n"].concat()),
        ("over 1 MiB", large),
        ("null", b"null\n".to_vec()),
        ("another type", b"- a\n- b\n".to_vec()),
    ];
    for (name, bytes) in cases {
        fs::write(gateway.policy_file(), &bytes).expect("a file");
        let answer = gateway.admin(&post("/-/reload", ""));
        assert_eq!(answer.status, 422, "{name}: {}", answer.text());
        went_well(&gateway, false);
        in_force(&gateway, 7);
        gateway.ask(&get("/")).assert_ok();
        gateway.write_policy(&upstream, &limit(7));
        went_well(&gateway, true);
    }
    gateway.write_policy(&upstream, &limit(9));
    in_force(&gateway, 9);
}

#[test]
fn a_bad_file_is_noticed_without_being_told() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &limit(7));
    for concurrency in [8, 9, 10] {
        fs::write(gateway.policy_file(), "").expect("a file");
        went_well(&gateway, false);
        in_force(&gateway, concurrency - 1);
        gateway.write_policy(&upstream, &limit(concurrency));
        in_force(&gateway, concurrency);
        went_well(&gateway, true);
    }
}

#[test]
fn a_file_that_vanishes_or_becomes_a_folder_changes_nothing() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &limit(7));
    fs::remove_file(gateway.policy_file()).expect("removed");
    assert_eq!(gateway.admin(&post("/-/reload", "")).status, 422);
    gateway.ask(&get("/")).assert_ok();
    fs::create_dir(gateway.policy_file()).expect("a folder");
    assert_eq!(gateway.admin(&post("/-/reload", "")).status, 422);
    in_force(&gateway, 7);
    gateway.ask(&get("/")).assert_ok();
    fs::remove_dir(gateway.policy_file()).expect("removed");
    gateway.write_policy(&upstream, &limit(8));
    in_force(&gateway, 8);
}

#[test]
fn a_refused_reload_answers_with_every_problem() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    gateway.write_policy(&upstream, "limits: { concurency: 5, queue: 0 }\nserver: { header_timeout: soon }\n");
    let answer = gateway.admin(&post("/-/reload", ""));
    assert_eq!(answer.status, 422);
    let said = answer.json();
    let problems = said["problems"].as_array().unwrap_or_else(|| panic!("{said}"));
    let paths: Vec<&str> = problems.iter().filter_map(|problem| problem["path"].as_str()).collect();
    for path in ["limits.concurency", "limits.queue", "server.header_timeout"] {
        assert!(paths.contains(&path), "{path} is not among {paths:?}");
    }
    assert!(said.to_string().contains("concurrency"), "did you mean: {said}");
    let status = gateway.json("/status");
    assert!(status["policy"]["last_error"].to_string().contains("concurency"), "{status}");
    eventually("it is logged", || gateway.log().contains("concurency"));
    gateway.reload(&upstream, "");
    assert!(gateway.json("/status")["policy"]["last_error"].is_null());
}
