//! How jobs are written down.
//!
//! Numbers are big-endian, texts stand behind their length, and the first octet says in which form the rest is. A form
//! that a release has written is read by every later one. What no release can have written is not read: a record that is
//! half right would be a job that runs twice, or never.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};

use super::job::{Answer, JobId, Owner, Request, Status};

/// The form that is written.
const FORM: u8 = 1;
/// Octets of a request or an answer: more than the file takes for one value (3 GiB).
const LONGEST: u64 = u32::MAX as u64;
/// Tries of a job: more than a policy may allow.
const MOST_ATTEMPTS: u64 = 1 << 20;
/// The last millisecond of the year 9999, after which RFC 3339 has no times.
const LATEST: u64 = 253_402_300_799_999;

/// All of a job but its request and its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub id: JobId,
    pub owner: Owner,
    /// Milliseconds since 1970, as all times here.
    pub created: u64,
    pub route: Arc<str>,
    pub upstream: Arc<str>,
    pub method: Method,
    pub lane: Option<Arc<str>>,
    pub width: u32,
    /// Octets of the request on disk, while it is there.
    pub request_len: u64,
    /// Octets of the answer on disk.
    pub answer_len: Option<u64>,
    pub attempts: u32,
    /// Never `Running`: what ran when the process ended is queued.
    pub status: Status,
    /// When it is tried again.
    pub due: u64,
    pub ended: Option<u64>,
    pub error: Option<Arc<str>>,
}

/// What was read is not in a form that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it is written in a form that this version does not know")
    }
}

impl std::error::Error for Unreadable {}

impl Record {
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.octets(&self.id.0);
        out.octets(&self.owner.0);
        out.number(self.created);
        out.text(self.route.as_bytes());
        out.text(self.upstream.as_bytes());
        out.text(self.method.as_str().as_bytes());
        out.maybe(self.lane.as_ref().map(|lane| lane.as_bytes()));
        out.number(self.width.into());
        out.number(self.request_len);
        out.number(self.answer_len.map_or(u64::MAX, |length| length));
        out.number(self.attempts.into());
        out.octets(&[self.status as u8]);
        out.number(self.due);
        // A clock that was never set says zero.
        out.number(self.ended.map_or(0, |at| at.max(1)));
        out.maybe(self.error.as_ref().map(|error| error.as_bytes()));
        out.0
    }

    /// # Errors
    /// [`Unreadable`]; so do the other readers.
    pub fn read(octets: &[u8]) -> Result<Self, Unreadable> {
        let mut from = Reader::new(octets)?;
        let record = Self {
            id: JobId(from.array()?),
            owner: Owner(from.array()?),
            created: from.at_most(LATEST)?,
            route: from.string()?.into(),
            upstream: from.string()?.into(),
            method: Method::from_bytes(from.text()?).map_err(|_| Unreadable)?,
            lane: from.maybe()?.map(|lane| utf8(lane).map(Arc::from)).transpose()?,
            width: from.number()?.try_into().map_err(|_| Unreadable)?,
            request_len: from.at_most(LONGEST)?,
            answer_len: from.length()?,
            attempts: from.at_most(MOST_ATTEMPTS)?.try_into().map_err(|_| Unreadable)?,
            status: status(from.array::<1>()?[0])?,
            due: from.at_most(LATEST)?,
            ended: Some(from.at_most(LATEST)?).filter(|at| *at > 0),
            error: from.maybe()?.map(|error| utf8(error).map(Arc::from)).transpose()?,
        };
        let holds = record.status != Status::Running && record.ended.is_some() == record.status.has_ended();
        if holds { from.end(record) } else { Err(Unreadable) }
    }
}

fn status(place: u8) -> Result<Status, Unreadable> {
    Status::ALL.get(usize::from(place)).copied().ok_or(Unreadable)
}

impl Request {
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.text(self.method.as_str().as_bytes());
        out.text(self.uri.to_string().as_bytes());
        out.octets(&[version_to(self.version), u8::from(self.peer_trusted), u8::from(self.encrypted)]);
        out.octets(&address(self.client));
        out.octets(&address(self.peer));
        out.fields(&self.headers);
        out.octets(&self.body);
        out.0
    }

    /// # Errors
    /// [`Unreadable`].
    pub fn read(octets: &[u8]) -> Result<Self, Unreadable> {
        let mut from = Reader::new(octets)?;
        let method = Method::from_bytes(from.text()?).map_err(|_| Unreadable)?;
        let uri = Uri::try_from(from.text()?).map_err(|_| Unreadable)?;
        let [version, peer_trusted, encrypted] = from.array()?;
        Ok(Self {
            method,
            uri,
            version: version_from(version)?,
            peer_trusted: flag(peer_trusted)?,
            encrypted: flag(encrypted)?,
            client: Ipv6Addr::from(from.array::<16>()?).to_canonical(),
            peer: Ipv6Addr::from(from.array::<16>()?).to_canonical(),
            headers: from.fields()?,
            body: Bytes::copy_from_slice(from.0),
        })
    }
}

impl Answer {
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.octets(&self.status.as_u16().to_be_bytes());
        out.fields(&self.headers);
        out.octets(&self.body);
        out.0
    }

    /// # Errors
    /// [`Unreadable`].
    pub fn read(octets: &[u8]) -> Result<Self, Unreadable> {
        let mut from = Reader::new(octets)?;
        let status = u16::from_be_bytes(from.array()?);
        Ok(Self {
            status: StatusCode::try_from(status).map_err(|_| Unreadable)?,
            headers: from.fields()?,
            body: Bytes::copy_from_slice(from.0),
        })
    }
}

/// The protocols whose names stand in `Via`.
fn version_to(version: Version) -> u8 {
    match version {
        Version::HTTP_10 => 10,
        Version::HTTP_2 => 20,
        _ => 11,
    }
}

fn version_from(number: u8) -> Result<Version, Unreadable> {
    match number {
        10 => Ok(Version::HTTP_10),
        11 => Ok(Version::HTTP_11),
        20 => Ok(Version::HTTP_2),
        _ => Err(Unreadable),
    }
}

fn flag(octet: u8) -> Result<bool, Unreadable> {
    match octet {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Unreadable),
    }
}

fn address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn utf8(octets: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(octets).map_err(|_| Unreadable)
}

struct Writer(Vec<u8>);

impl Writer {
    fn new() -> Self {
        Self(vec![FORM])
    }

    fn octets(&mut self, octets: &[u8]) {
        self.0.extend_from_slice(octets);
    }

    fn number(&mut self, number: u64) {
        self.octets(&number.to_be_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.octets(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.octets(text);
    }

    fn maybe(&mut self, text: Option<&[u8]>) {
        self.octets(&[u8::from(text.is_some())]);
        if let Some(text) = text {
            self.text(text);
        }
    }

    fn fields(&mut self, fields: &HeaderMap) {
        self.octets(&u32::try_from(fields.len()).unwrap_or(u32::MAX).to_be_bytes());
        for (name, value) in fields {
            self.text(name.as_str().as_bytes());
            self.text(value.as_bytes());
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn new(octets: &'a [u8]) -> Result<Self, Unreadable> {
        match octets.split_first() {
            Some((&FORM, rest)) => Ok(Self(rest)),
            _ => Err(Unreadable),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Unreadable)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        self.take(N)?.try_into().map_err(|_| Unreadable)
    }

    fn number(&mut self) -> Result<u64, Unreadable> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn at_most(&mut self, most: u64) -> Result<u64, Unreadable> {
        self.number().and_then(|number| if number <= most { Ok(number) } else { Err(Unreadable) })
    }

    /// The length of what may not be there.
    fn length(&mut self) -> Result<Option<u64>, Unreadable> {
        match self.number()? {
            u64::MAX => Ok(None),
            length if length <= LONGEST => Ok(Some(length)),
            _ => Err(Unreadable),
        }
    }

    fn count(&mut self) -> Result<usize, Unreadable> {
        Ok(u32::from_be_bytes(self.array()?) as usize)
    }

    fn text(&mut self) -> Result<&'a [u8], Unreadable> {
        let length = self.count()?;
        self.take(length)
    }

    fn string(&mut self) -> Result<&'a str, Unreadable> {
        utf8(self.text()?)
    }

    fn maybe(&mut self) -> Result<Option<&'a [u8]>, Unreadable> {
        let [there] = self.array()?;
        flag(there)?.then(|| self.text()).transpose()
    }

    fn fields(&mut self) -> Result<HeaderMap, Unreadable> {
        let count = self.count()?;
        let mut fields = HeaderMap::new();
        for _ in 0..count {
            let name = HeaderName::from_bytes(self.text()?).map_err(|_| Unreadable)?;
            let value = HeaderValue::from_bytes(self.text()?).map_err(|_| Unreadable)?;
            fields.try_append(name, value).map_err(|_| Unreadable)?;
        }
        Ok(fields)
    }

    fn end<T>(self, value: T) -> Result<T, Unreadable> {
        if self.0.is_empty() { Ok(value) } else { Err(Unreadable) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(error: Option<&str>, lane: Option<&str>, numbers: [u64; 3]) -> Record {
        Record {
            id: JobId::new(),
            owner: Owner::of(&HeaderMap::new()),
            created: numbers[0],
            route: "runs".into(),
            upstream: "agents".into(),
            method: Method::POST,
            lane: lane.map(Arc::from),
            width: 3,
            request_len: numbers[1],
            answer_len: Some(numbers[2]).filter(|length| length % 2 == 0),
            attempts: 7,
            status: if numbers[1] == 0 { Status::Retrying } else { Status::Failed },
            due: numbers[2],
            ended: Some(numbers[1]).filter(|at| *at > 0),
            error: error.map(Arc::from),
        }
    }

    #[test]
    fn what_a_caller_shows_of_itself_tells_it_apart_and_is_not_kept() {
        let of = |fields: &[(&'static str, &'static str)]| {
            let fields =
                fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            Owner::of(&fields.collect())
        };
        let ann = of(&[("authorization", "Bearer ann")]);
        assert_eq!(ann, of(&[("x-other", "1"), ("authorization", "Bearer ann")]));
        let others = [
            of(&[]),
            of(&[("authorization", "Bearer bob")]),
            of(&[("x-api-key", "Bearer ann")]),
            of(&[("authorization", "Bearer ann"), ("x-api-key", "")]),
            of(&[("authorization", "Bearer "), ("authorization", "ann")]),
        ];
        assert!(others.iter().all(|other| *other != ann));
        let written = Record { owner: ann, ..record(None, None, [1, 2, 3]) }.write();
        assert!(!written.windows(3).any(|part| part == b"ann"));
    }

    #[test]
    fn names_that_are_not_ours_are_nobodys() {
        let id = JobId::new();
        assert_eq!(JobId::parse(&id.to_string()), Some(id));
        let upper = "ABCDEF00000000000000000000000000";
        for text in ["", "x", "+1234567890123456789012345678901", &id.to_string()[1..], &format!("{id}0"), upper] {
            assert_eq!(JobId::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            error: Option<String>, lane: Option<String>, numbers: [u64; 3], body: Vec<u8>, status in 100_u16..1000,
            fields in proptest::collection::vec(("[a-z-]{1,9}", "[ -~]{0,20}"), 0..9), v4: u32, v6: u128,
        ) {
            let numbers = numbers.map(|number| number & u64::from(u32::MAX));
            let record = record(error.as_deref(), lane.as_deref(), numbers);
            prop_assert_eq!(Record::read(&record.write()), Ok(record));
            let headers: HeaderMap = fields
                .iter()
                .filter_map(|(name, value)| {
                    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
                    Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
                })
                .collect();
            let request = Request {
                method: Method::from_bytes(b"BREW").expect("a token"),
                uri: Uri::from_static("http://h:1/a%20b?x=1"),
                version: Version::HTTP_2,
                headers: headers.clone(),
                body: body.clone().into(),
                client: IpAddr::V4(v4.into()),
                peer: IpAddr::V6(v6.into()).to_canonical(),
                peer_trusted: true,
                encrypted: false,
            };
            let again = Request::read(&request.write()).expect("what was written");
            prop_assert_eq!(format!("{:?}", again), format!("{:?}", request));
            let answer = Answer { status: StatusCode::from_u16(status).expect("a code"), headers, body: body.into() };
            let again = Answer::read(&answer.write()).expect("what was written");
            prop_assert_eq!(format!("{:?}", again), format!("{:?}", answer));
        }

        #[test]
        fn what_no_release_has_written_is_not_read(number in 1_u64.., place in 0_usize..5) {
            let good = record(None, None, [1, 0, 3]);
            prop_assert_eq!(Record::read(&good.write()), Ok(good.clone()));
            let bad = match place {
                0 => Record { request_len: u64::from(u32::MAX) + number.min(1 << 40), ..good },
                1 => Record { created: LATEST + number.min(1 << 40), ..good },
                2 => Record { status: Status::Running, ..good },
                3 => Record { status: Status::Succeeded, ..good },
                _ => Record { ended: Some(number.min(LATEST)), ..good },
            };
            prop_assert_eq!(Record::read(&bad.write()), Err(Unreadable));
        }

        #[test]
        fn any_octets_are_read_without_panic(mut octets: Vec<u8>, cut: u8) {
            if let Some(first) = octets.first_mut() {
                *first = FORM;
            }
            let _ = Request::read(&octets);
            let _ = Answer::read(&octets);
            prop_assert!(Record::read(&octets).is_err() || octets.len() > 48);
            let whole = record(Some("e"), Some("l"), [1, 2, 3]).write();
            let cut = usize::from(cut) % whole.len();
            prop_assert_eq!(Record::read(&whole[..cut]), Err(Unreadable));
        }
    }
}
