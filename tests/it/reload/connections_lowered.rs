use super::in_force;
use crate::harness::{Gateway, Recorder, eventually, get, wait};

fn policy(connections: u32, concurrency: u32) -> String {
    format!("server: {{ max_connections: {connections} }}\nlimits: {{ concurrency: {concurrency} }}\n")
}

#[test]
fn fewer_connections_are_in_force_without_a_restart_and_so_is_the_change_after_them() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy(100, 10));
    gateway.write_policy(&upstream, &policy(50, 7));
    eventually("the lowered policy is in force", || gateway.json("/status")["limits"]["concurrency"] == 7);
    in_force(&gateway, 7);
    assert_eq!(gateway.generation(), 2.0);
    gateway.write_policy(&upstream, &policy(20, 9));
    eventually("the next policy is in force", || gateway.json("/status")["limits"]["concurrency"] == 9);
    in_force(&gateway, 9);
    gateway.ask(&get("/")).assert_ok();
}

#[test]
fn fewer_connections_than_are_open_hold_for_newcomers() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy(3, 10));
    let mut open: Vec<_> = (0..3).map(|_| gateway.begin(&get("/open"))).collect();
    open.iter_mut().for_each(|connection| {
        connection.response().assert_ok();
    });
    gateway.write_policy(&upstream, &policy(2, 7));
    eventually("the lowered policy is in force", || gateway.json("/status")["limits"]["concurrency"] == 7);
    let mut newcomer = gateway.begin(&get("/newcomer"));
    open.pop().expect("three").leave();
    wait::give_it_a_chance();
    assert_eq!(upstream.count(), 3, "two are open, and no more may be");
    open.pop().expect("two").leave();
    newcomer.response().assert_ok();
    open[0].ask(&get("/stays")).response().assert_ok();
}
