use crate::harness::{Gateway, Recorder, get, post};

#[test]
fn the_public_port_has_nothing_of_the_admin_port() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let paths = ["/metrics", "/-/ready", "/status", "/sessions", "/config"];
    for path in paths {
        assert_eq!(gateway.ask(&get(path)).assert_ok().text(), "ok\n", "it is the upstream's");
    }
    assert_eq!(upstream.targets(), paths);
}

#[test]
fn the_admin_port_knows_what_it_does_not_have() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    assert_eq!(gateway.admin(&get("/nothing")).status, 404);
    assert_eq!(gateway.admin(&post("/status", "")).status, 405);
    assert_eq!(gateway.admin(&get("/-/drain")).status, 405);
    assert_eq!(upstream.count(), 0);
}
