use crate::harness::{Gateway, Recorder, get};

#[test]
fn via_is_added() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    gateway.ask(&get("/")).assert_ok();
    let via = upstream.only().header("via").expect("Via");
    assert!(via.starts_with("1.1 "), "{via}");
}

#[test]
fn a_via_that_is_there_is_extended() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    gateway.ask(&get("/").header("Via", "1.0 old")).assert_ok();
    let via = upstream.only().header("via").expect("Via");
    assert!(via.starts_with("1.0 old, 1.1 "), "{via}");
}

#[test]
fn host_passes_as_it_came() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    for host in ["agents.example", "Agents.Example:8443", "10.0.0.1", "[::1]:80"] {
        gateway.ask(&get("/").header("Host", host)).assert_ok();
        assert_eq!(upstream.seen().last().expect("one").head.all("host"), [host]);
    }
}

#[test]
fn a_target_with_an_authority_is_sent_on_as_a_path_with_that_host() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    gateway.say("GET http://real.example/x?y HTTP/1.1\r\nHost: real.example\r\n\r\n").response().assert_ok();
    let seen = upstream.only();
    assert_eq!(seen.target(), "/x?y");
    assert_eq!(seen.head.all("host"), ["real.example"]);
}
