//! The gateway's own answers, as problem details (RFC 9457). The only file that names status codes.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::admission::{QueueScope, Quota, Rejection};
use crate::request::RequestId;
use crate::request::exchange::{EndedBy, UploadFault};
use crate::request::framing::MAX_FIELDS;
use crate::response::body::ProxyBody;
use crate::upstream::failure::Failure;

/// Why the gateway answers itself. Each becomes one row of the table in the documentation.
#[derive(Debug, Clone)]
pub enum Refusal {
    NoRoute,
    /// What is wrong with the request, in a sentence.
    BadRequest(Cow<'static, str>),
    /// As [`BadRequest`](Self::BadRequest), where the end of the message is in doubt: the connection is closed.
    BadFraming(Cow<'static, str>),
    HeadTimeout,
    HeadTooLarge {
        limit: usize,
    },
    SessionRequired,
    BodyTooLarge {
        limit: u64,
    },
    Rejected(Rejection),
    /// The idempotency key of another request that is here or whose answer is kept.
    IdempotencyMismatch,
    Failed(Failure),
    Job(JobRefusal),
    Draining,
    /// A bug of ours; the log has the rest.
    Internal,
}

/// What is refused of requests that are answered later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobRefusal {
    /// `background.queue` or `background.store_bytes` is reached.
    QueueFull {
        detail: &'static str,
        retry_after: Duration,
    },
    /// It cannot be written to disk.
    NotWritten,
    /// There is no such job, as far as the asker may know.
    Unknown,
    NotFinished {
        retry_after: Duration,
    },
    /// It has ended, and no answer is kept.
    NoResult,
    /// Nothing of the kind can be done with it.
    Method,
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Interrupted(EndedBy::Drain) => Self::Draining,
            rejection => Self::Rejected(rejection),
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// One row of the table: what all refusals of a reason have in common.
struct Kind {
    reason: &'static str,
    status: StatusCode,
    title: &'static str,
    /// RFC 9209, section 2.3.
    proxy_error: &'static str,
}

macro_rules! kinds {
    ($($name:ident = $reason:literal, $status:ident, $title:literal, $proxy_error:literal;)*) => {
        $(const $name: Kind = Kind {
            reason: $reason, status: StatusCode::$status, title: $title, proxy_error: $proxy_error,
        };)*
    };
}

kinds! {
    NO_ROUTE = "no_route", NOT_FOUND, "No route matches this request", "destination_not_found";
    BAD_REQUEST = "bad_request", BAD_REQUEST, "The request is malformed or ambiguous", "http_request_error";
    HEAD_TIMEOUT = "head_timeout", REQUEST_TIMEOUT, "The request head did not come in time", "http_request_error";
    REQUEST_TIMEOUT = "request_timeout", REQUEST_TIMEOUT, "The request body did not come in time", "http_request_error";
    HEAD_TOO_LARGE = "head_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, "The request head is too large", "http_request_error";
    SESSION_REQUIRED = "session_required", BAD_REQUEST, "This route needs a session key", "http_request_denied";
    BODY_TOO_LARGE = "body_too_large", PAYLOAD_TOO_LARGE, "The request body is too large", "http_request_error";
    RATE_LIMITED = "rate_limited", TOO_MANY_REQUESTS, "Request cannot be satisfied as assigned quota has been exceeded", "http_request_denied";
    SESSION_QUEUE_FULL = "session_queue_full", TOO_MANY_REQUESTS, "Too many requests wait for this session", "http_request_denied";
    SESSION_QUEUE_TIMEOUT = "session_queue_timeout", TOO_MANY_REQUESTS, "The session's turn did not come in time", "http_request_denied";
    INTERRUPTED = "interrupted", CONFLICT, "The request was interrupted", "http_request_denied";
    SESSION_BUSY = "session_busy", CONFLICT, "The session is busy", "http_request_denied";
    TURN_DEADLOCK = "turn_deadlock", CONFLICT, "The turn would wait for itself", "http_request_denied";
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch", UNPROCESSABLE_ENTITY, "The Idempotency-Key is another request's", "http_request_denied";
    QUEUE_FULL = "queue_full", SERVICE_UNAVAILABLE, "Too many requests wait", "connection_limit_reached";
    KEY_TABLE_FULL = "key_table_full", SERVICE_UNAVAILABLE, "Too many sessions and clients at once", "connection_limit_reached";
    QUEUE_TIMEOUT = "queue_timeout", SERVICE_UNAVAILABLE, "No place became free in time", "connection_limit_reached";
    UPSTREAM_UNAVAILABLE = "upstream_unavailable", SERVICE_UNAVAILABLE, "No healthy server", "destination_unavailable";
    UPSTREAM_CONNECT = "upstream_connect", BAD_GATEWAY, "The server could not be reached", "connection_refused";
    UPSTREAM_NO_ADDRESS = "upstream_connect", BAD_GATEWAY, "The server's name has no address", "dns_error";
    UPSTREAM_BROKEN = "upstream_broken", BAD_GATEWAY, "The server gave no proper response", "connection_terminated";
    UPSTREAM_CONNECT_TIMEOUT = "upstream_timeout", GATEWAY_TIMEOUT, "The server could not be reached in time", "connection_timeout";
    UPSTREAM_TIMEOUT = "upstream_timeout", GATEWAY_TIMEOUT, "The server did not answer in time", "http_response_timeout";
    JOB_QUEUE_FULL = "job_queue_full", SERVICE_UNAVAILABLE, "The job queue is full", "connection_limit_reached";
    JOB_NOT_WRITTEN = "job_store_failed", SERVICE_UNAVAILABLE, "The job could not be stored", "proxy_internal_error";
    NO_JOB = "no_job", NOT_FOUND, "There is no such job", "destination_not_found";
    JOB_NOT_FINISHED = "job_not_finished", CONFLICT, "The job has not ended", "http_request_denied";
    NO_RESULT = "no_result", NOT_FOUND, "The job has no result", "destination_not_found";
    JOB_METHOD = "method_not_allowed", METHOD_NOT_ALLOWED, "A job has other methods", "http_request_denied";
    DRAINING = "draining", SERVICE_UNAVAILABLE, "The gateway is shutting down", "destination_unavailable";
    INTERNAL = "internal", INTERNAL_SERVER_ERROR, "The gateway failed", "proxy_internal_error";
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: Cow<'a, str>,
    title: &'a str,
    status: u16,
    detail: &'a str,
    reason: &'a str,
    request_id: &'a str,
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated_policies: Option<[&'a str; 1]>,
}

/// The problem type that IANA has registered for what a rate limit says.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
/// When nothing is known about when it may be better, in seconds.
const SOON: Duration = Duration::from_secs(1);

impl Refusal {
    /// The `reason` of the problem, and the label of `turnwise_rejected_total`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.kind().reason
    }

    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.kind().status
    }

    fn kind(&self) -> &'static Kind {
        match self {
            Self::NoRoute => &NO_ROUTE,
            Self::BadRequest(_) | Self::BadFraming(_) => &BAD_REQUEST,
            Self::HeadTimeout => &HEAD_TIMEOUT,
            Self::HeadTooLarge { .. } => &HEAD_TOO_LARGE,
            Self::SessionRequired => &SESSION_REQUIRED,
            Self::BodyTooLarge { .. } => &BODY_TOO_LARGE,
            Self::IdempotencyMismatch => &IDEMPOTENCY_MISMATCH,
            Self::Job(job) => match job {
                JobRefusal::QueueFull { .. } => &JOB_QUEUE_FULL,
                JobRefusal::NotWritten => &JOB_NOT_WRITTEN,
                JobRefusal::Unknown => &NO_JOB,
                JobRefusal::NotFinished { .. } => &JOB_NOT_FINISHED,
                JobRefusal::NoResult => &NO_RESULT,
                JobRefusal::Method => &JOB_METHOD,
            },
            Self::Draining => &DRAINING,
            Self::Internal => &INTERNAL,
            Self::Rejected(rejection) => match rejection {
                Rejection::RateLimited { .. } => &RATE_LIMITED,
                Rejection::SessionQueueFull { .. } => &SESSION_QUEUE_FULL,
                Rejection::SessionQueueTimeout { .. } => &SESSION_QUEUE_TIMEOUT,
                Rejection::QueueFull { .. } => &QUEUE_FULL,
                Rejection::KeyTableFull { .. } => &KEY_TABLE_FULL,
                Rejection::QueueTimeout { .. } => &QUEUE_TIMEOUT,
                Rejection::SessionBusy | Rejection::NestedTooDeep { .. } | Rejection::EqualRuns => &SESSION_BUSY,
                Rejection::TurnDeadlock => &TURN_DEADLOCK,
                Rejection::Interrupted(_) => &INTERRUPTED,
            },
            Self::Failed(failure) => match failure {
                Failure::Unavailable => &UPSTREAM_UNAVAILABLE,
                Failure::NoRoom => &QUEUE_TIMEOUT,
                Failure::NoDescriptor => &QUEUE_FULL,
                Failure::Connect => &UPSTREAM_CONNECT,
                Failure::NoAddress => &UPSTREAM_NO_ADDRESS,
                Failure::Broken => &UPSTREAM_BROKEN,
                Failure::ConnectTimeout => &UPSTREAM_CONNECT_TIMEOUT,
                Failure::ResponseTimeout | Failure::TotalTimeout => &UPSTREAM_TIMEOUT,
                Failure::Upload(UploadFault::Broken | UploadFault::Left) => &BAD_REQUEST,
                Failure::Upload(UploadFault::TooLarge) => &BODY_TOO_LARGE,
                Failure::Upload(UploadFault::Timeout) => &REQUEST_TIMEOUT,
            },
        }
    }

    /// What happened, in a sentence with the numbers. Names limits by their keys in the policy, and nothing of what
    /// went wrong inside.
    fn detail(&self) -> Cow<'static, str> {
        match self {
            Self::NoRoute => "No route of the policy matches the method, host, path and headers.".into(),
            Self::BadRequest(detail) | Self::BadFraming(detail) => detail.clone(),
            Self::HeadTimeout => "The request head was not complete within server.header_timeout.".into(),
            Self::HeadTooLarge { limit } => {
                format!(
                    "The request line and fields exceed server.max_header_bytes ({limit} bytes), or are more than {MAX_FIELDS}."
                )
                .into()
            }
            Self::SessionRequired => "None of the places that the route reads its session key from has one.".into(),
            Self::BodyTooLarge { limit } => {
                format!("The request body exceeds the route's body_limit ({limit} bytes).").into()
            }
            Self::IdempotencyMismatch => {
                "A request with this Idempotency-Key and another body runs, waits or was answered lately.".into()
            }
            Self::Job(job) => job.detail().into(),
            Self::Draining => "The gateway takes no new requests; it is finishing those it has.".into(),
            Self::Internal => "An error in the gateway ended the request; its log has the details.".into(),
            Self::Rejected(rejection) => rejection_detail(rejection),
            Self::Failed(failure) => failure_detail(*failure).into(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        let known = match self {
            Self::Rejected(
                Rejection::RateLimited { retry_after, .. }
                | Rejection::SessionQueueFull { retry_after, .. }
                | Rejection::SessionQueueTimeout { retry_after, .. }
                | Rejection::QueueFull { retry_after, .. }
                | Rejection::KeyTableFull { retry_after }
                | Rejection::QueueTimeout { retry_after, .. },
            ) => *retry_after,
            Self::Job(JobRefusal::QueueFull { retry_after, .. } | JobRefusal::NotFinished { retry_after }) => {
                *retry_after
            }
            _ => SOON,
        };
        let wanted = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&self.status())
            || matches!(self, Self::Job(JobRefusal::NotFinished { .. }));
        wanted.then_some(known)
    }

    fn quota(&self) -> Option<&Quota> {
        match self {
            Self::Rejected(Rejection::RateLimited { quota, .. }) => Some(quota),
            _ => None,
        }
    }

    /// Whether certainly no server has worked on the request.
    #[must_use]
    pub fn is_unprocessed(&self) -> bool {
        match self {
            Self::Rejected(_) | Self::Job(_) | Self::Draining => true,
            Self::Failed(failure) => failure.is_unprocessed(),
            _ => false,
        }
    }

    /// Whether its client has gone, so that nobody gets it.
    #[must_use]
    pub fn is_for_nobody(&self) -> bool {
        matches!(self, Self::Failed(Failure::Upload(UploadFault::Left)))
    }

    /// Whether a client that repeats it by itself does harm: to the newer request, or to nobody's good.
    fn is_not_to_be_repeated(&self) -> bool {
        [INTERRUPTED.reason, SESSION_BUSY.reason, TURN_DEADLOCK.reason, IDEMPOTENCY_MISMATCH.reason]
            .contains(&self.reason())
    }

    /// Whether the connection must not be used again.
    fn closes(&self) -> bool {
        matches!(self, Self::BadFraming(_) | Self::HeadTimeout | Self::HeadTooLarge { .. } | Self::Draining)
            || matches!(self, Self::Failed(Failure::Upload(_)) | Self::BodyTooLarge { .. })
    }

    /// The body of the answer.
    #[must_use]
    pub fn problem(&self, request_id: &str) -> Bytes {
        let kind = self.kind();
        let quota = self.quota();
        let problem = Problem {
            r#type: match quota {
                Some(_) => QUOTA_EXCEEDED.into(),
                None => format!("urn:turnwise:problem:{}", kind.reason).into(),
            },
            title: kind.title,
            status: kind.status.as_u16(),
            detail: &self.detail(),
            reason: kind.reason,
            request_id,
            violated_policies: quota.map(|quota| [&*quota.allowance.name]),
        };
        serde_json::to_vec(&problem).unwrap_or_default().into()
    }

    /// The whole answer. `http1`: connections are spoken of (in HTTP/2 they are not).
    #[must_use]
    pub fn into_response(self, request_id: &RequestId, http1: bool) -> Response<ProxyBody> {
        let kind = self.kind();
        let body = self.problem(request_id.as_str());
        let mut response = Response::new(ProxyBody::own(body));
        *response.status_mut() = kind.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert("proxy-status", static_value(&format!("turnwise; error={}", kind.proxy_error)));
        headers.insert("x-request-id", request_id.as_value().clone());
        if let Some(wait) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, whole_seconds(wait).into());
        }
        if self.is_not_to_be_repeated() {
            // The SDKs of OpenAI and Anthropic repeat a 409 by themselves unless told not to.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if let Some(quota) = self.quota() {
            set_quota(headers, quota);
        }
        if http1 && self.closes() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// As [`into_response`](Self::into_response), and the answer carries this among its extensions: whoever shares it can
    /// give it to others as its own.
    #[must_use]
    pub fn respond(self, request_id: &RequestId, http1: bool) -> Response<ProxyBody> {
        let mut response = self.clone().into_response(request_id, http1);
        response.extensions_mut().insert(self);
        response
    }

    /// The whole answer as bytes of HTTP/1.1, for heads that no request was made of.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        let request_id = RequestId::of(&HeaderMap::new());
        let kind = self.kind();
        let body = self.problem(request_id.as_str());
        let phrase = kind.status.canonical_reason().unwrap_or("");
        let mut bytes = format!(
            "HTTP/1.1 {} {phrase}\r\ncontent-type: application/problem+json\r\nproxy-status: turnwise; error={}\r\n\
             x-request-id: {request_id}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            kind.status.as_u16(),
            kind.proxy_error,
            body.len(),
        )
        .into_bytes();
        bytes.extend_from_slice(&body);
        bytes
    }
}

impl JobRefusal {
    fn detail(self) -> &'static str {
        match self {
            Self::QueueFull { detail, .. } => detail,
            Self::NotWritten => "The disk of background.store takes nothing at the moment. Nothing was accepted.",
            Self::Unknown => "There is no job of this name, it is another caller's, or its time is over.",
            Self::NotFinished { .. } => "The job has not ended. Ask again later.",
            Self::NoResult => "The job ended without an answer that is kept; its status says why.",
            Self::Method => "A job is looked at with GET and cancelled with DELETE.",
        }
    }
}

fn rejection_detail(rejection: &Rejection) -> Cow<'static, str> {
    match rejection {
        Rejection::RateLimited { quota, .. } => format!(
            "The rate limit `{}` allows {} requests in {}; none is left.",
            quota.allowance.name,
            quota.allowance.burst,
            seconds(quota.allowance.interval.saturating_mul(quota.allowance.burst.get()))
        )
        .into(),
        Rejection::SessionQueueFull { waiting, .. } => {
            format!("{waiting} requests wait for this session already (session.queue).").into()
        }
        Rejection::SessionQueueTimeout { waited, .. } => {
            format!("The session was busy for {} (session.queue_timeout).", seconds(*waited)).into()
        }
        Rejection::QueueFull { scope, .. } => match scope {
            QueueScope::Requests => "limits.queue requests wait already.".into(),
            QueueScope::RequestsShare => {
                "This client has its share of limits.queue waiting (limits.queue_share).".into()
            }
            QueueScope::Bytes => "With this body, those that are held would be more than limits.queue_bytes.".into(),
            QueueScope::BytesShare => "This client holds its share of limits.queue_bytes (limits.queue_share).".into(),
        },
        Rejection::KeyTableFull { .. } => {
            "As many sessions and rate-limit keys are in use as limits.keys allows.".into()
        }
        Rejection::QueueTimeout { waited, .. } => {
            format!("No place became free within {} (limits.queue_timeout).", seconds(*waited)).into()
        }
        Rejection::SessionBusy => "Another request of this session runs or waits (session.when_busy).".into(),
        Rejection::EqualRuns => "An equal request runs, and the beginning of its answer is gone by.".into(),
        Rejection::NestedTooDeep { most } => format!("Requests are nested at most {most} deep.").into(),
        Rejection::TurnDeadlock => "The nested request would wait for a turn that waits for its own to end.".into(),
        Rejection::Interrupted(by) => match by {
            EndedBy::Operator => "The request was ended by an operator.",
            EndedBy::Replace => "A newer request of this session took its stead.",
            EndedBy::Interrupt => "A newer request of this session interrupted it.",
            EndedBy::Abandoned => "Nobody waited for it any more.",
            EndedBy::Drain => "The gateway is shutting down.",
        }
        .into(),
    }
}

fn failure_detail(failure: Failure) -> &'static str {
    match failure {
        Failure::Unavailable => "No server of the upstream is healthy.",
        Failure::NoRoom => "No server of the upstream had room within limits.queue_timeout.",
        Failure::NoDescriptor => "The gateway has no file descriptor left for a connection to the server.",
        Failure::Connect => "The connection to the server was refused or reset, or the server is unreachable.",
        Failure::NoAddress => "The server's name could not be resolved.",
        Failure::ConnectTimeout => "The server took no connection within the upstream's connect_timeout.",
        Failure::Broken => "The server closed the connection, or what it sent is not a valid response.",
        Failure::ResponseTimeout => "The response head did not come within timeouts.response.",
        Failure::TotalTimeout => "The response head did not come within timeouts.total.",
        Failure::Upload(UploadFault::Broken | UploadFault::Left) => "The request body is cut short or wrongly framed.",
        Failure::Upload(UploadFault::TooLarge) => "The request body exceeds the route's body_limit.",
        Failure::Upload(UploadFault::Timeout) => "The request body did not come within timeouts.request.",
    }
}

/// Tells the client how it stands with a rate limit.
pub fn set_quota(headers: &mut HeaderMap, quota: &Quota) {
    const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
    const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
    headers.insert(RATE_LIMIT_POLICY, quota.allowance.policy().clone());
    headers.insert(RATE_LIMIT, quota.state());
}

/// A duration for people.
fn seconds(duration: Duration) -> String {
    format!("{} s", (duration.as_secs_f64() * 1000.0).round() / 1000.0)
}

/// Whole seconds, rounded up, at least one.
fn whole_seconds(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).max(1)
}

fn static_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("names of error types are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Allowance;

    #[test]
    fn retry_after_is_whole_seconds_and_at_least_one() {
        let cases = [(0, 1), (1, 1), (1000, 1), (1001, 2), (59_999, 60)];
        for (millis, want) in cases {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), want, "{millis} ms");
        }
    }

    #[test]
    fn every_429_and_503_says_when_to_come_back() {
        for refusal in [
            Refusal::Rejected(Rejection::SessionQueueFull { waiting: 3, retry_after: Duration::ZERO }),
            Refusal::Rejected(Rejection::KeyTableFull { retry_after: Duration::ZERO }),
            Refusal::Failed(Failure::Unavailable),
            Refusal::Failed(Failure::NoRoom),
            Refusal::Failed(Failure::NoDescriptor),
            Refusal::Draining,
        ] {
            let id = RequestId::of(&HeaderMap::new());
            let response = refusal.into_response(&id, true);
            assert_eq!(response.headers()[header::RETRY_AFTER], "1", "{:?}", response.status());
        }
    }

    #[test]
    fn a_rate_limit_answers_with_the_registered_type_and_names_its_policy() {
        let allowance = Allowance::new("session".into(), std::num::NonZeroU32::MIN, Duration::from_secs(2));
        let quota = Quota { allowance: allowance.into(), remaining: 0, reset: Duration::from_millis(200) };
        let refusal = Refusal::Rejected(Rejection::RateLimited { quota, retry_after: Duration::from_millis(200) });
        let problem: serde_json::Value = serde_json::from_slice(&refusal.problem("id")).expect("JSON");
        assert_eq!(problem["type"], QUOTA_EXCEEDED);
        assert_eq!(problem["violated-policies"], serde_json::json!(["session"]));
        assert_eq!((&problem["reason"], &problem["status"]), (&"rate_limited".into(), &429.into()));
    }
}
