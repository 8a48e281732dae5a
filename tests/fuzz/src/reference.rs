//! HTTP/1 messages, read strictly by RFC 9112 and by what the gateway promises of framing. Written for this alone and slow:
//! a second opinion.
//!
//! What it refuses must be refused. What it takes may be refused by the gateway for other reasons.

/// What stands at a place in the octets of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read<T> {
    Whole(T),
    /// The end is missing. What there is, once the head is whole.
    Partial(Option<T>),
    /// Why it must be refused, and what there was before that, once the head was whole.
    Bad(&'static str, Option<T>),
}

use Read::{Bad, Partial, Whole};

/// Name in lower case and value of each field.
pub type Fields = Vec<(String, Vec<u8>)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    /// To the end of the connection; answers only.
    ToTheEnd,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<L> {
    pub line: L,
    /// Whether the version is 1.1.
    pub is_11: bool,
    pub fields: Fields,
    pub framing: Framing,
    pub body: Vec<u8>,
    pub trailers: Fields,
    /// The last chunk has come, and what follows it is trailers.
    pub in_trailers: bool,
    /// Where the head ends, and the whole of it.
    pub head_end: usize,
    pub end: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLine {
    pub method: String,
    pub target: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusLine {
    pub status: u16,
}

pub type Request = Message<RequestLine>;
pub type Answer = Message<StatusLine>;

impl<L> Message<L> {
    pub fn values<'m>(&'m self, name: &str) -> impl Iterator<Item = &'m [u8]> {
        self.fields.iter().filter(move |(own, _)| own == name).map(|(_, value)| &value[..])
    }

    pub fn field(&self, name: &str) -> Option<String> {
        self.values(name).next().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Whether a list field has this member, whatever its case.
    pub fn lists(&self, name: &str, member: &str) -> bool {
        let members = self.values(name).flat_map(|line| line.split(|octet| *octet == b','));
        members.into_iter().any(|own| own.trim_ascii().eq_ignore_ascii_case(member.as_bytes()))
    }

    /// Whether another message may follow on the connection.
    pub fn keeps(&self) -> bool {
        !self.lists("connection", "close") && (self.is_11 || self.lists("connection", "keep-alive"))
    }
}

fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

/// How lines may end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// With CR LF only.
    Strictly,
    /// With a bare line feed, too, which recipients may take (section 2.2).
    Loosely,
}

/// A line without its end, and where the next begins.
fn line(octets: &[u8], at: usize, ends: Ends) -> Read<(&[u8], usize)> {
    let rest = &octets[at..];
    let Some(end) = rest.iter().position(|octet| *octet == b'\n') else { return Partial(None) };
    let text = match rest[..end].strip_suffix(b"\r") {
        Some(text) => text,
        None if ends == Ends::Loosely => &rest[..end],
        None => return Bad("a bare line feed", None),
    };
    if text.iter().any(|octet| (*octet < b' ' && *octet != b'\t') || *octet == 0x7f) {
        return Bad("a control character", None);
    }
    Whole((text, at + end + 1))
}

/// Gives up on what is not there or bad.
macro_rules! whole {
    ($read:expr) => {
        match $read {
            Whole(whole) => whole,
            Partial(_) => return Partial(None),
            Bad(why, _) => return Bad(why, None),
        }
    };
}

/// Fields to the empty line.
fn fields(octets: &[u8], mut at: usize, ends: Ends) -> Read<(Fields, usize)> {
    let mut fields = Vec::new();
    loop {
        let (text, next) = whole!(line(octets, at, ends));
        at = next;
        if text.is_empty() {
            return Whole((fields, at));
        }
        if matches!(text[0], b' ' | b'\t') {
            return Bad("a folded line", None);
        }
        let Some(colon) = text.iter().position(|octet| *octet == b':') else {
            return Bad("a field without a colon", None);
        };
        let name = &text[..colon];
        if name.is_empty() || !name.iter().all(|octet| is_token(*octet)) {
            return Bad("a field's name is no token", None);
        }
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        fields.push((name, text[colon + 1..].trim_ascii().to_vec()));
    }
}

/// `None`: it is not one whole number.
fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok()?.parse().ok().filter(|_| digits)
}

/// `name[:port]`, as what may stand in a URI; stricter than what a registered name may be in that it is not empty.
fn is_host(text: &[u8]) -> bool {
    let (name, port) = match text.first() {
        Some(b'[') => {
            let Some(end) = text.iter().position(|octet| *octet == b']') else { return false };
            if !text[1..end].iter().all(|c| c.is_ascii_hexdigit() || matches!(c, b':' | b'.')) {
                return false;
            }
            text.split_at(end + 1)
        }
        _ => text.split_at(text.iter().position(|octet| *octet == b':').unwrap_or(text.len())),
    };
    let fits = |c: &u8| c.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(c);
    let named = name.first() == Some(&b'[') || (!name.is_empty() && name.iter().all(fits));
    named && (port.is_empty() || (port[0] == b':' && port[1..].iter().all(u8::is_ascii_digit)))
}

/// How the fields of a request frame it.
fn request_framing(fields: &Fields, is_11: bool) -> Result<Framing, &'static str> {
    let values = |name: &str| -> Vec<&[u8]> {
        fields.iter().filter(|(own, _)| own == name).map(|(_, value)| &value[..]).collect()
    };
    let (codings, lengths) = (values("transfer-encoding"), values("content-length"));
    match (&codings[..], &lengths[..]) {
        ([], []) => Ok(Framing::None),
        ([], [length]) => number(length).map(Framing::Length).ok_or("a length that is no whole number"),
        ([], _) => Err("several lengths"),
        ([coding], []) if !coding.eq_ignore_ascii_case(b"chunked") => Err("an unknown coding"),
        ([_], []) if !is_11 => Err("a coding in HTTP/1.0"),
        ([_], []) => Ok(Framing::Chunked),
        (_, []) => Err("several codings"),
        _ => Err("both framings"),
    }
}

/// The request that begins at `at`, after empty lines.
pub fn request(octets: &[u8], mut at: usize) -> Read<Request> {
    while octets[at..].starts_with(b"\r\n") {
        at += 2;
    }
    if octets[at..].is_empty() || octets[at..] == *b"\r" {
        return Partial(None);
    }
    let (first, next) = whole!(line(octets, at, Ends::Strictly));
    let parts: Vec<&[u8]> = first.split(|octet| *octet == b' ').collect();
    let [method, target, version] = parts[..] else { return Bad("a request line without three parts", None) };
    if method.is_empty() || !method.iter().all(|octet| is_token(*octet)) {
        return Bad("the method is no token", None);
    }
    if target.is_empty() || target.contains(&b'\t') || !target.is_ascii() {
        return Bad("the target is none", None);
    }
    if first.contains(&b'#') {
        return Bad("the target has a fragment", None);
    }
    let is_11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => return Bad("the version is none of HTTP/1", None),
    };
    let (fields, head_end) = whole!(fields(octets, next, Ends::Strictly));
    let hosts: Vec<_> = fields.iter().filter(|(name, _)| name == "host").collect();
    if hosts.len() > 1 || (hosts.is_empty() && is_11) {
        return Bad("no host, or several", None);
    }
    if hosts.iter().any(|(_, host)| !is_host(host)) {
        return Bad("a malformed host", None);
    }
    let framing = match request_framing(&fields, is_11) {
        Ok(framing) => framing,
        Err(why) => return Bad(why, None),
    };
    let line = RequestLine {
        method: String::from_utf8_lossy(method).into_owned(),
        target: String::from_utf8_lossy(target).into_owned(),
    };
    let message = Message {
        line,
        is_11,
        fields,
        framing,
        body: Vec::new(),
        trailers: Vec::new(),
        in_trailers: false,
        head_end,
        end: head_end,
    };
    with_body(octets, message, false)
}

/// The target in the form in which it goes on: path and query.
pub fn origin_form(target: &str) -> String {
    let Some((scheme, rest)) = target.split_once("://") else { return target.to_owned() };
    if target.starts_with('/') || !scheme.bytes().all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c)) {
        return target.to_owned();
    }
    match rest.find(['/', '?']) {
        None => "/".to_owned(),
        Some(at) if rest[at..].starts_with('?') => format!("/{}", &rest[at..]),
        Some(at) => rest[at..].to_owned(),
    }
}

/// The answer that begins at `at`, to a request with `method`; `ended`: nothing will come after the octets.
pub fn answer(octets: &[u8], at: usize, method: &str, ended: bool) -> Read<Answer> {
    answer_read(octets, at, method, ended, Ends::Strictly)
}

/// As [`answer`], with what recipients may take besides: bare line feeds in heads, and empty lines before them.
pub fn answer_of_server(octets: &[u8], mut at: usize, method: &str, ended: bool) -> Read<Answer> {
    while let Some(line_end) = [&b"\r\n"[..], b"\n"].into_iter().find(|end| octets[at..].starts_with(end)) {
        at += line_end.len();
    }
    answer_read(octets, at, method, ended, Ends::Loosely)
}

fn answer_read(octets: &[u8], at: usize, method: &str, ended: bool, ends: Ends) -> Read<Answer> {
    let (first, next) = whole!(line(octets, at, ends));
    let is_11 = match first.get(..9) {
        Some(b"HTTP/1.1 ") => true,
        Some(b"HTTP/1.0 ") => false,
        _ => return Bad("no status line", None),
    };
    let (code, reason) = first[9..].split_at(first[9..].len().min(3));
    let status = std::str::from_utf8(code).ok().filter(|code| code.len() == 3).and_then(|code| code.parse().ok());
    let Some(status) = status.filter(|status| (100..1000).contains(status) && !code.contains(&b'+')) else {
        return Bad("the status is none", None);
    };
    if !reason.is_empty() && reason[0] != b' ' {
        return Bad("the status is none", None);
    }
    let (fields, head_end) = whole!(fields(octets, next, ends));
    let message = Message {
        line: StatusLine { status },
        is_11,
        fields,
        framing: Framing::None,
        body: Vec::new(),
        trailers: Vec::new(),
        in_trailers: false,
        head_end,
        end: head_end,
    };
    if status < 200 || matches!(status, 204 | 304) || method == "HEAD" {
        return Whole(message);
    }
    let codings: Vec<&[u8]> = message.values("transfer-encoding").collect();
    let lengths: Vec<Option<u64>> = message.values("content-length").map(number).collect();
    let framing = match (&codings[..], &lengths[..]) {
        ([], []) => Framing::ToTheEnd,
        ([], [Some(length), more @ ..]) if more.iter().all(|other| *other == Some(*length)) => Framing::Length(*length),
        ([], _) => return Bad("lengths that are none, or differ", None),
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") && is_11 => Framing::Chunked,
        _ => return Bad("a coding that is not chunked, or both framings", None),
    };
    with_body(octets, Message { framing, ..message }, ended)
}

fn with_body<L: Clone>(octets: &[u8], mut message: Message<L>, ended: bool) -> Read<Message<L>> {
    let rest = &octets[message.head_end..];
    match message.framing {
        Framing::None => Whole(message),
        Framing::ToTheEnd => {
            message.body = rest.to_vec();
            message.end = octets.len();
            if ended { Whole(message) } else { Partial(Some(message)) }
        }
        Framing::Length(length) => {
            let there = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
            message.body = rest[..there].to_vec();
            message.end += there;
            if there as u64 == length { Whole(message) } else { Partial(Some(message)) }
        }
        Framing::Chunked => chunks(octets, message),
    }
}

fn chunks<L: Clone>(octets: &[u8], mut message: Message<L>) -> Read<Message<L>> {
    loop {
        let at = message.end;
        let (text, next) = match line(octets, at, Ends::Strictly) {
            Whole(line) => line,
            Partial(_) => return Partial(Some(message)),
            Bad(why, _) => return Bad(why, Some(message)),
        };
        let digits = text.iter().position(|octet| !octet.is_ascii_hexdigit()).unwrap_or(text.len());
        let size = std::str::from_utf8(&text[..digits]).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let extension = text[digits..].trim_ascii_start();
        let Some(size) = size.filter(|_| extension.is_empty() || extension[0] == b';') else {
            return Bad("the size of a chunk is none", Some(message));
        };
        if size == 0 {
            message.in_trailers = true;
            return match fields(octets, next, Ends::Strictly) {
                Whole((trailers, end)) => Whole(Message { trailers, end, ..message }),
                Partial(_) => Partial(Some(message)),
                Bad(why, _) => Bad(why, Some(message)),
            };
        }
        let there = usize::try_from(size).unwrap_or(usize::MAX).min(octets.len() - next);
        message.body.extend_from_slice(&octets[next..next + there]);
        if (there as u64) < size {
            return Partial(Some(message));
        }
        let after = &octets[next + there..];
        if after.len() < 2 && b"\r\n".starts_with(after) {
            return Partial(Some(message));
        }
        if !after.starts_with(b"\r\n") {
            return Bad("a chunk is longer than its size", Some(message));
        }
        message.end = next + there + 2;
    }
}

/// The requests of one connection.
#[derive(Debug)]
pub struct Requests {
    /// Those that are whole, up to the first after which no other may follow.
    pub whole: Vec<Request>,
    /// Whether the last of them was the last that the client may send.
    pub last_closes: bool,
    /// What comes after them.
    pub rest: Read<Request>,
}

pub fn requests(octets: &[u8]) -> Requests {
    let (mut whole, mut at) = (Vec::new(), 0);
    loop {
        match request(octets, at) {
            Whole(request) => {
                at = request.end;
                let last_closes = !request.keeps();
                whole.push(request);
                if last_closes {
                    return Requests { whole, last_closes, rest: Partial(None) };
                }
            }
            rest => return Requests { whole, last_closes: false, rest },
        }
    }
}
