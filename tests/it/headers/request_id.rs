use crate::harness::{Gateway, Recorder, get};

#[test]
fn one_is_made_sent_upstream_and_returned() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let ids: Vec<String> = (0..2)
        .map(|place| {
            let answer = gateway.ask(&get("/"));
            let id = answer.assert_ok().header("x-request-id").expect("an id");
            assert_eq!(upstream.seen()[place].header("x-request-id").as_deref(), Some(id.as_str()));
            id
        })
        .collect();
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn the_clients_own_is_kept() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let answer = gateway.ask(&get("/").header("X-Request-Id", "mine-1"));
    assert_eq!(answer.assert_ok().header("x-request-id").as_deref(), Some("mine-1"));
    assert_eq!(upstream.only().head.all("x-request-id"), ["mine-1"]);
}

#[test]
fn a_refusal_names_it_in_field_and_body() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "routes: [{ name: a, match: { path: /a }, upstream: agents }]\n");
    let answer = gateway.ask(&get("/b").header("X-Request-Id", "mine-2"));
    assert_eq!(answer.assert_problem(404, "no_route").json()["request_id"], "mine-2");
    assert_eq!(answer.header("x-request-id").as_deref(), Some("mine-2"));
}
