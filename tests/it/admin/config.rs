use crate::harness::{Gateway, Recorder, get};

#[test]
fn it_shows_the_policy_in_force_with_its_defaults() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "limits: { concurrency: 7 }\n");
    let config = gateway.admin(&get("/config"));
    let text = config.assert_ok().text();
    for part in ["concurrency", "7", "queue_timeout", "agents", "keep_alive_timeout"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    gateway.reload(&upstream, "limits: { concurrency: 77 }\n");
    assert!(gateway.admin(&get("/config")).text().contains("77"));
}

#[test]
fn secrets_are_hidden() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "routes:\n  - { name: a, match: { path_prefix: /, headers: { Authorization: \"Bearer hunter3\" } }, upstream: agents }\n",
    );
    let said = gateway.admin(&get("/config")).text() + &gateway.admin(&get("/status")).text() + &gateway.metrics().text;
    assert!(!said.contains("hunter3"), "{said}");
    assert!(said.contains("authorization"), "the field itself is no secret: {said}");
}
