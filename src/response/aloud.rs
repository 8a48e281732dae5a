//! Waiting aloud: a client that listens for events is told that its request waits.
//!
//! Whatever closes connections that have been silent for a minute sees one that is not. The price is the status, which
//! is given before it is known: a refusal comes as an event then.
//!
//! ```text
//!   silent ──waits for 1 s──▶ 200, a comment every 10 s ──an event stream comes──▶ it follows in the same body
//!      │                             └──anything else──▶ one `event: error`, and the end
//!      └──answered, or at a server by then──▶ as if nothing were
//! ```

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use serde_json::json;

use crate::admission::{Admission, LaneKey};
use crate::request::exchange::Exchange;
use crate::response::body::{BodyCut, ProxyBody};
use crate::response::refusal::Refusal;
use crate::time::{self, LazyTimer};

/// How long a request waits in silence.
const SILENT: Duration = Duration::from_secs(1);
/// Between two comments.
const EVERY: Duration = Duration::from_secs(10);
/// Bytes of an answer that is no event stream.
const MOST_OF_BODY: usize = 64 * 1024;

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// A request that is being served.
type Serving = Pin<Box<dyn Future<Output = Response<ProxyBody>> + Send>>;

/// Whether a client takes events for an answer. `*/*` asks for none.
#[must_use]
pub fn listens(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_ours = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/event-stream"));
        is_ours && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// Whose waiting is told, and where it is looked up.
#[derive(Debug)]
pub struct Waiter {
    pub admission: Arc<Admission>,
    pub lane: Option<LaneKey>,
    pub exchange: Arc<Exchange>,
    /// For how long its client may take nothing.
    pub idle: Duration,
    /// Fields that the answer has beside its own.
    pub headers: HeaderMap,
}

impl Waiter {
    /// What a comment says: how many, itself included, are to be served before what it waits for is its own.
    fn comment(&self) -> Bytes {
        let work = self.exchange.work();
        match work.phase().waiting_for() {
            Some(_) => format!(": waiting, position {}\n\n", self.admission.position(self.lane.as_ref(), work)).into(),
            None => Bytes::from_static(b": running\n\n"),
        }
    }

    fn is_waiting(&self) -> bool {
        self.exchange.work().phase().waiting_for().is_some()
    }
}

/// Serves a request that has to wait, and lets its client hear of it.
///
/// Cancel safe as `serving` is: dropping either it or the answer's body is how the client leaves.
pub async fn serve(mut serving: Serving, waiter: Waiter) -> Response<ProxyBody> {
    let mut timer = LazyTimer::default();
    let loud_at = time::now() + SILENT;
    let answered = poll_fn(|cx| match serving.as_mut().poll(cx) {
        Poll::Ready(response) => Poll::Ready(Some(response)),
        Poll::Pending => timer.poll_until(loud_at, cx).map(|()| None),
    });
    match answered.await {
        Some(response) => response,
        None if waiter.is_waiting() => begin(serving, waiter),
        None => serving.await,
    }
}

fn begin(serving: Serving, mut waiter: Waiter) -> Response<ProxyBody> {
    waiter.exchange.wait_aloud();
    waiter.exchange.set_deadlines(waiter.idle, None);
    let mut headers = std::mem::take(&mut waiter.headers);
    let queued = time::now().saturating_duration_since(waiter.exchange.arrived);
    headers.insert(header::CONTENT_TYPE, EVENT_STREAM);
    headers.insert(header::VIA, HeaderValue::from_static("1.1 turnwise"));
    if let Ok(timing) = HeaderValue::try_from(format!("queue;dur={:.1}", queued.as_secs_f64() * 1000.0)) {
        headers.insert("server-timing", timing);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-request-id", waiter.exchange.request_id.as_value().clone());
    // Comments that another proxy gathers come too late.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    let body = AloudBody { stage: Stage::Waits(serving), waiter, next: time::now(), timer: LazyTimer::default() };
    let mut response = Response::new(ProxyBody::Boxed(Box::pin(body)));
    *response.headers_mut() = headers;
    response
}

/// The body of an answer that was begun before there was one.
pub struct AloudBody {
    stage: Stage,
    waiter: Waiter,
    /// When the next comment is due.
    next: Instant,
    timer: LazyTimer,
}

enum Stage {
    Waits(Serving),
    /// An answer that is no event stream, as far as it has been read.
    Reads {
        status: StatusCode,
        body: ProxyBody,
        read: Vec<u8>,
    },
    Streams(ProxyBody),
    /// The rest of such an answer, which nobody is told of.
    Drains(ProxyBody),
    Ended,
}

impl fmt::Debug for AloudBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AloudBody").field("waiter", &self.waiter).finish_non_exhaustive()
    }
}

impl AloudBody {
    fn answered(&mut self, response: Response<ProxyBody>) -> Option<Bytes> {
        let (head, body) = response.into_parts();
        if head.extensions.get::<Refusal>().is_some() {
            self.stage = Stage::Ended;
            return match body {
                ProxyBody::Own(Some(problem)) => Some(error_event(&for_sdks(&problem))),
                _ => None,
            };
        }
        self.stage = if head.status == StatusCode::OK && is_event_stream(&head.headers) {
            Stage::Streams(body)
        } else {
            Stage::Reads { status: head.status, body, read: Vec::new() }
        };
        None
    }
}

/// As it can follow in the same body: events, and not compressed.
fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let plain = headers.get(header::CONTENT_ENCODING).is_none_or(|coding| coding.as_bytes() == b"identity");
    plain && kind.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("text/event-stream")
}

/// A problem document with one more member: OpenAI's SDK passes over the name of an event, and takes for an error what has an
/// `error`. Without it a refusal would be a stream that ends early.
fn for_sdks(problem: &[u8]) -> Vec<u8> {
    let Ok(mut told) = serde_json::from_slice::<serde_json::Value>(problem) else { return problem.to_vec() };
    told["error"] = json!({ "message": told["detail"], "type": told["reason"], "code": told["status"] });
    told.to_string().into_bytes()
}

fn error_event(data: &[u8]) -> Bytes {
    [b"event: error\ndata: ", data, b"\n\n"].concat().into()
}

impl Body for AloudBody {
    type Data = Bytes;
    type Error = BodyCut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyCut>>> {
        let this = &mut *self;
        this.waiter.exchange.asked_for_more();
        loop {
            let said = match &mut this.stage {
                Stage::Ended => return Poll::Ready(None),
                Stage::Streams(body) => return Pin::new(body).poll_frame(cx),
                Stage::Waits(serving) => match serving.as_mut().poll(cx) {
                    Poll::Ready(response) => this.answered(response),
                    Poll::Pending => {
                        ready!(this.timer.poll_until(this.next, cx));
                        this.next = time::now() + EVERY;
                        Some(this.waiter.comment())
                    }
                },
                Stage::Drains(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                    Some(Ok(_)) => None,
                    Some(Err(_)) | None => {
                        this.stage = Stage::Ended;
                        None
                    }
                },
                Stage::Reads { status, body, read } => {
                    let is_full = read.len() >= MOST_OF_BODY;
                    let frame = if is_full { None } else { ready!(Pin::new(&mut *body).poll_frame(cx)) };
                    match frame.map(|frame| frame.map(Frame::into_data)) {
                        Some(Ok(Ok(data))) => {
                            read.extend_from_slice(&data[..data.len().min(MOST_OF_BODY - read.len())]);
                            None
                        }
                        Some(Ok(Err(_trailers))) => None,
                        Some(Err(cut)) => {
                            this.stage = Stage::Ended;
                            return Poll::Ready(Some(Err(cut)));
                        }
                        None => {
                            let answer = json!({ "status": status.as_u16(), "body": String::from_utf8_lossy(read) });
                            let rest = std::mem::replace(body, ProxyBody::Own(None));
                            this.stage = if is_full { Stage::Drains(rest) } else { Stage::Ended };
                            Some(error_event(answer.to_string().as_bytes()))
                        }
                    }
                }
            };
            if let Some(said) = said {
                this.waiter.exchange.handed_piece();
                return Poll::Ready(Some(Ok(Frame::data(said))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.stage {
            Stage::Ended => true,
            Stage::Streams(body) => body.is_end_stream(),
            Stage::Waits(_) | Stage::Reads { .. } | Stage::Drains(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_names_event_streams_listens_for_them() {
        let of = |lines: &[&'static str]| {
            let lines = lines.iter().map(|line| (header::ACCEPT, HeaderValue::from_static(line)));
            listens(&lines.collect())
        };
        assert!(of(&["text/event-stream"]) && of(&["application/json, Text/Event-Stream;q=0.5"]));
        assert!(of(&["application/json", "text/event-stream"]));
        assert!(!of(&[]) && !of(&["*/*"]) && !of(&["text/event-stream;q=0"]) && !of(&["text/event-streams"]));
    }

    #[test]
    fn what_follows_in_an_open_stream_is_one_itself() {
        let of = |fields: &[(header::HeaderName, &'static str)]| {
            let fields = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            is_event_stream(&fields.collect())
        };
        assert!(of(&[(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")]));
        assert!(!of(&[(header::CONTENT_TYPE, "application/json")]) && !of(&[]));
        assert!(!of(&[(header::CONTENT_TYPE, "text/event-stream"), (header::CONTENT_ENCODING, "gzip")]));
    }
}
