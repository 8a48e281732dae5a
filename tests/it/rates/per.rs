//! Whose requests are counted together.

use super::limited;
use crate::harness::{Gateway, Recorder, Request, get};

#[track_caller]
fn passes(gateway: &Gateway, from: u8, request: &Request) {
    gateway.connect_from(from).ask(request).response().assert_ok();
}

#[track_caller]
fn refused(gateway: &Gateway, from: u8, request: &Request) {
    gateway.connect_from(from).ask(request).response().assert_problem(429, "rate_limited");
}

#[test]
fn client_address() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &limited("{ per: client_ip, rate: 1/h, burst: 2 }"));
    for client in [2, 3] {
        passes(&gateway, client, &get("/"));
        passes(&gateway, client, &get("/").header("X-Forwarded-For", "9.9.9.9"));
        refused(&gateway, client, &get("/").header("X-Forwarded-For", "8.8.8.8"));
    }
}

#[test]
fn client_address_behind_a_trusted_proxy() {
    let upstream = Recorder::start();
    let yaml = format!(
        "server: {{ trusted_proxies: [127.0.0.2/32] }}\n{}",
        limited("{ per: client_ip, rate: 1/h, burst: 1 }")
    );
    let gateway = Gateway::with(&upstream, &yaml);
    passes(&gateway, 2, &get("/").header("X-Forwarded-For", "9.9.9.9"));
    passes(&gateway, 2, &get("/").header("X-Forwarded-For", "8.8.8.8"));
    refused(&gateway, 2, &get("/").header("X-Forwarded-For", "1.1.1.1, 9.9.9.9"));
}

#[test]
fn route() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "routes:
  - { name: a, match: { path_prefix: /a }, upstream: agents, rate_limits: [{ per: route, rate: 1/h, burst: 1 }] }
  - { name: b, match: { path_prefix: /b }, upstream: agents, rate_limits: [{ per: route, rate: 1/h, burst: 1 }] }
",
    );
    passes(&gateway, 2, &get("/a"));
    refused(&gateway, 3, &get("/a"));
    passes(&gateway, 3, &get("/b"));
}

#[test]
fn header_and_all_without_it_together() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &limited("{ per: { header: X-Api-Key }, rate: 1/h, burst: 1 }"));
    for key in ["one", "two"] {
        passes(&gateway, 2, &get("/").header("X-Api-Key", key));
        refused(&gateway, 3, &get("/").header("x-api-key", key));
    }
    passes(&gateway, 2, &get("/"));
    refused(&gateway, 3, &get("/"));
}

#[test]
fn session_and_anonymous_ones_by_address() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(
        &upstream,
        "routes:\n  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ header: X-Session-Id }] }, rate_limits: [{ per: session, rate: 1/h, burst: 1 }] }\n",
    );
    for session in ["a", "b"] {
        passes(&gateway, 2, &get("/").session(session));
        refused(&gateway, 3, &get("/").session(session));
    }
    passes(&gateway, 2, &get("/"));
    refused(&gateway, 2, &get("/"));
    passes(&gateway, 3, &get("/"));
}
