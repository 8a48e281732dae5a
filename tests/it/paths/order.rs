use crate::harness::{Gateway, Recorder, get, post};

#[test]
fn the_first_match_wins() {
    let upstream = Recorder::start();
    let other = Recorder::start();
    let yaml = format!(
        "upstreams: {{ agents: {{ servers: [\"{{upstream}}\"] }}, other: {{ servers: [\"{}\"] }} }}
routes:
  - {{ name: special, match: {{ path: /a/b }}, upstream: other }}
  - {{ name: general, match: {{ path_prefix: /a }}, upstream: agents }}
",
        other.url()
    );
    let gateway = Gateway::with(&upstream, &yaml);
    gateway.ask(&get("/a/b")).assert_ok();
    gateway.ask(&get("/a/c")).assert_ok();
    assert_eq!((other.targets(), upstream.targets()), (vec!["/a/b".to_owned()], vec!["/a/c".to_owned()]));
    gateway.wait_metric("turnwise_requests_total", &[("route", "special"), ("code", "200")], 1.0);
}

#[test]
fn without_routes_one_upstream_gets_everything() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    gateway.ask(&get("/any/thing")).assert_ok();
    gateway.ask(&post("/", "")).assert_ok();
    gateway.wait_metric("turnwise_requests_total", &[("route", "default"), ("method", "POST")], 1.0);
}
