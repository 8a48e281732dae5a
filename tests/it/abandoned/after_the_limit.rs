use super::policy;
use crate::harness::{Gateway, Recorder, eventually, get};

#[test]
fn finish_gives_up_after_the_limit() {
    let upstream = Recorder::doing(|exchange| {
        if exchange.head.word(1) != "/gone" {
            return exchange.obey();
        }
        exchange.client_leaves();
        exchange.close();
    });
    let gateway = Gateway::with(&upstream, &policy("abandoned: finish, abandoned_limit: 300ms", "concurrency: 1"));
    let gone = gateway.begin(&get("/gone"));
    upstream.wait_seen(1);
    gone.leave();
    gateway.ask(&get("/next")).assert_ok();
    eventually("its connection is closed", || upstream.seen()[0].client_gone);
    gateway.wait_metric("turnwise_abandoned_total", &[], 1.0);
    assert_eq!(gateway.metric("turnwise_abandoned_total", &[("result", "finished")]), 0.0);
}
