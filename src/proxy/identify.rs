//! Which session a request belongs to.
//!
//! A key in the head is read at once. A key in the body needs the whole body, which is then held in memory, within
//! `body_limit`, `timeouts.request` and `limits.queue_bytes`.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Body;
use hyper::body::Incoming;

use super::{Received, Refused};
use crate::admission::nesting::Nest;
use crate::admission::{Admission, QueueScope, Rejection, RouteGates, Visitor};
use crate::limit::held_bytes::{BytesRefused, HeldBody};
use crate::policy::{Anonymous, Assign, KeySource, NormalPath, Session, WhenBusy};
use crate::request::exchange::UploadFault;
use crate::request::framing::asks_upgrade;
use crate::request::json_pointer::set_member;
use crate::request::session_key::may_be_json;
use crate::request::{BadKey, HeadLookup, HeadView, KeyLookup, SessionKey, Tenant};
use crate::response::refusal::Refusal;
use crate::upstream::failure::Failure;
use crate::upstream::fields::TURNWISE_WHEN_BUSY;
use crate::upstream::upload::fault_of;

/// A request whose session is known, if it has one.
#[derive(Debug)]
pub(super) struct Identified {
    pub received: Box<Received>,
    pub session: Option<SessionKey>,
    /// The body, where it was read for the key.
    pub whole: Option<Box<Whole>>,
    /// The made-up key, and the field that carries it to the upstream.
    pub assigned: Option<Box<(Option<HeaderName>, HeaderValue)>>,
    pub held: Option<HeldBody>,
}

/// A body that was read to its end.
#[derive(Debug, Default)]
pub(super) struct Whole {
    pub data: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Identified {
    /// For the log, if it is told of there.
    pub(super) fn note_session(&self) {
        if let (Some(story), Some(key)) = (self.received.ending.exchange().story(), &self.session) {
            story.in_session(key);
        }
    }

    /// For the rate limits, which ask for less.
    pub(super) fn rated(&self) -> Visitor<'_> {
        Visitor {
            session: self.session.as_ref(),
            client: self.received.ending.exchange().client,
            fair: self.received.fair,
            headers: &self.received.head.headers,
            held: None,
            when_busy: WhenBusy::Wait,
            nested_in: None,
            tenant: Tenant::default(),
        }
    }

    pub(super) fn visitor(
        &self,
        held: Option<HeldBody>,
        when_busy: WhenBusy,
        nested_in: Option<Arc<Nest>>,
    ) -> Visitor<'_> {
        let session = session_of(self.received.gates());
        let is_nest = nested_in.is_some() || session.is_some_and(|session| session.reentrant);
        let tenant = if is_nest { self.tenant(self.received.gates()) } else { None };
        Visitor { held, when_busy, nested_in, tenant: tenant.unwrap_or_default(), ..self.rated() }
    }

    /// Whose request it is, as the route of `gates` tells that; `None` where it cannot be told.
    pub(super) fn tenant(&self, gates: &RouteGates) -> Option<Tenant> {
        let Some(session) = session_of(gates) else { return Some(Tenant::default()) };
        let none = Bytes::new();
        let body = match &self.whole {
            Some(whole) => Some(&whole.data),
            None => self.received.has_body_ended().then_some(&none),
        };
        with_view(&self.received, &session.within, |view, path| Tenant::read(&session.within, path, view, body))
    }
}

/// What a request does if its session is busy: its own choice, where the policy leaves it one.
pub(super) fn when_busy(received: &Received) -> Result<WhenBusy, Refusal> {
    let Some(session) = session_of(received.gates()) else { return Ok(WhenBusy::Wait) };
    let mut lines = received.head.headers.get_all(TURNWISE_WHEN_BUSY).iter();
    let Some(line) = lines.next() else { return Ok(session.when_busy) };
    let choice = session.when_busy_choices.iter().find(|choice| choice.word().as_bytes() == line.as_bytes());
    match choice.filter(|_| lines.next().is_none()) {
        Some(choice) => Ok(*choice),
        None => Err(Refusal::BadRequest("Turnwise-When-Busy is none of the route's when_busy_choices.".into())),
    }
}

/// Reads the key from the head. `Ok(Err(…))`: it stands in the body.
pub(super) fn from_head(received: Box<Received>) -> Result<Result<Identified, Box<Received>>, Box<Refused>> {
    let Some(session) = session_of(received.gates()) else {
        return Ok(Ok(Identified { received, session: None, whole: None, assigned: None, held: None }));
    };
    match with_view(&received, session.sources(), |view, path| SessionKey::from_head(session, path, view)) {
        Err(bad) => Err(received.refuse(bad)),
        Ok(HeadLookup::Known(KeyLookup::Found(_))) if joins(&received, session) => Ok(Err(received)),
        Ok(HeadLookup::Known(KeyLookup::Found(key))) => {
            Ok(Ok(Identified { received, session: Some(key), whole: None, assigned: None, held: None }))
        }
        Ok(HeadLookup::NeedsBody) => Ok(Err(received)),
        // A made-up key goes into the body, so the body must be there.
        Ok(HeadLookup::Known(KeyLookup::Absent(_))) if assigns_json(session) && !received.has_body_ended() => {
            Ok(Err(received))
        }
        Ok(HeadLookup::Known(KeyLookup::Absent(_)))
            if session.anonymous == Anonymous::Shared && joins(&received, session) =>
        {
            Ok(Err(received))
        }
        Ok(HeadLookup::Known(KeyLookup::Absent(tenant))) => {
            let gates = received.gates().clone();
            nameless(received, gates.policy.session.as_ref(), &tenant, None, None).map(Ok)
        }
    }
}

/// Reads the whole body, and the key from it.
///
/// Cancel safe in that nothing outlives it: what was held is given back when it is dropped.
pub(super) async fn from_body(received: Box<Received>, admission: &Admission) -> Result<Identified, Box<Refused>> {
    if session_of(received.gates()).is_some() {
        return read_to_its_end(received, admission).await;
    }
    from_head(received).map(|identified| match identified {
        Ok(identified) => identified,
        Err(received) => Identified { received, session: None, whole: None, assigned: None, held: None },
    })
}

/// Reads the whole body, whether there is a key in it or not, and then the key.
///
/// Cancel safe as [`from_body`].
pub(super) async fn read_to_its_end(
    mut received: Box<Received>,
    admission: &Admission,
) -> Result<Identified, Box<Refused>> {
    let mut held = admission.held.begin(received.fair);
    let gates = received.gates().clone();
    let policy = &gates.policy;
    let whole = match &mut received.body {
        Some(body) => {
            let reading = read_whole(body, policy.body_limit, &mut held);
            match tokio::time::timeout(policy.timeouts.request, reading).await {
                Ok(Ok(whole)) => whole,
                Ok(Err(refusal)) => return Err(received.refuse(refusal)),
                Err(_) => return Err(received.refuse(Failure::Upload(UploadFault::Timeout))),
            }
        }
        None => Box::default(),
    };
    from_whole(received, whole, Some(held))
}

/// Reads the key of a request whose body is there.
pub(super) fn from_whole(
    received: Box<Received>,
    whole: Box<Whole>,
    held: Option<HeldBody>,
) -> Result<Identified, Box<Refused>> {
    let gates = received.gates().clone();
    let Some(session) = session_of(&gates) else {
        return Ok(Identified { received, session: None, whole: Some(whole), assigned: None, held });
    };
    match with_view(&received, session.sources(), |view, path| SessionKey::from_whole(session, path, view, &whole.data))
    {
        Err(bad) => Err(received.refuse(bad)),
        Ok(KeyLookup::Found(key)) => {
            Ok(Identified { received, session: Some(key), whole: Some(whole), assigned: None, held })
        }
        Ok(KeyLookup::Absent(tenant)) => nameless(received, Some(session), &tenant, Some(whole), held),
    }
}

pub(super) fn session_of(gates: &RouteGates) -> Option<&Session> {
    gates.policy.session.as_ref().filter(|_| !gates.policy.exempt)
}

/// Whether its body must be known, because it may be equal to another one's.
fn joins(received: &Received, session: &Session) -> bool {
    session.join.is_some() && !received.has_body_ended() && !asks_upgrade(&received.head.headers)
}

fn assigns_json(session: &Session) -> bool {
    matches!(session.assign, Some(Assign::Json(_)))
}

fn with_view<'k, T>(
    received: &Received,
    sources: impl IntoIterator<Item = &'k KeySource>,
    read: impl FnOnce(&HeadView<'_>, &crate::policy::PathMatch) -> T,
) -> T {
    let head = &received.head;
    let in_path = sources.into_iter().any(|source| matches!(source, KeySource::Path(_)));
    // It parsed when the route was found; only keys that stand in it need it once more.
    let path = if in_path { NormalPath::parse(head.uri.path()).unwrap_or_default() } else { NormalPath::default() };
    let view = HeadView { headers: &head.headers, query: head.uri.query(), path: &path };
    read(&view, &received.gates().policy.matching.path)
}

/// Settles what is done with a request that has no key.
fn nameless(
    received: Box<Received>,
    session: Option<&Session>,
    tenant: &Tenant,
    whole: Option<Box<Whole>>,
    held: Option<HeldBody>,
) -> Result<Identified, Box<Refused>> {
    let Some(session) = session else {
        return Ok(Identified { received, session: None, whole, assigned: None, held });
    };
    match session.anonymous {
        Anonymous::Reject => Err(received.refuse(Refusal::SessionRequired)),
        Anonymous::Shared => {
            let key = SessionKey::anonymous(tenant);
            Ok(Identified { received, session: Some(key), whole, assigned: None, held })
        }
        Anonymous::Separate => Ok(assign(received, session, tenant, whole, held)),
    }
}

/// Gives a nameless request a key of its own, where the policy says where to.
fn assign(
    received: Box<Received>,
    session: &Session,
    tenant: &Tenant,
    mut whole: Option<Box<Whole>>,
    held: Option<HeldBody>,
) -> Identified {
    let Some(place) = &session.assign else {
        return Identified { received, session: None, whole, assigned: None, held };
    };
    let (key, text) = SessionKey::made_up(tenant);
    let field = match place {
        Assign::Header(name) => Some(name.clone()),
        Assign::Json(pointer) => {
            // A body that is no object, or in which no key was looked for, has no place for one: it passes untouched, as its own
            // session.
            let place = whole.as_ref().filter(|_| may_be_json(&received.head.headers));
            let named = place.and_then(|whole| set_member(&whole.data, pointer, &text));
            let (Some(whole), Some(named)) = (&mut whole, named) else {
                return Identified { received, session: None, whole, assigned: None, held };
            };
            whole.data = named.into();
            None
        }
    };
    let value = HeaderValue::from_str(&text).expect("made-up keys are hexadecimal digits");
    Identified { received, session: Some(key), whole, assigned: Some(Box::new((field, value))), held }
}

async fn read_whole(body: &mut Incoming, limit: u64, held: &mut HeldBody) -> Result<Box<Whole>, Refusal> {
    // One buffer: pieces kept as they came would each hold on to far more than their octets.
    let mut data = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| Failure::Upload(fault_of(&error)))?;
        match frame.into_data() {
            Ok(piece) => {
                if data.len() as u64 + piece.len() as u64 > limit {
                    return Err(Refusal::BodyTooLarge { limit });
                }
                held.grow(piece.len() as u64).map_err(queue_full)?;
                data.extend_from_slice(&piece);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let data = data.freeze();
    Ok(Box::new(Whole { data, trailers }))
}

fn queue_full(refused: BytesRefused) -> Refusal {
    let scope = match refused {
        BytesRefused::Limit => QueueScope::Bytes,
        BytesRefused::Share => QueueScope::BytesShare,
    };
    Refusal::Rejected(Rejection::QueueFull { scope, retry_after: std::time::Duration::ZERO })
}

impl From<BadKey> for Refusal {
    fn from(bad: BadKey) -> Self {
        Self::BadRequest(format!("The session key is invalid: {bad}.").into())
    }
}
