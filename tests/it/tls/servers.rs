//! TLS with servers: who is trusted, what is shown, what is spoken.

use crate::harness::tls::{Authority, Front};
use crate::harness::{Gateway, Recorder, eventually, get, http2, post};

fn gateway(front: &Front, authority: &Authority, upstream: &str) -> Gateway {
    let own = authority.issue(&["gateway.example"]);
    let url = format!("https://127.0.0.1:{}", front.address.port());
    let yaml = format!("upstreams: {{ agents: {{ servers: [\"{url}\"], {upstream} }} }}\n");
    Gateway::laid_out(&url, &yaml, |folder, text| {
        own.write(folder, "own");
        std::fs::write(folder.join("ca.pem"), authority.pem()).expect("a file");
        std::fs::write(folder.join("other.pem"), Authority::new().pem()).expect("a file");
        std::fs::write(folder.join("gateway.yaml"), text).expect("a file");
    })
}

#[test]
fn a_server_that_an_authority_vouches_for_is_trusted() {
    let upstream = Recorder::start();
    let authority = Authority::new();
    let front = Front::before(upstream.address(), &authority.issue(&["127.0.0.1"]), None, &[]);
    let gateway = gateway(&front, &authority, "tls: { ca: ca.pem }, health: { path: /health, interval: 50ms }");
    let body = "x".repeat(2_000_000);
    for _ in 0..3 {
        assert_eq!(gateway.ask(&post("/", &body).making("echo")).assert_ok().text(), body);
    }
    let status = gateway.json("/status");
    assert_eq!(status["upstreams"][0]["servers"][0]["healthy"], true, "{status}");
    // The health checks greet anew each time; the requests share what they can.
    assert!(front.greeted.lock().expect("no panic").iter().all(|(host, _, shows)| host.is_none() && !shows));
}

#[test]
fn one_that_nobody_vouches_for_gets_no_request() {
    let upstream = Recorder::start();
    let authority = Authority::new();
    let front = Front::before(upstream.address(), &authority.issue(&["127.0.0.1"]), None, &[]);
    for tls in ["tls: { ca: other.pem }", "tls: { ca: ca.pem, server_name: other.example }", "tls: null"] {
        let gateway = gateway(&front, &authority, tls);
        gateway.ask(&get("/")).assert_problem(502, "upstream_connect");
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[test]
fn the_name_and_the_certificate_of_the_policy_are_shown() {
    let upstream = Recorder::start();
    let authority = Authority::new();
    let front =
        Front::before(upstream.address(), &authority.issue(&["agent.example"]), Some(&authority), &["http/1.1"]);
    let tls = "tls: { ca: ca.pem, cert: own.pem, key: own.key, server_name: agent.example }";
    let gateway = gateway(&front, &authority, tls);
    gateway.ask(&get("/")).assert_ok();
    let greeted = front.greeted.lock().expect("no panic").clone();
    assert_eq!(greeted, [(Some("agent.example".into()), Some("http/1.1".into()), true)]);
}

#[test]
fn http2_is_agreed_on_and_a_server_without_it_is_told_apart() {
    let authority = Authority::new();
    let identity = authority.issue(&["127.0.0.1"]);
    let server = http2::Server::start();
    let front = Front::before(server.address, &identity, None, &["h2"]);
    let with = gateway(&front, &authority, "http2: true, tls: { ca: ca.pem }");
    assert_eq!(with.ask(&post("/", "hello")).assert_ok().text(), "hello");

    let upstream = Recorder::start();
    let front = Front::before(upstream.address(), &identity, None, &["http/1.1"]);
    let without = gateway(&front, &authority, "http2: true, tls: { ca: ca.pem }");
    without.ask(&get("/")).assert_problem(502, "upstream_connect");
}

#[test]
fn an_authority_that_is_changed_is_taken_and_one_that_cannot_be_read_changes_nothing() {
    let upstream = Recorder::start();
    let authority = Authority::new();
    let front = Front::before(upstream.address(), &authority.issue(&["127.0.0.1"]), None, &[]);
    let gateway =
        gateway(&front, &authority, "tls: { ca: ca.pem }, pool: { max_idle: 0 }, eject: { after_failures: 1000 }");
    gateway.ask(&get("/")).assert_ok();
    let file = gateway.folder().join("ca.pem");
    std::fs::remove_file(&file).expect("a file");
    eventually("the log tells", || gateway.log().contains("changed certificates cannot be used"));
    gateway.ask(&get("/")).assert_ok();
    std::fs::write(&file, Authority::new().pem()).expect("a file");
    eventually("the other authority is asked", || gateway.ask(&get("/")).status == 502);
    std::fs::write(&file, authority.pem()).expect("a file");
    eventually("the first is asked again", || gateway.ask(&get("/")).status == 200);
}

#[test]
fn a_reload_that_changes_how_tls_is_spoken_makes_new_connections() {
    let upstream = Recorder::start();
    let authority = Authority::new();
    let front = Front::before(upstream.address(), &authority.issue(&["127.0.0.1", "a.example"]), None, &[]);
    let gateway = gateway(&front, &authority, "tls: { ca: ca.pem }");
    gateway.ask(&get("/")).assert_ok();
    let text = std::fs::read_to_string(gateway.policy_file()).expect("a file");
    let text = text.replace("tls: { ca: ca.pem }", "tls: { ca: ca.pem, server_name: a.example }");
    std::fs::write(gateway.policy_file(), text).expect("a file");
    assert_eq!(gateway.admin(&post("/-/reload", "")).status, 200);
    gateway.ask(&get("/")).assert_ok();
    let hosts: Vec<_> = front.greeted.lock().expect("no panic").iter().map(|(host, _, _)| host.clone()).collect();
    assert_eq!(hosts, [None, Some("a.example".to_owned())]);
}
