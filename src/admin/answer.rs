//! The shapes of admin answers.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};

pub type Answer = Response<Full<Bytes>>;

pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    with(status, "text/plain; charset=utf-8", text.into())
}

pub fn json(status: StatusCode, value: &Value) -> Answer {
    let mut body = value.to_string();
    body.push('\n');
    with(status, "application/json", body.into())
}

pub fn problem(status: StatusCode, detail: &str) -> Answer {
    let title = status.canonical_reason().unwrap_or("");
    let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    with(status, "application/problem+json", body.to_string().into())
}

pub fn with(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // What is true now may not be in a second.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
