//! Which clients hear how their requests wait.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Version, header};

use super::identify::{Identified, session_of};
use super::{Proxy, Serving};
use crate::admission::{LaneKey, Quota};
use crate::request::json_pointer;
use crate::response::aloud::{self, Waiter};
use crate::response::refusal::set_quota;
use crate::upstream::fields::{TURNWISE_JOINED, TURNWISE_SESSION};

/// Whether a body that was read says `"stream": true`. The SDKs of OpenAI and Anthropic ask for events so, and accept JSON in
/// their head.
fn asks_for_events(identified: &Identified) -> bool {
    let body = identified.whole.as_ref();
    body.is_some_and(|body| json_pointer::scalar(&body.data, &["stream".to_owned()]).as_deref() == Some("true"))
}

/// A client that hears how its request waits, if it wants to and the route lets it.
pub(super) struct Listens(Option<Waiter>);

impl Listens {
    pub(super) fn not() -> Self {
        Self(None)
    }

    pub(super) fn of(proxy: &Arc<Proxy>, identified: &Identified) -> Self {
        let received = &identified.received;
        let head = &received.head;
        // Nobody waits beside a job.
        let is_job = received.body.is_none();
        let Some(session) = session_of(received.gates()).filter(|session| session.waits_aloud && !is_job) else {
            return Self::not();
        };
        // A final status tells a client that waits for a 100 not to send its body, and no other protocol can follow it.
        let expects = [header::EXPECT, header::UPGRADE].iter().any(|name| head.headers.contains_key(name));
        if head.method == Method::HEAD || head.version < Version::HTTP_11 || expects {
            return Self::not();
        }
        if !aloud::listens(&head.headers) && !asks_for_events(identified) {
            return Self::not();
        }
        let key = identified.session.clone();
        let mut headers = HeaderMap::new();
        if let Some(assigned) = &identified.assigned {
            headers.insert(TURNWISE_SESSION, assigned.1.clone());
        }
        Self(Some(Waiter {
            admission: proxy.admission.clone(),
            lane: key.map(|session_key| LaneKey { lane: session.lane.clone(), session: session_key }),
            exchange: received.ending.exchange().clone(),
            idle: received.gates().policy.timeouts.idle,
            headers,
        }))
    }

    /// It shares an equal request's answer.
    pub(super) fn joined(mut self) -> Self {
        if let Some(waiter) = &mut self.0 {
            waiter.headers.insert(TURNWISE_JOINED, HeaderValue::from_static("true"));
        }
        self
    }

    /// Tells it of the tightest rate limit that its request has passed.
    pub(super) fn with(mut self, quota: Option<&Quota>) -> Self {
        if let (Some(waiter), Some(quota)) = (&mut self.0, quota) {
            set_quota(&mut waiter.headers, quota);
        }
        self
    }

    /// Events that follow what the gateway says in the same body cannot be compressed.
    pub(super) fn prepare(&self, headers: &mut HeaderMap) {
        if self.0.is_some() {
            headers.remove(header::ACCEPT_ENCODING);
        }
    }

    pub(super) fn hear(self, serving: Serving) -> Serving {
        match self.0 {
            Some(waiter) => Box::pin(aloud::serve(serving, waiter)),
            None => serving,
        }
    }
}
