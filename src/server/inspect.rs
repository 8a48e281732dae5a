//! A look at the octets of HTTP/1 requests before hyper reads them.
//!
//! hyper lets a `Content-Length` beside `Transfer-Encoding` vanish, as well as the second of two equal ones, and reads
//! lines that end in a bare line feed. Each of those is a message that another server may read differently, so the
//! gateway must refuse it (RFC 9112, sections 2.2, 5.2, 6.1 and 6.3). This follows a connection just closely enough to
//! know where heads begin and end; hyper still decides what is valid.
//!
//! ```text
//!   Head ──empty line──▶ Length(n) ──n octets──▶ Head
//!     └─────────────────▶ ChunkSize ─▶ ChunkData(n) ─▶ ChunkEnd ─▶ ChunkSize … Trailers ──empty line──▶ Head
//!   Opaque: an upgraded connection
//!   Lost: octets that hyper may read differently; no further request of this connection is served
//! ```

use memchr::memchr;

use crate::request::framing::{MAX_FIELDS, chunk_size};

/// Longest line that is not part of a head: a chunk's size with its extensions, or a trailer.
const MAX_BODY_LINE: usize = 16 * 1024;

/// Follows the requests of one connection.
#[derive(Debug)]
pub struct Inspector {
    state: State,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    head: Head,
    max_head: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    Opaque,
    Lost,
}

#[derive(Debug, Default)]
struct Head {
    octets: usize,
    fields: usize,
    /// Whether the request line was there.
    begun: bool,
    lengths: u32,
    length: u64,
    codings: u32,
    chunked: bool,
    bad: Option<&'static str>,
}

/// What was seen in a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A head is complete; why it must be refused, if it must.
    HeadEnded(Option<&'static str>),
    /// A head is longer than allowed, or has too many fields; so many octets of the piece stand before it. Nothing more is
    /// looked at.
    HeadTooLarge(usize),
    /// A line of a body's framing can be read in two ways; so many octets of the piece stand before it. Nothing more is looked
    /// at.
    Lost(usize),
}

impl Inspector {
    /// For a connection whose heads may have `max_head` octets.
    #[must_use]
    pub fn new(max_head: usize) -> Self {
        Self { state: State::Head, line: Vec::new(), head: Head::default(), max_head }
    }

    /// Stops looking: the connection speaks another protocol from now on.
    pub fn go_opaque(&mut self) {
        self.state = State::Opaque;
        self.line = Vec::new();
    }

    /// From here on it is not known where heads begin.
    fn lose_track(&mut self) {
        self.state = State::Lost;
        self.line = Vec::new();
    }

    /// Whether it is not known any more where heads begin.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.state == State::Lost
    }

    /// Whether a head has begun and not ended.
    #[must_use]
    pub fn is_in_head(&self) -> bool {
        self.state == State::Head && self.head.octets > 0
    }

    /// Whether all that was sent belongs to complete requests.
    #[must_use]
    pub fn is_between_requests(&self) -> bool {
        self.state == State::Opaque || (self.state == State::Head && self.head.octets == 0)
    }

    /// Whether it might as well begin anew: what comes next is a request, and nothing is known of it yet.
    #[must_use]
    pub fn is_pristine(&self) -> bool {
        self.state == State::Head && self.head.octets == 0 && self.head.bad.is_none()
    }

    /// Looks at the next piece, and tells `seen` what is in it.
    pub fn look(&mut self, mut piece: &[u8], mut seen: impl FnMut(Seen)) {
        let whole = piece.len();
        // Where the head that is being read began, if it did in this piece.
        let mut head_at = 0;
        let was_lost = self.is_lost();
        while !piece.is_empty() {
            let line_at = if self.line.is_empty() { whole - piece.len() } else { 0 };
            let in_body = self.state != State::Head;
            if self.state == State::Head && self.head.octets == 0 {
                head_at = whole - piece.len();
            }
            piece = match self.state {
                State::Opaque | State::Lost => return,
                State::Length(left) => {
                    let (left, rest) = skip(left, piece);
                    self.state = if left == 0 { State::Head } else { State::Length(left) };
                    rest
                }
                State::ChunkData(left) => {
                    let (left, rest) = skip(left, piece);
                    self.state = if left == 0 { State::ChunkEnd } else { State::ChunkData(left) };
                    rest
                }
                State::Head | State::ChunkSize | State::ChunkEnd | State::Trailers => {
                    self.look_at_line(piece, head_at, &mut seen)
                }
            };
            if in_body && self.is_lost() && !was_lost {
                seen(Seen::Lost(line_at));
                return;
            }
        }
    }

    fn look_at_line<'p>(&mut self, piece: &'p [u8], head_at: usize, seen: &mut impl FnMut(Seen)) -> &'p [u8] {
        let end = memchr(b'\n', piece).map(|end| end + 1);
        let (part, rest) = piece.split_at(end.unwrap_or(piece.len()));
        if self.state == State::Head {
            self.head.octets += part.len();
            if self.head.octets > self.max_head {
                self.go_opaque();
                seen(Seen::HeadTooLarge(head_at));
                return &[];
            }
        } else if self.line.len() + part.len() > MAX_BODY_LINE {
            self.lose_track();
            return &[];
        }
        if end.is_none() {
            self.line.extend_from_slice(part);
            return rest;
        }
        if self.line.is_empty() {
            self.line_ended(part, seen);
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(part);
            self.line_ended(&line, seen);
        }
        if self.head.fields > MAX_FIELDS {
            // hyper would refuse it as well, in words that say nothing.
            self.go_opaque();
            seen(Seen::HeadTooLarge(head_at));
            return &[];
        }
        rest
    }

    fn line_ended(&mut self, line: &[u8], seen: &mut impl FnMut(Seen)) {
        let (text, bare) = match line.strip_suffix(b"\r\n") {
            Some(text) => (text, false),
            None => (&line[..line.len() - 1], true),
        };
        match self.state {
            State::Head => self.head_line(text, bare, seen),
            // Whether hyper takes it for the end of the line is not ours to guess.
            _ if bare => self.lose_track(),
            State::ChunkSize => {
                let size = chunk_size(text).filter(|(_, extension)| !extension.iter().any(is_control));
                self.state = size.map_or(State::Lost, |(size, _)| next_of_chunk(size));
            }
            State::ChunkEnd => self.state = if text.is_empty() { State::ChunkSize } else { State::Lost },
            State::Trailers if text.is_empty() => self.state = State::Head,
            State::Trailers | State::Length(_) | State::ChunkData(_) | State::Opaque | State::Lost => {}
        }
    }

    fn head_line(&mut self, text: &[u8], bare: bool, seen: &mut impl FnMut(Seen)) {
        let head = &mut self.head;
        if bare {
            head.bad = Some("a line of the request head ends in a bare line feed");
        }
        if !head.begun {
            // Empty lines before the request line are ignored (RFC 9112, section 2.2).
            head.begun = !text.is_empty();
            if text.contains(&b'#') {
                // hyper would cut it off; what the server then gets is not what was asked for.
                head.bad = Some("the request target has a fragment");
            }
            if !head.begun {
                head.octets = 0;
            }
        } else if text.is_empty() {
            let head = std::mem::take(head);
            self.state = head.body();
            seen(Seen::HeadEnded(head.verdict()));
        } else {
            head.fields += 1;
            head.field(text);
        }
    }
}

impl Head {
    fn field(&mut self, line: &[u8]) {
        match line[0] {
            b' ' | b'\t' => self.bad = Some("a field of the request head is folded over lines"),
            b't' | b'T' => {
                if let Some(value) = value_of(line, b"transfer-encoding") {
                    self.codings += 1;
                    self.chunked = value.eq_ignore_ascii_case(b"chunked");
                }
            }
            b'c' | b'C' => {
                if let Some(value) = value_of(line, b"content-length") {
                    self.lengths += 1;
                    match number(value) {
                        Some(length) => self.length = length,
                        None => self.bad = Some("Content-Length is not one whole number"),
                    }
                }
            }
            _ => {}
        }
    }

    fn verdict(&self) -> Option<&'static str> {
        if self.codings > 0 && self.lengths > 0 {
            Some("the request has both Transfer-Encoding and Content-Length")
        } else if self.codings > 1 || (self.codings == 1 && !self.chunked) {
            Some("Transfer-Encoding is not exactly one `chunked`")
        } else if self.lengths > 1 {
            Some("the request has several Content-Length fields")
        } else {
            self.bad
        }
    }

    fn body(&self) -> State {
        match (self.codings, self.length) {
            (0, 0) => State::Head,
            (0, length) => State::Length(length),
            _ if self.chunked => State::ChunkSize,
            _ => State::Lost,
        }
    }
}

/// Octets that no extension of a chunk may have (RFC 9112, section 7.1.1).
fn is_control(octet: &u8) -> bool {
    octet.is_ascii_control() && *octet != b'\t'
}

/// The value of `line`, if it is the field `name`.
fn value_of<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (field, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    field.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn next_of_chunk(size: u64) -> State {
    if size == 0 { State::Trailers } else { State::ChunkData(size) }
}

fn skip(left: u64, piece: &[u8]) -> (u64, &[u8]) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
    (left - taken as u64, &piece[taken..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn look(bytes: &[u8]) -> (Vec<Seen>, Inspector) {
        let mut inspector = Inspector::new(1000);
        let mut all = vec![];
        inspector.look(bytes, |seen| all.push(seen));
        (all, inspector)
    }

    fn verdict(head: &str) -> Option<&'static str> {
        match look(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n").as_bytes()).0[..] {
            [Seen::HeadEnded(verdict), ..] => verdict,
            ref other => panic!("{head:?}: {other:?}"),
        }
    }

    #[test]
    fn both_framings_are_seen_in_either_order() {
        assert!(verdict("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n").is_some());
        assert!(verdict("content-length: 3\r\ntransfer-encoding: chunked\r\n").is_some());
        assert_eq!(verdict("Transfer-Encoding: Chunked\r\n"), None);
        assert_eq!(verdict("Content-Length: 3\r\n"), None);
    }

    #[test]
    fn doubled_signed_and_listed_lengths_are_refused() {
        for bad in ["Content-Length: 3\r\nContent-Length: 3\r\n", "Content-Length: +3\r\n", "Content-Length: 3, 3\r\n"]
        {
            assert!(verdict(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn folded_fields_and_bare_line_feeds_are_refused() {
        assert!(verdict("X: a\r\n b\r\n").is_some());
        assert!(verdict("X: a\n").is_some());
    }

    #[test]
    fn a_request_after_a_body_is_found_wherever_the_body_ends() {
        let next = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for (body, head) in [
            ("abc", "Content-Length: 3\r\n"),
            ("3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n", "Transfer-Encoding: chunked\r\n"),
            ("0\r\n\r\n", "Transfer-Encoding: chunked\r\n"),
        ] {
            let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n{body}{next}");
            let (seen, inspector) = look(bytes.as_bytes());
            assert_eq!(seen, [Seen::HeadEnded(None); 2], "{bytes:?}");
            assert!(inspector.is_between_requests() && inspector.is_pristine());
        }
    }

    #[test]
    fn an_empty_line_is_nothing_unless_it_is_a_bad_one() {
        assert!(look(b"\r\n\r\n").1.is_pristine());
        assert!(!look(b"\r").1.is_pristine());
        assert!(!look(b"\n").1.is_pristine());
    }

    #[test]
    fn what_hyper_may_read_differently_is_followed_no_further() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let zeros = format!("{}3\r\nabc\r\n", "0".repeat(20_000));
        for (body, good) in [
            ("0\r\nX: y\n\r\nFoo: bar\r\n\r\n", 3),
            ("3\nabc\r\n0\r\n\r\n", 0),
            ("3\r\nabcd\r\n", 6),
            ("x\r\n", 0),
            ("3;a=\0\r\nabc\r\n", 0),
            (&zeros, 0),
        ] {
            let bytes = format!("{head}{body}GET / HTTP/1.1\r\n\r\n");
            let (seen, inspector) = look(bytes.as_bytes());
            assert_eq!(seen, [Seen::HeadEnded(None), Seen::Lost(head.len() + good)], "{body:?}");
            assert!(!inspector.is_between_requests());
        }
    }

    #[test]
    fn a_head_has_no_more_fields_than_hyper_reads() {
        let head = |fields: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a:\r\n".repeat(fields));
        assert_eq!(look(head(MAX_FIELDS).as_bytes()).0, [Seen::HeadEnded(None)]);
        assert_eq!(look(head(MAX_FIELDS + 1).as_bytes()).0, [Seen::HeadTooLarge(0)]);
        let after = head(MAX_FIELDS) + &head(MAX_FIELDS + 1);
        assert_eq!(look(after.as_bytes()).0, [Seen::HeadEnded(None), Seen::HeadTooLarge(head(MAX_FIELDS).len())]);
    }

    #[test]
    fn a_head_is_too_large_before_it_has_ended() {
        assert_eq!(look(&[b'a'; 1001]).0, [Seen::HeadTooLarge(0)]);
        let after = [&b"GET / HTTP/1.1\r\n\r\n"[..], &[b'a'; 1001]].concat();
        assert_eq!(look(&after).0, [Seen::HeadEnded(None), Seen::HeadTooLarge(18)]);
        assert_eq!(look(&[b'a'; 1000]).0, []);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(bytes in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), any::<u8>()], 0..300), cut in 0usize..300) {
            let whole = look(&bytes).0;
            let cut = cut.min(bytes.len());
            let mut inspector = Inspector::new(1000);
            let mut pieces = vec![];
            inspector.look(&bytes[..cut], |seen| pieces.push(seen));
            inspector.look(&bytes[cut..], |seen| pieces.push(seen));
            prop_assert_eq!(whole, pieces);
        }
    }
}
