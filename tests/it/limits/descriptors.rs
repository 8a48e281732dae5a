//! File descriptors that run short while it runs.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;

use rlimit::{Resource, prlimit};

use crate::harness::wait::give_it_a_chance;
use crate::harness::{Gateway, Recorder, eventually, get};

const POLICY: &str = "server: { workers: 1 }
upstreams:
  agents: { servers: [\"{upstream}\"], connect_timeout: 1s, eject: { after_failures: 1, for: 60s } }
  others: { servers: [\"{upstream}\"], connect_timeout: 1s, eject: { after_failures: 1, for: 60s } }
routes:
  - { name: other, match: { path: /other }, upstream: others }
  - { name: all, upstream: agents }
";

/// The descriptors that are open once none is being closed any more, as those of the admin port's answered connections are.
fn open(gateway: &Gateway) -> BTreeSet<u64> {
    let pid = gateway.pid();
    let look = || -> BTreeSet<u64> {
        let names = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("our child");
        names.map(|name| name.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
    };
    let mut open = look();
    eventually("none is being closed", || {
        give_it_a_chance();
        std::mem::replace(&mut open, look()) == open
    });
    open
}

/// Leaves the gateway so many descriptors beyond those that it has open.
fn leave(gateway: &Gateway, spare: usize) {
    // The limit is on their numbers.
    let open = open(gateway);
    let limit = (0..).filter(|number| !open.contains(number)).nth(spare).expect("there is always another number");
    let pid = i32::try_from(gateway.pid()).expect("a pid");
    let mut old = (0, 0);
    prlimit(pid, Resource::NOFILE, None, Some((&mut old.0, &mut old.1))).expect("our child");
    prlimit(pid, Resource::NOFILE, Some((limit, old.1)), None).expect("lower is allowed");
}

#[test]
fn idle_connections_to_servers_make_room_for_one_that_is_needed() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, POLICY);
    // From here on each new one has the least number that is free, and so has the connection to the server.
    open(&gateway);
    let mut client = gateway.connect();
    client.ask(&get("/"));
    client.response().assert_ok();
    leave(&gateway, 0);
    // To an upstream that has no connection yet.
    client.ask(&get("/other"));
    client.response().assert_ok();
    assert_eq!(gateway.metrics().sum("turnwise_upstream_errors_total", &[]).unwrap_or(0.0), 0.0);
}

#[test]
fn without_any_the_gateway_is_to_blame_and_not_the_server_and_probes_are_answered() {
    let upstream = Recorder::start();
    let policy = POLICY.replace("connect_timeout: 1s", "connect_timeout: 300ms, pool: { max_idle: 0 }");
    let gateway = Gateway::with(&upstream, &policy);
    let mut client = gateway.connect();
    client.ask(&get("/"));
    client.response().assert_ok();
    eventually("its connection to the server is closed", || {
        gateway.metrics().sum("turnwise_upstream_connections", &[]).unwrap_or(0.0) == 0.0
    });
    leave(&gateway, 0);
    client.ask(&get("/"));
    client.response().assert_problem(503, "queue_full");
    assert_eq!(gateway.admin(&get("/-/healthy")).status, 200);
    leave(&gateway, 100);
    client.ask(&get("/"));
    client.response().assert_ok();
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("turnwise_upstream_errors_total", &[]).unwrap_or(0.0), 0.0);
    assert_eq!(metrics.sum("turnwise_upstream_ejections_total", &[]).unwrap_or(0.0), 0.0);
    assert_eq!(metrics.sum("turnwise_upstream_retries_total", &[]).unwrap_or(0.0), 0.0);
}

#[test]
fn a_reload_takes_as_many_connections_as_there_is_room_for() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, POLICY);
    leave(&gateway, 90);
    gateway.reload(&upstream, &format!("{POLICY}# changed\n"));
    let taken = gateway.json("/status")["max_connections"].as_u64().expect("a number");
    assert!((20..40).contains(&taken), "{taken}");
}
