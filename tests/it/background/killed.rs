use super::{accept, becomes, count, in_sessions, job, policy, result, status};
use crate::harness::{Gateway, Recorder, eventually};

#[test]
fn accepted_jobs_survive_a_kill_and_run_in_their_order() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, &in_sessions("workers: 1"));
    let paths: Vec<String> =
        (0..10).map(|number| accept(&gateway, &job(&number.to_string(), "hold").session("s"))).collect();
    upstream.wait_seen(1);
    upstream.release();
    becomes(&gateway, &paths[0], "succeeded");
    upstream.wait_seen(2);
    gateway.kill();
    upstream.open();
    gateway.start_again();
    for path in &paths {
        becomes(&gateway, path, "succeeded");
        result(&gateway, path).assert_ok();
    }
    let wanted: Vec<String> = [0, 1].into_iter().chain(1..10).map(|number| format!("/{number}")).collect();
    assert_eq!(upstream.targets(), wanted, "the one that ran is run once more, the one that had ended is not");
    assert_eq!(status(&gateway, &paths[1])["attempts"], 1, "a try that a kill has ended does not count");
}

#[test]
fn results_and_tries_survive_a_kill() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, &policy("attempts: 3, retry_delay: 1s", ""));
    let good = accept(&gateway, &job("good", "echo"));
    let bad = accept(&gateway, &job("bad", "status 500"));
    let again = accept(&gateway, &job("again", "status 503"));
    let before = [becomes(&gateway, &good, "succeeded"), becomes(&gateway, &bad, "failed")];
    becomes(&gateway, &again, "retrying");
    gateway.kill();
    gateway.start_again();
    assert_eq!([status(&gateway, &good), status(&gateway, &bad)], before);
    assert_eq!(result(&gateway, &good).text(), "good");
    assert_eq!(result(&gateway, &bad).status, 500);
    let ended = becomes(&gateway, &again, "failed");
    assert_eq!((&ended["attempts"], &ended["error"]), (&3.into(), &"status_503".into()));
    assert_eq!(upstream.count(), 5);
}

#[test]
fn owners_survive_a_kill() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, &policy("", ""));
    let path = accept(&gateway, &job("a", "").header("X-Api-Key", "k"));
    gateway.wait_metric("turnwise_jobs", &[("status", "succeeded")], 1.0);
    gateway.kill();
    gateway.start_again();
    gateway.ask(&crate::harness::get(&path)).assert_problem(404, "no_job");
    gateway.ask(&crate::harness::get(&path).header("X-Api-Key", "k")).assert_ok();
}

#[test]
fn a_job_whose_route_is_gone_is_accounted_for() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, &policy("workers: 1", ""));
    let first = accept(&gateway, &job("first", "hold"));
    upstream.wait_seen(1);
    let second = accept(&gateway, &job("second", ""));
    gateway.kill();
    upstream.open();
    let other = "background: { workers: 1 }\nroutes: [{ name: other, upstream: agents, match: { path: /first } }]\n";
    gateway.write_policy(&upstream, other);
    gateway.start_again();
    becomes(&gateway, &first, "succeeded");
    let ended = becomes(&gateway, &second, "failed");
    assert_eq!((&ended["error"], &ended["attempts"]), (&"no_route".into(), &1.into()));
    assert!(!upstream.targets().contains(&"/second".to_owned()));
}

#[test]
fn killed_again_and_again_it_loses_nothing_and_invents_nothing() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, &in_sessions("workers: 4, queue: 1000"));
    let mut paths = Vec::new();
    for round in 0..5 {
        for number in 0..20 {
            let request = job(&format!("{round}-{number}"), "sleep 3").session(&(number % 3).to_string());
            paths.push(accept(&gateway, &request));
        }
        gateway.kill();
        gateway.start_again();
    }
    eventually("all are done", || count(&gateway, "succeeded") == 100);
    for path in &paths {
        result(&gateway, path).assert_ok();
    }
    assert_eq!(count(&gateway, "failed") + count(&gateway, "cancelled"), 0);
    let seen: std::collections::BTreeSet<String> = upstream.targets().into_iter().collect();
    assert_eq!(seen.len(), 100);
}
