//! Equal requests that share one answer.
//!
//! The work is done in a task of its own, as if for a client that takes everything; all who want the answer follow it,
//! whoever came first. When nobody is left, the work is abandoned: it leaves the line where it still waits, and is finished
//! or cancelled as the route says where it runs. Whoever comes back meanwhile finds it going on.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, Version, header};
use http_body::{Body, Frame};

use super::receive::Received;
use super::{Proxy, Refused, Serving};
use crate::admission::{Rated, RouteGates};
use crate::request::exchange::{EndedBy, Exchange, Phase};
use crate::response::abandoned;
use crate::response::body::{BodyCut, ProxyBody};
use crate::response::ending::Ending;
use crate::response::joined::{AnswerFollower, AnswerLead, Answered, JoinedBody, Piece};
use crate::response::refusal::{Refusal, set_quota};
use crate::time::{self, LazyTimer};
use crate::upstream::fields::TURNWISE_JOINED;

const JOINED: HeaderValue = HeaderValue::from_static("true");

/// One of those who want a shared answer.
pub(super) struct Client {
    pub ending: Ending,
    pub http1: bool,
    /// Whether the work is another one's.
    pub joins: bool,
    /// The tokens that it has taken itself.
    pub rated: Option<Rated>,
    pub gates: Arc<RouteGates>,
}

impl Client {
    /// The one whose request became the work.
    pub(super) fn first(received: &Received, ending: Ending) -> Self {
        let gates = received.gates().clone();
        Self { ending, http1: received.head.version < Version::HTTP_2, joins: false, rated: None, gates }
    }

    /// One whose request is equal to the work's.
    pub(super) fn other(received: Received, rated: Rated) -> Self {
        let gates = received.gates().clone();
        let http1 = received.head.version < Version::HTTP_2;
        Self { ending: received.ending, http1, joins: true, rated: Some(rated), gates }
    }

    /// Answers it with the refusal of the work. What the gateway refuses spends no tokens.
    fn refuse(self, refusal: Refusal) -> Response<ProxyBody> {
        let joins = self.joins;
        if let Some(rated) = self.rated.filter(|_| refusal.is_unprocessed()) {
            rated.give_back(&self.gates);
        }
        let mut response = Refused { ending: self.ending, refusal, http1: self.http1, rest: None }.respond();
        if joins {
            response.headers_mut().insert(TURNWISE_JOINED, JOINED);
        }
        response
    }
}

/// Makes the request one's work: from now on it goes on for itself, with a record of its own. Returns what its client
/// keeps.
pub(super) fn set_apart(proxy: &Proxy, received: &mut Received) -> Ending {
    let client = received.ending.exchange();
    let work =
        Exchange::new(client.request_id.clone(), client.route.clone(), Method::clone(&client.method), client.client);
    let work = Arc::new(match client.story() {
        Some(story) => work.told(story.clone()),
        None => work,
    });
    client.set_work(work.clone());
    let entry = proxy.admission.roll.enter(work.clone());
    let ending = Ending::of_work(work, received.ending.metrics().clone(), entry);
    std::mem::replace(&mut received.ending, ending)
}

/// Waits for a shared answer, and makes it one client's own.
pub(super) async fn follow(proxy: Arc<Proxy>, follower: AnswerFollower, client: Client) -> Response<ProxyBody> {
    let exchange = client.ending.exchange().clone();
    let answered = poll_fn(|cx| {
        if let Some(work) = follower.work().filter(|_| client.joins) {
            exchange.share(work);
        }
        follower.poll_head(cx)
    });
    let head = match answered.await {
        Some(Answered::Upstream(head)) => Response::clone(&head),
        Some(Answered::Refused(refusal)) => return client.refuse(refusal),
        None => return client.refuse(Refusal::Internal),
    };
    let Client { ending, http1, joins, rated, gates } = client;
    exchange.set_deadlines(gates.policy.timeouts.idle, None);
    let status = head.status().as_u16();
    let mut response = head.map(|()| ProxyBody::Boxed(Box::pin(JoinedBody::new(follower, ending, status))));
    let headers = response.headers_mut();
    if joins {
        headers.insert("x-request-id", exchange.request_id.as_value().clone());
        headers.insert(TURNWISE_JOINED, JOINED);
        rated.iter().filter_map(Rated::quota).for_each(|quota| set_quota(headers, quota));
    }
    if proxy.lifecycle.is_refusing() && http1 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Carries an answer from who serves it to those who follow.
pub(super) async fn carry(serving: Serving, lead: AnswerLead, work: Arc<Exchange>, gates: Arc<RouteGates>) {
    let mut carrier =
        Carrier { lead, work, gates, deserted: None, is_cut: false, is_whole: false, timer: LazyTimer::default() };
    carrier.carry(serving).await;
    match carrier.deserted {
        Some(_) if carrier.is_cut => carrier.gates.metrics.abandoned("cut"),
        Some(_) if carrier.is_whole => carrier.gates.metrics.abandoned("finished"),
        // Whoever ended it has counted it.
        _ => {}
    }
}

struct Carrier {
    lead: AnswerLead,
    work: Arc<Exchange>,
    gates: Arc<RouteGates>,
    /// Since when nobody follows.
    deserted: Option<Instant>,
    is_cut: bool,
    is_whole: bool,
    timer: LazyTimer,
}

impl Carrier {
    async fn carry(&mut self, mut serving: Serving) {
        let Some(response) = self.heed(false, |_, cx| serving.as_mut().poll(cx)).await else {
            return;
        };
        drop(serving);
        let (mut head, mut body) = response.into_parts();
        if let Some(refusal) = head.extensions.remove::<Refusal>() {
            // Only those are refused who have joined by now: whoever comes later is let in or refused for itself.
            self.lead.withdraw();
            self.lead.begin(Answered::Refused(refusal), false);
            return;
        }
        head.headers.remove(header::CONNECTION);
        self.lead.begin(Answered::Upstream(Arc::new(Response::from_parts(head, ()))), body.is_end_stream());
        while !body.is_end_stream() {
            match self.next_frame(&mut body).await {
                Some(Some(Ok(frame))) => {
                    if let Some((piece, length)) = Piece::of(frame) {
                        self.lead.push(piece, length, body.is_end_stream());
                    }
                }
                Some(None) => break,
                // It broke off, or nobody is left.
                Some(Some(Err(_))) | None => return,
            }
        }
        self.lead.finish(time::now());
        self.is_whole = true;
    }

    /// The next frame, when one of the readers wants it. While none does the body hears neither that it was ended nor that its
    /// time is over, so that is looked at here.
    async fn next_frame(&mut self, body: &mut ProxyBody) -> Option<Option<Result<Frame<Bytes>, BodyCut>>> {
        let work = self.work.clone();
        self.heed(true, |lead, cx| {
            if lead.poll_room(cx).is_pending() && work.poll_ended(cx).is_pending() {
                work.wake_by(work.end_at());
                return if work.is_overdue() { Poll::Ready(None) } else { Poll::Pending };
            }
            Pin::new(&mut *body).poll_frame(cx).map(Some)
        })
        .await
        .flatten()
    }

    /// What comes of `poll`, with the alarms that the connection of a client would hear. `None`: it is to be left.
    async fn heed<T>(
        &mut self,
        answering: bool,
        mut poll: impl FnMut(&AnswerLead, &mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        poll_fn(|cx| {
            loop {
                if self.is_to_be_left(answering, cx) {
                    return Poll::Ready(None);
                }
                if let Poll::Ready(ready) = poll(&self.lead, cx) {
                    return Poll::Ready(Some(ready));
                }
                if self.work.rings() {
                    continue;
                }
                let cut_at = self.deserted.filter(|_| !self.is_cut).map(|since| self.cut_at(since));
                let Some(next) = self.work.alarm().into_iter().chain(cut_at).min() else {
                    return Poll::Pending;
                };
                if self.timer.poll_until(next, cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    fn cut_at(&self, deserted: Instant) -> Instant {
        time::after(deserted, self.gates.policy.abandoned_limit)
    }

    fn is_to_be_left(&mut self, answering: bool, cx: &Context<'_>) -> bool {
        if !self.lead.is_deserted(cx) {
            self.deserted = None;
            return false;
        }
        let runs = self.work.phase() >= Phase::Running;
        // What was to be finished before its head had come is finished to its end.
        let finishes = self.deserted.is_some() || abandoned::finishes(self.gates.policy.abandoned, answering);
        if !runs || !finishes {
            return self.lead.stop_if_deserted();
        }
        let since = *self.deserted.get_or_insert_with(time::now);
        if !self.is_cut && self.cut_at(since) <= time::now() {
            self.is_cut = true;
            self.work.end(EndedBy::Abandoned);
        }
        false
    }
}
