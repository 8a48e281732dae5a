//! Traces: spans of requests, for a collector that speaks OTLP.
//!
//! ```text
//!   SERVER  POST runs ─┬─ INTERNAL  wait for a turn     (rate, place, server: each wait that was one)
//!                      ├─ CLIENT    POST                (a try at a server; the agent's own spans hang here)
//!                      └─ CLIENT    POST                (and the next, where the policy retries)
//! ```
//!
//! Off until [`start`] has found a collector in the environment; then nothing of this costs more than a look at one word.
//! Trace Context says who a span's parent is (W3C, sections 3 and 4), OpenTelemetry's conventions for HTTP how attributes
//! are named. No path, field, key or body is in a span: they may hold secrets.

mod environment;
mod export;

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use opentelemetry::trace::{
    SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;

use crate::time;

pub use environment::{Collector, Environment, Wanted};
pub use export::{Spans, Traces, failed_because, rejected, spans, start};

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// The fields in which a trace is handed on.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// One request as a span, with what becomes a child of it. Cheap to clone: the same span.
#[derive(Debug, Clone)]
pub struct Trace {
    context: Context,
    /// One moment on both clocks: spans have wall-clock times, requests are measured by the other.
    began: (Instant, SystemTime),
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    /// What the client got; 499: it left first.
    pub status: u16,
    /// Why the gateway answered itself.
    pub reason: Option<&'static str>,
    pub ended_by: &'a str,
    /// Whether the answer broke off.
    pub is_cut: bool,
    /// A digest of the session's key.
    pub session: Option<&'a str>,
    pub request_id: &'a str,
}

/// Begins the span of a request that arrived at `arrived`, with the parent that its fields name. `None`: traces are off.
///
/// Fields that name no parent, or more than one, begin a trace.
#[must_use]
pub fn begin(headers: &HeaderMap, method: &Method, route: &str, client: IpAddr, arrived: Instant) -> Option<Trace> {
    let span = SpanBuilder::from_name(format!("{} {route}", first_word(method))).with_kind(SpanKind::Server);
    begin_as(span, headers, method, route, client, arrived)
}

/// As [`begin`], for one try of a job, whose parent is the request that it was accepted with.
#[must_use]
pub fn begin_job(headers: &HeaderMap, method: &Method, route: &str, client: IpAddr, began: Instant) -> Option<Trace> {
    let span = SpanBuilder::from_name(format!("job {} {route}", first_word(method))).with_kind(SpanKind::Consumer);
    begin_as(span, headers, method, route, client, began)
}

fn begin_as(
    span: SpanBuilder,
    headers: &HeaderMap,
    method: &Method,
    route: &str,
    client: IpAddr,
    arrived: Instant,
) -> Option<Trace> {
    let tracer = TRACER.get()?;
    let parent = parent_of(headers).map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
    let now = SystemTime::now();
    let span = span.with_start_time(now).with_attributes([
        KeyValue::new("http.request.method", known(method)),
        KeyValue::new("turnwise.route", route.to_owned()),
        KeyValue::new("client.address", client.to_string()),
    ]);
    let span = tracer.build_with_context(span, &parent);
    Some(Trace { context: Context::new().with_span(span), began: (arrived, now) })
}

/// The span that fields name as the parent of a request. The library's own reading takes what Trace Context calls invalid, and
/// the first of several lines of `tracestate`.
fn parent_of(headers: &HeaderMap) -> Option<SpanContext> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let own = lines.next()?.as_bytes();
    if lines.next().is_some() || !is_traceparent(own) {
        return None;
    }
    let own = std::str::from_utf8(own).ok()?;
    let (trace, parent) = (TraceId::from_hex(&own[3..35]).ok()?, SpanId::from_hex(&own[36..52]).ok()?);
    // Of the flags only this one is known.
    let sampled = u8::from_str_radix(&own[53..55], 16).ok()? & 1 == 1;
    let states: Vec<_> = headers.get_all(TRACESTATE).iter().filter_map(|line| line.to_str().ok()).collect();
    let state = TraceState::from_str(&states.join(",")).unwrap_or_default();
    Some(SpanContext::new(trace, parent, TraceFlags::NOT_SAMPLED.with_sampled(sampled), true, state))
}

/// Trace Context, sections 3.2 and 4.3: version, trace id, parent id and flags; later versions may add more.
#[must_use]
pub fn is_traceparent(value: &[u8]) -> bool {
    let Some((known, more)) = value.split_at_checked(55) else {
        return false;
    };
    let (version, trace, parent, flags) = (&known[..2], &known[3..35], &known[36..52], &known[53..]);
    let mut digits = [version, trace, parent, flags].into_iter().flatten();
    known[2] == b'-'
        && known[35] == b'-'
        && known[52] == b'-'
        && digits.all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        && trace.iter().any(|&digit| digit != b'0')
        && parent.iter().any(|&digit| digit != b'0')
        && match version {
            b"ff" => false,
            b"00" => more.is_empty(),
            _ => more.is_empty() || more[0] == b'-',
        }
}

/// A method as the conventions want it: one of those that are known, since any text may be one.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

/// How a span begins its name with it.
fn first_word(method: &Method) -> &'static str {
    match known(method) {
        "_OTHER" => "HTTP",
        known => known,
    }
}

impl Trace {
    fn wall(&self, at: Instant) -> SystemTime {
        self.began.1 + at.saturating_duration_since(self.began.0)
    }

    /// 32 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        self.context.span().span_context().trace_id().to_string()
    }

    /// Notes the time in one queue.
    pub fn waited(&self, queue: &'static str, since: Instant, took: Duration) {
        let Some(tracer) = TRACER.get().filter(|_| self.context.span().is_recording()) else { return };
        let began = self.wall(since);
        let span = SpanBuilder::from_name(wait_of(queue))
            .with_kind(SpanKind::Internal)
            .with_start_time(began)
            .with_attributes([KeyValue::new("turnwise.queue", queue)]);
        let context = Context::new().with_span(tracer.build_with_context(span, &self.context));
        context.span().end_with_timestamp(began + took);
    }

    /// Begins the span of one try at a server; `tries`: how many there were before.
    #[must_use]
    pub fn call(&self, method: &Method, upstream: &str, host: &str, port: u16, tries: usize) -> Option<Call> {
        let tracer = TRACER.get()?;
        let mut attributes = vec![
            KeyValue::new("http.request.method", known(method)),
            KeyValue::new("server.address", host.to_owned()),
            KeyValue::new("server.port", i64::from(port)),
            KeyValue::new("turnwise.upstream", upstream.to_owned()),
        ];
        if tries > 0 {
            attributes.push(KeyValue::new("http.request.resend_count", i64::try_from(tries).unwrap_or(i64::MAX)));
        }
        let span = SpanBuilder::from_name(first_word(method))
            .with_kind(SpanKind::Client)
            .with_start_time(self.wall(time::now()))
            .with_attributes(attributes);
        let context = Context::new().with_span(tracer.build_with_context(span, &self.context));
        Some(Call { span: Self { context, began: self.began }, is_error: false })
    }

    /// Notes that the answer is that of `other`.
    pub fn shares(&self, other: &Self) {
        let other = other.context.span().span_context().clone();
        self.context.span().add_link(other, vec![KeyValue::new("turnwise.shares", true)]);
    }

    /// Makes it the parent of whatever `headers` lead to. `tracestate` stays as it came: there is nothing of ours in it.
    pub fn hand_on(&self, headers: &mut HeaderMap) {
        let span = self.context.span();
        let own = span.span_context();
        let flags = own.trace_flags().to_u8();
        let text = format!("00-{}-{}-{flags:02x}", own.trace_id(), own.span_id());
        if let Ok(text) = HeaderValue::try_from(text) {
            headers.insert(TRACEPARENT, text);
        }
    }

    /// Ends the span: `took` after its request arrived.
    pub fn end(&self, outcome: Outcome<'_>, took: Duration) {
        let span = self.context.span();
        if span.is_recording() {
            span.set_attribute(KeyValue::new("http.response.status_code", i64::from(outcome.status)));
            span.set_attribute(KeyValue::new("turnwise.request_id", outcome.request_id.to_owned()));
            span.set_attribute(KeyValue::new("turnwise.ended_by", outcome.ended_by.to_owned()));
            if let Some(session) = outcome.session {
                span.set_attribute(KeyValue::new("turnwise.session", session.to_owned()));
            }
            if let Some(reason) = outcome.reason {
                span.set_attribute(KeyValue::new("turnwise.reason", reason));
            }
            // The conventions have it that a client's mistakes are no errors of a server.
            if outcome.status >= 500 || outcome.is_cut {
                let what = outcome.reason.unwrap_or(if outcome.is_cut { outcome.ended_by } else { "" });
                let what = if what.is_empty() { outcome.status.to_string() } else { what.to_owned() };
                span.set_attribute(KeyValue::new("error.type", what));
                span.set_status(Status::error(""));
            }
        }
        span.end_with_timestamp(self.began.1 + took);
    }
}

fn wait_of(queue: &str) -> &'static str {
    match queue {
        "turn" => "wait for a turn",
        "rate" => "wait for a rate",
        "place" => "wait for a place",
        _ => "wait for a server",
    }
}

/// One try at a server as a span. It ends when this is dropped, as one that broke off unless it was told otherwise.
#[derive(Debug)]
pub struct Call {
    span: Trace,
    is_error: bool,
}

impl Call {
    /// Makes it the parent of what the server does.
    pub fn hand_on(&self, headers: &mut HeaderMap) {
        self.span.hand_on(headers);
    }

    /// The response head has come.
    pub fn answered(&mut self, status: u16) {
        let span = self.span.context.span();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        span.add_event_with_timestamp("response head", self.span.wall(time::now()), Vec::new());
        if status >= 400 {
            self.mark(status.to_string());
        }
    }

    /// There was no response head, and why.
    pub fn failed(mut self, why: &'static str) {
        self.mark(why.to_owned());
        self.end();
    }

    /// The answer has ended as it should.
    pub fn completed(self) {
        self.end();
    }

    fn mark(&mut self, what: String) {
        self.is_error = true;
        let span = self.span.context.span();
        span.set_attribute(KeyValue::new("error.type", what));
        span.set_status(Status::error(""));
    }

    fn end(&self) {
        self.span.context.span().end_with_timestamp(self.span.wall(time::now()));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // A span that has ended records no more.
        if self.span.context.span().is_recording() {
            if !self.is_error {
                self.mark("cut".to_owned());
            }
            self.end();
        }
    }
}
