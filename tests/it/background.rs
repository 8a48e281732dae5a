//! Requests that are answered later: accepted when they are on disk, run in their order, and never lost.

mod accepted;
mod cancelled;
mod drained;
mod full;
mod killed;
mod limits;
mod operators;
mod order;
mod preferences;
mod protocols;
mod reloaded;
mod results;
mod retried;
mod store;
mod strangers;
mod waited_for;

use serde_json::Value;

use crate::harness::{Gateway, Request, Response, eventually, get, post, request};

/// A policy whose requests are answered later where their client prefers that. `queue`: keys of `background`; `route`:
/// more keys of the one route, behind a comma.
fn policy(queue: &str, route: &str) -> String {
    format!(
        "background: {{ {queue} }}\nroutes:\n  - {{ name: runs, match: {{ path_prefix: / }}, upstream: agents, \
         background: prefer{route} }}\n"
    )
}

/// The same, with sessions named by `X-Session-Id`.
fn in_sessions(queue: &str) -> String {
    policy(queue, ", session: { key: [{ header: X-Session-Id }] }")
}

/// A job's request, which the recorder knows by `tag`.
fn job(tag: &str, what: &str) -> Request {
    post(&format!("/{tag}"), tag).header("Prefer", "respond-async").making(what)
}

/// The path of a job that was accepted.
#[track_caller]
fn accepted(answer: &Response) -> String {
    assert_eq!(answer.status, 202, "{}{}", answer.head.raw, answer.text());
    answer.header("location").expect("Location")
}

#[track_caller]
fn accept(gateway: &Gateway, request: &Request) -> String {
    accepted(&gateway.ask(request))
}

#[track_caller]
fn status(gateway: &Gateway, path: &str) -> Value {
    gateway.ask(&get(path)).assert_ok().json()
}

/// Waits until a job stands so.
#[track_caller]
fn becomes(gateway: &Gateway, path: &str, wanted: &str) -> Value {
    let mut last = Value::Null;
    eventually(&format!("{path} is {wanted}"), || {
        last = status(gateway, path);
        last["status"] == wanted
    });
    last
}

#[track_caller]
fn result(gateway: &Gateway, path: &str) -> Response {
    gateway.ask(&get(&format!("{path}/result")))
}

fn cancel(path: &str) -> Request {
    request("DELETE", path)
}

/// How many jobs stand so, for the operator.
#[track_caller]
fn count(gateway: &Gateway, status: &str) -> u64 {
    gateway.json("/status")["jobs"][status].as_u64().expect("a number")
}
