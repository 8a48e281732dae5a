use super::{accept, becomes, cancel, job, policy, result};
use crate::harness::{Gateway, Recorder, get, post, request};

#[test]
fn a_job_does_not_exist_for_others() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    let mine =
        |request: crate::harness::Request| request.header("Authorization", "Bearer ann").header("X-Api-Key", "k");
    let path = accept(&gateway, &mine(job("a", "hold")));
    upstream.wait_seen(1);
    let strangers: [&[(&str, &str)]; 5] = [
        &[],
        &[("Authorization", "Bearer ann")],
        &[("X-Api-Key", "k")],
        &[("Authorization", "Bearer bob"), ("X-Api-Key", "k")],
        &[("Authorization", "Bearer ann"), ("Authorization", "Bearer ann"), ("X-Api-Key", "k")],
    ];
    for fields in strangers {
        for asked in [get(&path), get(&format!("{path}/result")), cancel(&path)] {
            let asked = fields.iter().fold(asked, |asked, (name, value)| asked.header(name, value));
            gateway.ask(&asked).assert_problem(404, "no_job");
        }
    }
    assert_eq!(gateway.ask(&mine(get(&path))).assert_ok().json()["status"], "running");
    upstream.open();
    crate::harness::eventually("it ends", || gateway.ask(&mine(get(&path))).json()["status"] == "succeeded");
    gateway.ask(&mine(get(&format!("{path}/result")))).assert_ok();
}

#[test]
fn there_is_no_listing_and_no_other_method() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    let path = accept(&gateway, &job("a", ""));
    becomes(&gateway, &path, "succeeded");
    let spelt = ["/%5fturnwise/jobs/nobody", "//_turnwise/jobs", "/_turn%77ise//jobs/nobody/result"];
    let plain = ["/_turnwise/jobs", "/_turnwise/jobs/", "/_turnwise/", "/_turnwise/x", "/_turnwise/jobs/nobody"];
    for path in plain.into_iter().chain(spelt) {
        gateway.ask(&get(path)).assert_problem(404, "no_job");
    }
    gateway.ask(&get("/_turnwise/jobs/0123456789abcdef0123456789abcdef")).assert_problem(404, "no_job");
    let refused = gateway.ask(&post(&path, "x"));
    refused.assert_problem(405, "method_not_allowed");
    assert_eq!(refused.header("allow").as_deref(), Some("GET, HEAD, DELETE"));
    gateway.ask(&request("DELETE", &format!("{path}/result"))).assert_problem(405, "method_not_allowed");
    assert_eq!(upstream.count(), 1, "nothing of that reaches the upstream");
    result(&gateway, &path).assert_ok();
}

#[test]
fn what_is_asked_about_jobs_keeps_the_connection_in_order() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    let path = accept(&gateway, &job("a", ""));
    let mut connection = gateway.connect();
    let with_body = request("DELETE", &path).header("Content-Length", "5");
    connection.ask(&with_body);
    connection.send("12345");
    connection.response().assert_ok();
    connection.ask(&get(&path));
    connection.response().assert_ok();
    gateway.say(format!("GET {path} HTTP/1.1\r\n\r\n")).response().assert_problem(400, "bad_request");
}
