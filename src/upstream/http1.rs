//! One HTTP/1.1 connection to a server, for one request at a time.
//!
//! It is driven by whoever sends the request, in the task of the client's connection: there is no task of its own, and
//! nothing is handed over between two. That is what makes it cheap, and exact: dropping it closes the connection then and
//! there. Nobody drives one that is idle; whether the server has closed it is found out when it is used again, and by
//! the pool once in a while.
//!
//! ```text
//!   begin ─▶ poll_head ──final head──▶ poll_frame … ──last octet──▶ ended ─▶ begin
//!                │                          └─▶ what is left of the request goes on being sent
//!                └──101──▶ switch
//! ```
//!
//! What a server says is read strictly (RFC 9112): what could be read in two ways is [`Nonsense`]. Where its answer ends
//! is decided by [`response_framing`](crate::upstream::fields::response_framing).

mod chunks;
mod head;
mod sending;
mod switched;

use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncReadExt, ReadBuf};

use self::chunks::{Chunks, Next, take};
use self::head::Head;
use self::sending::{Sending, Sent};
pub use self::switched::Switched;
use crate::request::exchange::Exchange;
use crate::upstream::connect::Stream;
use crate::upstream::fields::BodyEnd;
use crate::upstream::interim;
use crate::upstream::octets::{AT_ONCE, poll_octets};
use crate::upstream::upload::Upload;

/// The longest head of an answer, in octets.
const MAX_HEAD: usize = 256 * 1024;
/// The most interim responses to one request.
const MAX_INTERIM: u32 = 1000;
/// How much is read at once of an answer of which there is much.
const MUCH: usize = 64 * 1024;

/// See the module.
pub struct Connection {
    stream: Box<dyn Stream>,
    /// The request, until it was written whole.
    sending: Option<Sending>,
    /// For the fields of the answer: the request's own memory for them, when it is not needed any more.
    fields: HeaderMap,
    /// Octets that were read and not used.
    unread: Bytes,
    /// Whether the last read left more behind.
    much: bool,
    /// Where much is read to.
    room: BytesMut,
    body: Body,
    /// Whether something of the answer was handed over, and nothing waited for since.
    handed: bool,
    /// What is to be told next.
    broken: Option<Broken>,
    /// How many interim responses came.
    interims: u32,
    /// Whether an answer to `HEAD` is expected, which has no body whatever its fields say.
    to_head: bool,
    /// Whether another request may follow on it.
    keeps: bool,
}

/// What is still to come of the answer's body.
#[derive(Debug)]
enum Body {
    Ended,
    Length(u64),
    Chunked(Box<Chunks>),
    /// It goes on to the end of the connection.
    ToTheEnd,
}

/// Why there is no answer, or not the rest of it.
#[derive(Debug)]
pub enum Broken {
    /// The connection failed.
    Lost(io::Error),
    /// The server ended it too early.
    Ended,
    /// What came is no answer.
    Nonsense(Nonsense),
}

/// What is wrong with what a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonsense(&'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(error) => write!(f, "the connection failed: {error}"),
            Self::Ended => f.write_str("the connection ended too early"),
            Self::Nonsense(Nonsense(why)) => f.write_str(why),
        }
    }
}

impl std::error::Error for Broken {}

impl From<Nonsense> for Broken {
    fn from(nonsense: Nonsense) -> Self {
        Self::Nonsense(nonsense)
    }
}

/// Why a request got no head of an answer.
#[derive(Debug)]
pub struct Failed {
    /// The request, if nothing of it was written or used up.
    pub unsent: Option<Box<Request<Upload>>>,
    pub why: Broken,
}

impl From<Nonsense> for Failed {
    fn from(nonsense: Nonsense) -> Self {
        Self { unsent: None, why: nonsense.into() }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("body", &self.body).field("keeps", &self.keeps).finish_non_exhaustive()
    }
}

impl Connection {
    #[must_use]
    pub fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            sending: None,
            fields: HeaderMap::new(),
            unread: Bytes::new(),
            much: false,
            room: BytesMut::new(),
            body: Body::Ended,
            handed: false,
            broken: None,
            interims: 0,
            to_head: false,
            keeps: true,
        }
    }

    /// Begins an exchange; [`poll_head`](Self::poll_head) sends `request`.
    pub fn begin(&mut self, request: Box<Request<Upload>>) {
        debug_assert!(self.is_reusable(), "one request at a time");
        self.to_head = request.method() == Method::HEAD;
        self.interims = 0;
        self.sending = Some(Sending::new(request));
    }

    /// Sends the request, and waits for the head of its answer. Interim responses are left with `interim`.
    ///
    /// # Errors
    /// [`Failed`]; the connection is of no use any more.
    pub fn poll_head(
        &mut self,
        interim: Option<&Exchange>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<()>, Failed>> {
        if let Err(error) = self.send(cx) {
            let sending = self.sending.take().filter(|sending| sending.is_whole());
            if let Some(sending) = sending {
                return Poll::Ready(Err(Failed { unsent: Some(sending.into_request()), why: Broken::Lost(error) }));
            }
            // The server may have answered before it closed.
            self.keeps = false;
        }
        loop {
            if !self.unread.is_empty() {
                match Head::parse(&self.unread, std::mem::take(&mut self.fields))? {
                    Ok(head) if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS => {
                        self.unread.advance(head.length);
                        self.interims += 1;
                        if self.interims > MAX_INTERIM {
                            return Poll::Ready(Err(Nonsense("too many interim responses").into()));
                        }
                        if let Some(exchange) = interim {
                            interim::leave(exchange, head.status, &head.headers);
                        }
                        self.fields = head.headers;
                        self.fields.clear();
                        continue;
                    }
                    Ok(head) => return Poll::Ready(self.answered(head).map_err(Failed::from)),
                    Err(fields) => self.fields = fields,
                }
            }
            match ready!(self.poll_more_of_head(cx)) {
                Ok(()) => {}
                Err(why) => return Poll::Ready(Err(Failed { unsent: None, why })),
            }
        }
    }

    /// The next piece of the answer's body. Goes on with sending the request, if that has not ended.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(broken) = self.broken.take() {
            return Poll::Ready(Some(Err(broken)));
        }
        if self.sending.is_some() && self.send(cx).is_err() {
            self.sending = None;
            self.keeps = false;
        }
        let polled = self.poll_body(cx);
        match polled {
            Poll::Ready(Some(Err(broken))) if self.handed => {
                // Whoever is told of it drops what it holds. What came before has a chance to go out first.
                self.broken = Some(broken);
                self.handed = false;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            polled => {
                self.handed = polled.is_ready();
                polled
            }
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            match self.next_frame() {
                Ok(Poll::Ready(frame)) => return Poll::Ready(frame.map(Ok)),
                Ok(Poll::Pending) => {}
                Err(nonsense) => return Poll::Ready(Some(Err(nonsense.into()))),
            }
            match ready!(self.poll_more(cx)) {
                Err(error) => return Poll::Ready(Some(Err(Broken::Lost(error)))),
                Ok(()) if !self.unread.is_empty() => {}
                Ok(()) if matches!(self.body, Body::ToTheEnd) => {
                    self.end_body();
                    return Poll::Ready(None);
                }
                Ok(()) => return Poll::Ready(Some(Err(Broken::Ended))),
            }
        }
    }

    /// Whether the answer has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.body, Body::Ended)
    }

    /// How much of the answer is still to come.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        match self.body {
            Body::Ended => SizeHint::with_exact(0),
            Body::Length(left) => SizeHint::with_exact(left),
            Body::Chunked(_) | Body::ToTheEnd => SizeHint::default(),
        }
    }

    /// Whether another request may follow: the last one was sent and answered to its end, nothing came after that, and
    /// both sides keep the connection.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.keeps && self.sending.is_none() && self.has_ended() && self.unread.is_empty()
    }

    /// Whether an idle connection is still open. Costs no call of the system as long as none tells that it is not.
    #[must_use]
    pub fn is_open(&mut self) -> bool {
        let mut room = [0; 1];
        let mut octets = ReadBuf::new(&mut room);
        let mut nobody = Context::from_waker(Waker::noop());
        Pin::new(&mut *self.stream).poll_read(&mut nobody, &mut octets).is_pending()
    }

    /// The connection for another protocol, after a 101.
    #[must_use]
    pub fn switch(self) -> Switched {
        Switched::new(self.stream, self.unread)
    }

    fn send(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(sending) = &mut self.sending else { return Ok(()) };
        let Poll::Ready(sent) = sending.poll(&mut *self.stream, cx)? else { return Ok(()) };
        self.keeps &= sent == Sent::Whole;
        if let Some(sending) = self.sending.take() {
            self.fields = std::mem::take(sending.into_request().headers_mut());
            self.fields.clear();
        }
        Ok(())
    }

    fn answered(&mut self, head: Head) -> Result<Response<()>, Nonsense> {
        self.unread.advance(head.length);
        if self.unread.is_empty() {
            self.unread = Bytes::new();
        }
        self.keeps &= head.keeps;
        let end = head.end.map_err(|_| Nonsense("its end could be found in two ways"))?;
        self.body = match end {
            _ if self.to_head => Body::Ended,
            _ if matches!(head.status.as_u16(), 101 | 204 | 304) => Body::Ended,
            BodyEnd::Length(0) => Body::Ended,
            BodyEnd::Length(length) => Body::Length(length),
            BodyEnd::Chunked if head.version == Version::HTTP_11 => Body::Chunked(Box::default()),
            BodyEnd::Chunked => return Err(Nonsense("HTTP/1.0 has no Transfer-Encoding")),
            BodyEnd::Connection => {
                self.keeps = false;
                Body::ToTheEnd
            }
        };
        self.handed = true;
        let mut response = Response::new(());
        *response.status_mut() = head.status;
        *response.version_mut() = head.version;
        *response.headers_mut() = head.headers;
        if let Some(reason) = head.reason {
            response.extensions_mut().insert(reason);
        }
        Ok(response)
    }

    /// What of the body is there already: a frame, its end, or nothing before more is read.
    fn next_frame(&mut self) -> Result<Poll<Option<Frame<Bytes>>>, Nonsense> {
        let data = match &mut self.body {
            Body::Ended => return Ok(Poll::Ready(None)),
            Body::Chunked(chunks) => {
                let next = chunks.next(&mut self.unread)?;
                if chunks.ends_with(&mut self.unread) {
                    self.end_body();
                }
                match next {
                    Next::Data(data) => data,
                    Next::Trailers(trailers) => return Ok(Poll::Ready(Some(Frame::trailers(trailers)))),
                    Next::Ended => return Ok(Poll::Ready(None)),
                    Next::More => return Ok(Poll::Pending),
                }
            }
            _ if self.unread.is_empty() => return Ok(Poll::Pending),
            Body::ToTheEnd => std::mem::take(&mut self.unread),
            Body::Length(left) => {
                let data = take(&mut self.unread, *left);
                *left -= data.len() as u64;
                if *left == 0 {
                    self.end_body();
                }
                data
            }
        };
        Ok(Poll::Ready(Some(Frame::data(data))))
    }

    /// An idle connection holds no memory for octets.
    fn end_body(&mut self) {
        self.body = Body::Ended;
        self.much = false;
        self.room = BytesMut::new();
        if self.unread.is_empty() {
            self.unread = Bytes::new();
        }
    }

    /// Reads until what there is of a head might be whole.
    fn poll_more_of_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let part = std::mem::take(&mut self.unread);
        let mut whole = BytesMut::new();
        loop {
            let read = match self.poll_more(cx) {
                Poll::Ready(read) => read,
                Poll::Pending => {
                    self.unread = if whole.is_empty() { part } else { whole.freeze() };
                    return Poll::Pending;
                }
            };
            let more = std::mem::take(&mut self.unread);
            if let Err(error) = read {
                return Poll::Ready(Err(Broken::Lost(error)));
            }
            if more.is_empty() {
                return Poll::Ready(Err(Broken::Ended));
            }
            if part.is_empty() && whole.is_empty() {
                self.unread = more;
                return Poll::Ready(Ok(()));
            }
            if whole.is_empty() {
                whole.extend_from_slice(&part);
            }
            whole.extend_from_slice(&more);
            if whole.len() > MAX_HEAD {
                return Poll::Ready(Err(Nonsense("the head is too long").into()));
            }
            // Parsing begins anew each time; it is not worth it before a line has ended.
            if memchr::memchr(b'\n', &more).is_some() {
                self.unread = whole.freeze();
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads more octets than there are, which are none. Still none at the end of the connection.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        debug_assert!(self.unread.is_empty(), "what was read is used first");
        if self.much {
            if self.room.capacity() < MUCH / 4 {
                self.room = BytesMut::with_capacity(MUCH);
            }
            let read = ready!(pin!(self.stream.read_buf(&mut self.room)).poll(cx))?;
            self.unread = self.room.split().freeze();
            self.much = read >= AT_ONCE;
            if !self.much {
                self.room = BytesMut::new();
            }
        } else {
            self.unread = ready!(poll_octets(&mut *self.stream, cx))?;
            self.much = self.unread.len() == AT_ONCE;
        }
        Poll::Ready(Ok(()))
    }
}
