//! Header fields on their way through, in both directions.
//!
//! Fields about one connection end at it (RFC 9110, section 7.6.1), those about the way are extended, and the framing is
//! made anew. What the gateway or its policy reads cannot be taken away by naming it in `Connection`: the upstream would
//! see another request than the one that was let in.

mod forwarded;
mod hop;
mod known;
mod present;
mod strip;
mod timing;

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use http_body::Body;

pub use self::hop::Hop;
pub use self::known::KnownFields;
use self::present::{Field, Present};
use crate::request::RequestId;
use crate::request::framing::{is_chunked, whole_number};
use crate::request::ids::{X_REQUEST_ID, begin_trace, continue_trace};

pub const TURNWISE_TURN: HeaderName = HeaderName::from_static("turnwise-turn");
pub const TURNWISE_WHEN_BUSY: HeaderName = HeaderName::from_static("turnwise-when-busy");
pub const TURNWISE_JOINED: HeaderName = HeaderName::from_static("turnwise-joined");
pub const TURNWISE_SESSION: HeaderName = HeaderName::from_static("turnwise-session");
static OWN_ANSWERS: [(Field, HeaderName); 3] = [
    (Field::TurnwiseTurn, TURNWISE_TURN),
    (Field::TurnwiseJoined, TURNWISE_JOINED),
    (Field::TurnwiseSession, TURNWISE_SESSION),
];
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// The most fields that are added to a message, so that it grows once.
const ADDED: usize = 10;

/// What the gateway knows of a request when it sends it on.
#[derive(Debug, Clone, Copy)]
pub struct Inbound<'r> {
    /// In which the client spoke.
    pub version: Version,
    /// The client's connection.
    pub hop: &'r Hop,
    /// Whether what the peer of the connection says about the way to it is believed.
    pub peer_trusted: bool,
    /// Whose request it is, as found by [`client_address`](crate::request::client_address::client_address).
    pub client: IpAddr,
    /// The one host, port included, as the client named it; the server's own for HTTP/1.0 without one.
    pub host: &'r HeaderValue,
    pub request_id: &'r RequestId,
    /// The protocol to upgrade to, when the client asked for an upgrade that the gateway lets through.
    pub upgrade: Option<&'r HeaderValue>,
    /// Whether the upstream is spoken to in HTTP/2: there the host is in the target, and nothing is said of connections.
    pub to_http2: bool,
    pub framing: Framing,
    pub known: &'r KnownFields,
}

/// Where the body of a request ends. To be found when the body is what will be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    NoBody,
    /// In octets.
    Length(u64),
    Chunked,
}

impl Framing {
    /// The framing of a body that came with these (checked) fields, or that replaces it.
    ///
    /// An empty body has a length only where the client gave one, so that `GET` gets none and `POST` keeps its zero.
    #[must_use]
    pub fn of(headers: &HeaderMap, body: &impl Body) -> Self {
        match body.size_hint().exact() {
            Some(0) if !headers.contains_key(header::CONTENT_LENGTH) => Self::NoBody,
            None if body.is_end_stream() => Self::NoBody,
            Some(length) => Self::Length(length),
            None => Self::Chunked,
        }
    }
}

/// Makes the fields of a client's request those that go upstream.
///
/// `Content-Length` or `Transfer-Encoding` are set from [`Inbound::framing`]; hyper's client obeys them, and without them
/// would leave out a body of unknown length after `GET`. `Expect: 100-continue` ends here, because the gateway's own
/// server answers it when it reads the body. `Turnwise-Turn` and `Turnwise-Session` of a client never pass; the gateway's
/// own are set after this.
pub fn to_upstream(headers: &mut HeaderMap, inbound: &Inbound<'_>) {
    let present = Present::in_request(headers);
    if present.underscore {
        inbound.known.drop_misspelt(headers);
    }
    let trailers = present.has(Field::Te) && strip::accepts_trailers(headers);
    strip::connection_fields(headers, present, Some(inbound.known));
    if present.has(Field::TurnwiseTurn) {
        headers.remove(TURNWISE_TURN);
    }
    if present.has(Field::TurnwiseSession) {
        headers.remove(TURNWISE_SESSION);
    }
    if present.has(Field::TurnwiseWhenBusy) {
        headers.remove(TURNWISE_WHEN_BUSY);
    }
    if present.has(Field::Expect)
        && headers.get(header::EXPECT).is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        headers.remove(header::EXPECT);
    }
    if inbound.version >= Version::HTTP_2 && !inbound.to_http2 {
        join_cookies(headers);
    }
    headers.reserve(ADDED);
    set_connection_fields(headers, inbound, present, trailers);
    set_framing(headers, inbound, present);
    forwarded::extend(headers, inbound, present);
    headers.append(header::VIA, via(inbound.version));
    headers.insert(X_REQUEST_ID, inbound.request_id.as_value().clone());
    if present.has(Field::Traceparent) || present.has(Field::Tracestate) {
        continue_trace(headers);
    } else {
        begin_trace(headers);
    }
}

/// In HTTP/2 the pairs of a cookie may come as fields of their own; elsewhere they are one (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let whole = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..]);
    if let Ok(mut whole) = HeaderValue::from_bytes(&whole) {
        whole.set_sensitive(true);
        headers.insert(header::COOKIE, whole);
    }
}

/// What the client said of it is replaced, where it does not say the same.
fn set_framing(headers: &mut HeaderMap, inbound: &Inbound<'_>, present: Present) {
    match inbound.framing {
        Framing::Length(length) => {
            if !present.has(Field::ContentLength) || plain_length(headers) != Some(length) {
                headers.insert(header::CONTENT_LENGTH, length.into());
            }
            return;
        }
        Framing::Chunked if !inbound.to_http2 => drop(headers.insert(header::TRANSFER_ENCODING, CHUNKED)),
        Framing::Chunked | Framing::NoBody => {}
    }
    if present.has(Field::ContentLength) {
        headers.remove(header::CONTENT_LENGTH);
    }
}

/// What the gateway's own connection to the upstream needs: host, upgrade and the wish for trailers.
fn set_connection_fields(headers: &mut HeaderMap, inbound: &Inbound<'_>, present: Present, trailers: bool) {
    if trailers {
        headers.insert(header::TE, TRAILERS);
    }
    if inbound.to_http2 {
        if present.has(Field::Host) {
            headers.remove(header::HOST);
        }
        return;
    }
    if !present.has(Field::Host) || headers.get(header::HOST) != Some(inbound.host) {
        headers.insert(header::HOST, inbound.host.clone());
    }
    if let Some(protocol) = inbound.upgrade {
        headers.insert(header::UPGRADE, protocol.clone());
    }
    let nominated = match (inbound.upgrade, trailers) {
        (None, false) => return,
        (None, true) => "te",
        (Some(_), false) => "upgrade",
        (Some(_), true) => "upgrade, te",
    };
    headers.insert(header::CONNECTION, HeaderValue::from_static(nominated));
}

/// What the gateway knows of an answer when it passes it on.
#[derive(Debug, Clone, Copy)]
pub struct Outbound<'r> {
    pub status: StatusCode,
    /// In which the upstream spoke.
    pub version: Version,
    pub request_id: &'r RequestId,
    /// Time spent waiting for turn, rate and place.
    pub queued: Duration,
    /// Time from the upstream having the request to its response head.
    pub upstream: Duration,
}

/// Makes the fields of an upstream's answer those that go to the client. [`response_framing`] has found them good.
///
/// `Content-Length` stays, as one number: an answer to `HEAD` and a 304 tell by it what they do not send. After a 101 the
/// fields of the upgrade stay.
pub fn to_client(headers: &mut HeaderMap, outbound: &Outbound<'_>) {
    let present = Present::in_answer(headers);
    let upgrade = if outbound.status == StatusCode::SWITCHING_PROTOCOLS && present.has(Field::Upgrade) {
        headers.get(header::UPGRADE).cloned()
    } else {
        None
    };
    strip::connection_fields(headers, present, None);
    // Only the gateway says these; and a backend that says back what it was told would give its turn away.
    for (_, name) in OWN_ANSWERS.iter().filter(|(field, _)| present.has(*field)) {
        headers.remove(name);
    }
    if present.has(Field::ContentLength) {
        set_length(headers, outbound.status);
    }
    headers.reserve(ADDED);
    if let Some(protocol) = upgrade {
        headers.insert(header::UPGRADE, protocol);
        headers.insert(header::CONNECTION, UPGRADE);
    }
    headers.append(header::VIA, via(outbound.version));
    headers.insert(X_REQUEST_ID, outbound.request_id.as_value().clone());
    headers.append(SERVER_TIMING, timing::server_timing(outbound.queued, outbound.upstream));
}

fn set_length(headers: &mut HeaderMap, status: StatusCode) {
    // RFC 9110, section 8.6.
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        headers.remove(header::CONTENT_LENGTH);
    } else if plain_length(headers).is_none() {
        match content_length(headers) {
            Ok(Some(length)) => drop(headers.insert(header::CONTENT_LENGTH, length.into())),
            _ => drop(headers.remove(header::CONTENT_LENGTH)),
        }
    }
}

/// A `Content-Length` that stands on one line as the gateway would write it itself.
fn plain_length(headers: &HeaderMap) -> Option<u64> {
    let mut lines = headers.get_all(header::CONTENT_LENGTH).iter();
    let line = lines.next().filter(|line| line.len() == 1 || !line.as_bytes().starts_with(b"0"))?;
    if lines.next().is_some() { None } else { whole_number(line) }
}

/// Why an upstream's answer is no answer: its end could be found in two ways, or in none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadFraming;

impl std::fmt::Display for BadFraming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the answer's Content-Length and Transfer-Encoding do not say where it ends")
    }
}

impl std::error::Error for BadFraming {}

/// Where the body of an answer ends that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// After so many octets.
    Length(u64),
    Chunked,
    /// With its connection, in HTTP/1; where the stream says so in HTTP/2.
    Connection,
}

/// Finds where an upstream's answer ends (RFC 9112, section 6.3). Equal lengths given twice are one.
///
/// # Errors
/// Both framings, lengths that differ or are no numbers, and transfer codings other than one `chunked`.
pub fn response_framing(headers: &HeaderMap) -> Result<BodyEnd, BadFraming> {
    let length = content_length(headers)?;
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return if length.is_none() && is_chunked(headers) { Ok(BodyEnd::Chunked) } else { Err(BadFraming) };
    }
    Ok(length.map_or(BodyEnd::Connection, BodyEnd::Length))
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, BadFraming> {
    let mut length = None;
    for line in headers.get_all(header::CONTENT_LENGTH) {
        let own = whole_number(line).ok_or(BadFraming)?;
        if length.replace(own).is_some_and(|earlier| earlier != own) {
            return Err(BadFraming);
        }
    }
    Ok(length)
}

/// RFC 9110, section 7.6.3, with the protocol in which the message was received.
const fn via(received: Version) -> HeaderValue {
    const HTTP_10: HeaderValue = HeaderValue::from_static("1.0 turnwise");
    const HTTP_11: HeaderValue = HeaderValue::from_static("1.1 turnwise");
    const HTTP_2: HeaderValue = HeaderValue::from_static("2.0 turnwise");
    match received {
        Version::HTTP_10 => HTTP_10,
        Version::HTTP_2 => HTTP_2,
        _ => HTTP_11,
    }
}

#[cfg(test)]
mod tests;
