//! What a client is told of its request that is answered later.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::background::job::{Answer, JobId, Status, View};
use crate::request::RequestId;
use crate::response::body::ProxyBody;

/// Where clients find their jobs.
pub const PATH: &str = "/_turnwise/jobs/";

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const RESPOND_ASYNC: HeaderValue = HeaderValue::from_static("respond-async");

/// It was accepted, and stands as `view` says; without one it is queued.
#[must_use]
pub fn accepted(id: JobId, view: Option<&View>, request_id: &RequestId) -> Response<ProxyBody> {
    let status = view.map_or(Status::Queued, |view| view.status);
    let body = json!({ "id": id.to_string(), "status": status.word() });
    let mut response = own(StatusCode::ACCEPTED, &body, request_id);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location(id));
    headers.insert("preference-applied", RESPOND_ASYNC);
    // One that has ended, and has no answer to give, will have none later.
    if !status.has_ended() {
        headers.insert(header::RETRY_AFTER, seconds(view.map_or(Duration::ZERO, |view| view.again_in)).into());
    }
    response
}

/// How it stands.
#[must_use]
pub fn status(view: &View, request_id: &RequestId) -> Response<ProxyBody> {
    let mut response = own(StatusCode::OK, &shown(view), request_id);
    if !view.status.has_ended() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds(view.again_in).into());
    }
    response
}

/// The answer as it came.
#[must_use]
pub fn result(answer: Answer) -> Response<ProxyBody> {
    let mut response = Response::new(ProxyBody::own(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

/// A job for its client.
#[must_use]
pub fn shown(view: &View) -> Value {
    json!({
        "id": view.id.to_string(),
        "status": view.status.word(),
        "attempts": view.attempts,
        "created_at": wall_clock(view.created_at),
        "finished_at": view.finished_at.map(wall_clock),
        "error": view.error.as_deref(),
    })
}

/// Methods that a job, or its answer, has.
pub fn allow(response: &mut Response<ProxyBody>, methods: &'static str) {
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
}

/// What is kept of the fields of an answer: not its framing, which is made anew.
pub fn keep(headers: &mut HeaderMap) {
    for name in [header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::TRAILER] {
        headers.remove(name);
    }
}

fn own(status: StatusCode, body: &Value, request_id: &RequestId) -> Response<ProxyBody> {
    let mut text = body.to_string();
    text.push('\n');
    let mut response = Response::new(ProxyBody::own(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    // It is another one a moment later, and nobody else's business.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-request-id", request_id.as_value().clone());
    response
}

fn location(id: JobId) -> HeaderValue {
    HeaderValue::from_str(&format!("{PATH}{id}")).expect("names of jobs are hexadecimal digits")
}

/// Milliseconds since 1970, as people and other programs tell time.
fn wall_clock(millis: u64) -> String {
    let at: SystemTime = UNIX_EPOCH + Duration::from_millis(millis);
    humantime::format_rfc3339_millis(at).to_string()
}

/// Whole seconds, rounded up, at least one.
fn seconds(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).max(1)
}
