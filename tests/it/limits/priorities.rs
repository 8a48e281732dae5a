use crate::harness::{Gateway, Recorder, get};

const CLASSES: &str = "limits: { concurrency: 1 }
routes:
  - { name: low, match: { path_prefix: /low }, upstream: agents, priority: low }
  - { name: high, match: { path_prefix: /high }, upstream: agents, priority: high }
  - { name: normal, match: { path_prefix: / }, upstream: agents }
";

#[test]
fn the_higher_class_goes_first_and_within_a_class_who_came_first() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, CLASSES);
    let mut running = gateway.begin(&get("/0").making("hold"));
    upstream.wait_seen(1);
    let mut line =
        super::in_line(&gateway, 0, &["/low/1", "/normal/1", "/high/1", "/low/2", "/high/2", "/normal/2"].map(get));
    upstream.open();
    running.response().assert_ok();
    for connection in &mut line {
        connection.response().assert_ok();
    }
    assert_eq!(upstream.targets(), ["/0", "/high/1", "/high/2", "/normal/1", "/normal/2", "/low/1", "/low/2"]);
}
