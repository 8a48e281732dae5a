use serde_json::json;

use super::{accept, becomes, count, job, policy, result, status};
use crate::harness::{Gateway, Recorder, eventually, get, post, request};

fn name(path: &str) -> &str {
    path.rsplit('/').next().expect("an id")
}

#[test]
fn the_status_counts_jobs_by_how_they_stand() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("workers: 1, retry_delay: 1h", ""));
    becomes(&gateway, &accept(&gateway, &job("good", "")), "succeeded");
    becomes(&gateway, &accept(&gateway, &job("bad", "status 500")), "failed");
    becomes(&gateway, &accept(&gateway, &job("later", "status 503")), "retrying");
    accept(&gateway, &job("running", "hold"));
    upstream.wait_seen(4);
    accept(&gateway, &job("queued", "hold"));
    let jobs = gateway.json("/status")["jobs"].clone();
    for (status, wanted) in
        [("queued", 1), ("running", 1), ("retrying", 1), ("succeeded", 1), ("failed", 1), ("cancelled", 0)]
    {
        assert_eq!(jobs[status], wanted, "{status}: {jobs}");
        assert_eq!(gateway.metric("turnwise_jobs", &[("status", status)]), f64::from(wanted), "{status}");
    }
    assert!(jobs["oldest_age_seconds"].as_f64() > Some(0.0), "{jobs}");
    assert!(gateway.metric("turnwise_oldest_job_seconds", &[]) > 0.0);
    upstream.open();
    eventually("they are done", || count(&gateway, "succeeded") == 3);
}

#[test]
fn jobs_are_listed_without_what_is_in_them() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    let secret = job("a", "status 500").header("Authorization", "Bearer s3cret");
    let first = accept(&gateway, &secret);
    gateway.wait_metric("turnwise_jobs", &[("status", "failed")], 1.0);
    let second = accept(&gateway, &job("b", ""));
    becomes(&gateway, &second, "succeeded");
    let all = gateway.admin(&get("/jobs"));
    assert!(!all.text().contains("s3cret"));
    let all = all.json();
    assert_eq!((&all[0]["id"], &all[1]["id"]), (&name(&second).into(), &name(&first).into()), "the newest first");
    assert_eq!(
        (&all[1]["route"], &all[1]["upstream"], &all[1]["method"]),
        (&"runs".into(), &"agents".into(), &"POST".into())
    );
    assert_eq!(gateway.json("/jobs?status=failed").as_array().map(Vec::len), Some(1));
    assert_eq!(gateway.json("/jobs?limit=1").as_array().map(Vec::len), Some(1));
    assert_eq!(gateway.json(&format!("/jobs/{}", name(&first)))["error"], "status_500");
    for bad in ["/jobs?status=lost", "/jobs?limit=0", "/jobs?limit=x", "/jobs?limit=1001"] {
        assert_eq!(gateway.admin(&get(bad)).status, 400, "{bad}");
    }
    assert_eq!(gateway.admin(&get("/jobs/x")).status, 404);
    assert_eq!(gateway.admin(&post("/jobs", "")).status, 405);
}

#[test]
fn a_failed_job_can_be_run_again_with_all_its_tries() {
    let upstream = Recorder::start();
    upstream.stop_listening();
    let gateway = Gateway::with(&upstream, &policy("attempts: 2, retry_delay: 10ms", ""));
    let path = accept(&gateway, &job("a", "echo"));
    becomes(&gateway, &path, "failed");
    let upstream = Recorder::on(std::net::TcpListener::bind(upstream.address()).expect("free"), |it| it.obey());
    let again = gateway.admin(&post(&format!("/jobs/{}/retry", name(&path)), ""));
    assert_eq!((again.status, &again.json()["status"]), (200, &"queued".into()), "{}", again.text());
    let ended = becomes(&gateway, &path, "succeeded");
    assert_eq!((&ended["attempts"], &ended["error"]), (&1.into(), &json!(null)));
    assert_eq!(result(&gateway, &path).text(), "a");
    let twice = gateway.admin(&post(&format!("/jobs/{}/retry", name(&path)), ""));
    assert_eq!(twice.status, 409, "what has succeeded is not run again");
    assert_eq!(gateway.admin(&post("/jobs/0123456789abcdef0123456789abcdef/retry", "")).status, 404);
    drop(gateway);
    drop(upstream);
}

#[test]
fn a_cancelled_job_can_be_run_again_also_after_a_kill() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, &policy("workers: 1", ""));
    accept(&gateway, &job("first", "hold"));
    upstream.wait_seen(1);
    let path = accept(&gateway, &job("second", "echo"));
    gateway.ask(&super::cancel(&path)).assert_ok();
    gateway.kill();
    upstream.open();
    gateway.start_again();
    assert_eq!(gateway.admin(&post(&format!("/jobs/{}/retry", name(&path)), "")).status, 200);
    becomes(&gateway, &path, "succeeded");
    assert_eq!(result(&gateway, &path).text(), "second");
}

#[test]
fn an_operator_cancels_what_has_not_ended_and_forgets_what_has() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, &policy("", ""));
    let running = accept(&gateway, &job("running", "hold").header("X-Api-Key", "theirs"));
    upstream.wait_seen(1);
    let delete = |gateway: &Gateway, path: &str| gateway.admin(&request("DELETE", &format!("/jobs/{}", name(path))));
    let cancelled = delete(&gateway, &running).json();
    assert_eq!((&cancelled["status"], &cancelled["forgotten"]), (&"cancelled".into(), &false.into()));
    let ended = accept(&gateway, &job("ended", ""));
    becomes(&gateway, &ended, "succeeded");
    assert_eq!(delete(&gateway, &ended).json()["forgotten"], true);
    assert_eq!(delete(&gateway, &ended).status, 404);
    gateway.ask(&get(&ended)).assert_problem(404, "no_job");
    gateway.kill();
    upstream.open();
    gateway.start_again();
    gateway.ask(&get(&ended)).assert_problem(404, "no_job");
    assert_eq!(count(&gateway, "cancelled"), 1);
}

#[test]
fn an_operator_who_ends_a_session_ends_its_job() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &super::in_sessions(""));
    let path = accept(&gateway, &job("a", "hold").session("s"));
    upstream.wait_seen(1);
    assert_eq!(gateway.admin(&request("DELETE", "/sessions/s?running=true")).status, 200);
    assert_eq!(becomes(&gateway, &path, "failed")["error"], "interrupted");
    assert_eq!(status(&gateway, &path)["attempts"], 1);
    result(&gateway, &path).assert_problem(409, "interrupted");
}

#[test]
fn the_token_guards_jobs() {
    let upstream = Recorder::start();
    let text = policy("", "");
    let gateway = Gateway::laid_out(&upstream.url(), &text, |folder, text| {
        std::fs::write(folder.join("token"), "t0ken\n").expect("a file");
        let text = text.replace("admin: { listen:", "admin: { token_file: token, listen:");
        std::fs::write(folder.join("gateway.yaml"), text).expect("a file");
    });
    for asked in [get("/jobs"), get("/jobs/x"), request("DELETE", "/jobs/x"), post("/jobs/x/retry", "")] {
        assert_eq!(gateway.admin(&asked).status, 401);
        assert!(gateway.admin(&asked.header("Authorization", "Bearer t0ken")).status != 401);
    }
    let mut gateway = gateway;
    gateway.use_token("t0ken");
}
