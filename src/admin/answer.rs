//! The shapes of admin answers.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};

pub type Answer = Response<Full<Bytes>>;

/// What every answer says to browsers: it is for who asked, it is what it says it is, and it is shown in no frame.
const TO_BROWSERS: [(HeaderName, &str); 6] = [
    // What is true now may not be in a second.
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    with(status, "text/plain; charset=utf-8", text.into())
}

pub fn json(status: StatusCode, value: &Value) -> Answer {
    let mut body = value.to_string();
    body.push('\n');
    with(status, "application/json", body.into())
}

pub fn problem(status: StatusCode, detail: &str) -> Answer {
    told(status, detail, None)
}

/// 403, with a word for programs.
pub fn refused(reason: &str, detail: &str) -> Answer {
    told(StatusCode::FORBIDDEN, detail, Some(reason))
}

fn told(status: StatusCode, detail: &str, reason: Option<&str>) -> Answer {
    let title = status.canonical_reason().unwrap_or("");
    let mut body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    if let Some(reason) = reason {
        body["reason"] = reason.into();
    }
    with(status, "application/problem+json", body.to_string().into())
}

pub fn with(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in TO_BROWSERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}
