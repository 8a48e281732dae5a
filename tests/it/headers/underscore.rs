//! Many servers read `X_Session_Id` as `X-Session-Id`. A name that only looks like one that counts does not pass.

use crate::harness::{Gateway, Recorder, get};

#[test]
fn a_name_that_the_gateway_or_its_policy_reads_is_dropped_with_an_underscore() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "routes:\n  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ header: X-Session-Id }], within: [{ header: X-Tenant }] } }\n",
    );
    let asked = get("/")
        .header("X_Session_Id", "forged")
        .header("X-Tenant", "good")
        .header("X_Tenant", "forged")
        .header("X_Forwarded_For", "forged")
        .header("X-Forwarded_For", "forged")
        .header("X_Request_Id", "forged")
        .header("Content_Length", "forged")
        .header("Transfer_Encoding", "forged")
        .header("X_Own_Name", "kept");
    gateway.ask(&asked).assert_ok();
    let seen = upstream.only();
    assert!(!seen.head.raw.contains("forged"), "{}", seen.head.raw);
    assert_eq!(seen.header("x_own_name").as_deref(), Some("kept"));
    assert_eq!(seen.header("x-tenant").as_deref(), Some("good"));
}
