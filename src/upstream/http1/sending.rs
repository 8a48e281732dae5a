//! One request on its way to a server.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, Request, header};
use http_body::{Body, Frame};

use crate::request::framing::whole_number;
use crate::upstream::connect::Stream;
use crate::upstream::octets::SMALL;
use crate::upstream::upload::Upload;

/// A request that has not been written whole.
#[derive(Debug)]
pub(super) struct Sending {
    request: Box<Request<Upload>>,
    framing: Framing,
    queue: Queue,
    state: State,
    /// Whether the body has been looked at, or an octet been written.
    touched: bool,
}

/// How the end of the body is told. It is what the fields of the head say, since the server goes by them.
#[derive(Debug, Clone, Copy)]
enum Framing {
    /// So many octets are still to come.
    Length(u64),
    Chunked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is more of the body.
    More,
    /// All of it is in the queue, or written.
    Whole,
    /// It came to no good end.
    Broken,
}

/// How a request went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Whole,
    /// Its body broke. The sending side is shut: a server that waits for the rest reads its end. Closing the connection
    /// would be no sign to one that works without reading on.
    Shut,
}

impl Sending {
    pub(super) fn new(request: Box<Request<Upload>>) -> Self {
        let mut queue = Queue::default();
        let framing = write_head(&request, &mut queue.octets);
        let state = if matches!(framing, Framing::Length(0)) { State::Whole } else { State::More };
        Self { request, framing, queue, state, touched: false }
    }

    /// Whether it is at its beginning, and may be sent over another connection.
    pub(super) fn is_whole(&self) -> bool {
        !self.touched
    }

    pub(super) fn into_request(self) -> Box<Request<Upload>> {
        self.request
    }

    /// Sends what there is. Ready when there will be no more.
    ///
    /// # Errors
    /// The connection's.
    pub(super) fn poll(&mut self, stream: &mut dyn Stream, cx: &mut Context<'_>) -> Poll<io::Result<Sent>> {
        loop {
            // Looked at before the head goes out, so that a body that is there goes with it.
            let waits = self.look(cx);
            while !self.queue.is_empty() {
                let written = ready!(self.queue.poll_write(stream, cx))?;
                self.touched |= written > 0;
            }
            match self.state {
                State::More if !waits => {}
                State::More => {
                    ready!(Pin::new(stream).poll_flush(cx))?;
                    return Poll::Pending;
                }
                State::Whole => return Pin::new(stream).poll_flush(cx).map_ok(|()| Sent::Whole),
                State::Broken => return Pin::new(stream).poll_shutdown(cx).map_ok(|()| Sent::Shut),
            }
        }
    }

    /// Queues the next piece of the body, if there is room. Whether the body has none now.
    fn look(&mut self, cx: &mut Context<'_>) -> bool {
        if self.state != State::More || self.queue.is_long() {
            return false;
        }
        let Poll::Ready(frame) = Pin::new(self.request.body_mut()).poll_frame(cx) else {
            return true;
        };
        self.touched = true;
        match frame {
            Some(Ok(frame)) => self.take(frame),
            Some(Err(_)) => self.state = State::Broken,
            None => self.end(HeaderMap::new()),
        }
        false
    }

    fn take(&mut self, frame: Frame<Bytes>) {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(other) => return self.end(other.into_trailers().unwrap_or_default()),
        };
        match &mut self.framing {
            Framing::Chunked => self.queue.push_chunk(data),
            Framing::Length(left) => {
                let length = data.len() as u64;
                if length > *left {
                    self.state = State::Broken;
                    return;
                }
                *left -= length;
                self.queue.push(data);
            }
        }
        if self.request.body().is_end_stream() {
            self.end(HeaderMap::new());
        }
    }

    fn end(&mut self, trailers: HeaderMap) {
        self.state = State::Whole;
        match self.framing {
            // What is shorter than was said is not shown as whole.
            Framing::Length(left) if left > 0 => self.state = State::Broken,
            Framing::Length(_) => {}
            Framing::Chunked => {
                let octets = &mut self.queue.octets_after_data();
                octets.extend_from_slice(b"0\r\n");
                for (name, value) in &trailers {
                    if is_announced(self.request.headers(), name) {
                        write_field(name, value.as_bytes(), octets);
                    }
                }
                octets.extend_from_slice(b"\r\n");
            }
        }
    }
}

/// Whether the head names the trailer `name`, and may (RFC 9110, section 6.5.1).
fn is_announced(headers: &HeaderMap, name: &HeaderName) -> bool {
    const NEVER: [HeaderName; 12] = [
        header::AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::HOST,
        header::MAX_FORWARDS,
        header::SET_COOKIE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::TE,
    ];
    let lines = headers.get_all(header::TRAILER).iter().filter_map(|line| line.to_str().ok());
    let named = || lines.flat_map(|line| line.split(',')).any(|own| own.trim().eq_ignore_ascii_case(name.as_str()));
    !NEVER.contains(name) && named()
}

/// Writes the head, with room for a short body behind it. How the body ends.
fn write_head(request: &Request<Upload>, octets: &mut Vec<u8>) -> Framing {
    /// What is more than the name and the value of a field, and than method and target of the first line.
    const BESIDE: usize = 32;
    let (mut length, mut framing) = (BESIDE, Framing::Length(0));
    for (name, value) in request.headers() {
        length += name.as_str().len() + value.len() + 4;
        match *name {
            header::TRANSFER_ENCODING => framing = Framing::Chunked,
            header::CONTENT_LENGTH if matches!(framing, Framing::Length(_)) => {
                framing = Framing::Length(whole_number(value).unwrap_or(0));
            }
            _ => {}
        }
    }
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let body = match framing {
        Framing::Length(length) if length <= SMALL as u64 => length as usize,
        _ => 0,
    };
    octets.reserve_exact(request.method().as_str().len() + target.len() + length + body);
    octets.extend_from_slice(request.method().as_str().as_bytes());
    octets.push(b' ');
    octets.extend_from_slice(target.as_bytes());
    octets.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in request.headers() {
        write_field(name, value.as_bytes(), octets);
    }
    octets.extend_from_slice(b"\r\n");
    framing
}

fn write_field(name: &HeaderName, value: &[u8], octets: &mut Vec<u8>) {
    octets.extend_from_slice(name.as_str().as_bytes());
    octets.extend_from_slice(b": ");
    octets.extend_from_slice(value);
    octets.extend_from_slice(b"\r\n");
}

/// Octets that are to be written: some that were put together, then a long piece as it came, then some more.
#[derive(Debug, Default)]
struct Queue {
    octets: Vec<u8>,
    /// How many of them were written.
    written: usize,
    long: Bytes,
    after: Vec<u8>,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.written == self.octets.len() && self.long.is_empty() && self.after.is_empty()
    }

    /// Whether nothing more may be put into it.
    fn is_long(&self) -> bool {
        !self.long.is_empty() || self.octets.len() - self.written > SMALL
    }

    fn push(&mut self, data: Bytes) {
        if data.len() <= SMALL {
            self.octets.extend_from_slice(&data);
        } else {
            self.long = data;
        }
    }

    fn push_chunk(&mut self, data: Bytes) {
        if data.is_empty() {
            // It would be the end.
            return;
        }
        let size = format!("{:x}\r\n", data.len());
        self.octets.extend_from_slice(size.as_bytes());
        self.push(data);
        self.octets_after_data().extend_from_slice(b"\r\n");
    }

    /// Where what follows all data is written.
    fn octets_after_data(&mut self) -> &mut Vec<u8> {
        if self.long.is_empty() { &mut self.octets } else { &mut self.after }
    }

    fn poll_write(&mut self, stream: &mut dyn Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let octets = &self.octets[self.written..];
        let stream = Pin::new(stream);
        let written = if self.long.is_empty() && self.after.is_empty() {
            ready!(stream.poll_write(cx, octets))?
        } else {
            let pieces = [IoSlice::new(octets), IoSlice::new(&self.long), IoSlice::new(&self.after)];
            ready!(stream.poll_write_vectored(cx, &pieces))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    fn advance(&mut self, mut written: usize) {
        let octets = written.min(self.octets.len() - self.written);
        self.written += octets;
        written -= octets;
        let long = written.min(self.long.len());
        self.long.advance(long);
        written -= long;
        if self.long.is_empty() && self.written == self.octets.len() {
            self.long = Bytes::new();
            self.octets.clear();
            std::mem::swap(&mut self.octets, &mut self.after);
            self.written = written;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_queued_is_written_in_order_however_much_is_taken_at_once(
            lengths in prop::collection::vec(0usize..5000, 1..12),
            takes in prop::collection::vec(1usize..3000, 1..9),
        ) {
            let (mut queue, mut expected, mut written) = (Queue::default(), vec![], vec![]);
            let mut takes = takes.into_iter().cycle();
            for (number, length) in lengths.into_iter().enumerate() {
                let data = Bytes::from(vec![number as u8; length]);
                if length > 0 {
                    expected.extend_from_slice(format!("{length:x}\r\n").as_bytes());
                    expected.extend_from_slice(&data);
                    expected.extend_from_slice(b"\r\n");
                }
                queue.push_chunk(data);
                while queue.is_long() {
                    take(&mut queue, takes.next().expect("endless"), &mut written);
                }
            }
            while !queue.is_empty() {
                take(&mut queue, takes.next().expect("endless"), &mut written);
            }
            prop_assert_eq!(written, expected);
        }
    }

    fn take(queue: &mut Queue, most: usize, written: &mut Vec<u8>) {
        let all = [&queue.octets[queue.written..], &queue.long[..], &queue.after[..]].concat();
        let most = most.min(all.len());
        written.extend_from_slice(&all[..most]);
        queue.advance(most);
    }
}
