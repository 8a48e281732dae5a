//! Heads of answers.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use httparse::{Header, ParserConfig, Response as Line, Status};
use hyper::ext::ReasonPhrase;

use super::Nonsense;
use crate::request::framing::{MAX_FIELDS, whole_number};
use crate::upstream::fields::{BadFraming, BodyEnd, response_framing};

/// The head of an answer, final or interim.
#[derive(Debug)]
pub(super) struct Head {
    pub status: StatusCode,
    pub version: Version,
    pub headers: HeaderMap,
    /// What stands behind the status code, where it is not what usually stands there.
    pub reason: Option<ReasonPhrase>,
    /// Where the body ends, if there is one.
    pub end: Result<BodyEnd, BadFraming>,
    /// Whether the server keeps the connection for another request.
    pub keeps: bool,
    /// Its octets.
    pub length: usize,
}

impl Head {
    /// The head at the beginning of `octets`, its fields in the empty `headers`; none if it is not whole.
    pub(super) fn parse(octets: &Bytes, headers: HeaderMap) -> Result<Result<Self, HeaderMap>, Nonsense> {
        let mut fields: [MaybeUninit<Header<'_>>; MAX_FIELDS] = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut line = Line::new(&mut []);
        let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut line, octets, &mut fields);
        let length = match parsed {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return Ok(Err(headers)),
            Err(httparse::Error::TooManyHeaders) => return Err(Nonsense("the head has too many fields")),
            Err(_) => return Err(Nonsense("the head is none of HTTP/1")),
        };
        let status = line.code.and_then(|code| StatusCode::try_from(code).ok());
        let status = status.ok_or(Nonsense("the status is none"))?;
        let version = if line.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
        let reason = line.reason.filter(|reason| Some(*reason) != status.canonical_reason());
        let mut head = Self {
            status,
            version,
            headers,
            reason: reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok()),
            end: Ok(BodyEnd::Connection),
            keeps: version == Version::HTTP_11,
            length,
        };
        head.take_fields(octets, line.headers)?;
        Ok(Ok(head))
    }

    fn take_fields(&mut self, octets: &Bytes, fields: &[Header<'_>]) -> Result<(), Nonsense> {
        let (mut closes, mut frames, mut several) = (false, false, false);
        for field in fields {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Nonsense("a field has no name"))?;
            let value = HeaderValue::from_maybe_shared(octets.slice_ref(field.value))
                .map_err(|_| Nonsense("a field has no value"))?;
            match name {
                header::CONNECTION => {
                    // A line that says so is not undone by another.
                    closes |= has(&value, "close");
                    self.keeps = !closes && (self.keeps || has(&value, "keep-alive"));
                }
                // One length is the rule. What is not is looked at when all is there.
                header::CONTENT_LENGTH if !frames => {
                    self.end = whole_number(&value).map(BodyEnd::Length).ok_or(BadFraming);
                    frames = true;
                }
                header::CONTENT_LENGTH | header::TRANSFER_ENCODING => several = true,
                _ => {}
            }
            self.headers.append(name, value);
        }
        if several {
            self.end = response_framing(&self.headers);
        }
        Ok(())
    }
}

fn has(value: &HeaderValue, option: &str) -> bool {
    if value.as_bytes().eq_ignore_ascii_case(option.as_bytes()) {
        return true;
    }
    value.to_str().is_ok_and(|line| line.split(',').any(|own| own.trim().eq_ignore_ascii_case(option)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &'static str) -> Head {
        Head::parse(&Bytes::from_static(text.as_bytes()), HeaderMap::new()).expect("sound").expect("whole")
    }

    #[test]
    fn a_head_says_whether_its_connection_stays() {
        let keeps = |text| parse(text).keeps;
        assert!(keeps("HTTP/1.1 200 OK\r\n\r\n") && !keeps("HTTP/1.0 200 OK\r\n\r\n"));
        assert!(keeps("HTTP/1.0 200 OK\r\nConnection: x, Keep-Alive\r\n\r\n"));
        assert!(!keeps("HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n"));
        assert!(!keeps("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n"));
    }

    #[test]
    fn what_stands_behind_the_status_is_kept_where_it_is_unusual() {
        let reason = |text| parse(text).reason.map(|reason| reason.as_bytes().to_vec());
        assert_eq!(reason("HTTP/1.1 200 OK\r\n\r\n"), None);
        assert_eq!(reason("HTTP/1.1 404 Nowhere\r\n\r\n"), Some(b"Nowhere".to_vec()));
        assert_eq!(reason("HTTP/1.1 200\r\n\r\n"), Some(vec![]));
    }

    #[test]
    fn a_body_ends_where_all_fields_together_say() {
        let end = |fields: &str| {
            let octets = Bytes::from(format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
            Head::parse(&octets, HeaderMap::new()).expect("sound").expect("whole").end
        };
        assert_eq!(end("A: 1\r\n"), Ok(BodyEnd::Connection));
        assert_eq!(end("Content-Length: 5\r\n"), Ok(BodyEnd::Length(5)));
        assert_eq!(end("Content-Length: 5\r\nContent-Length: 05\r\n"), Ok(BodyEnd::Length(5)));
        assert_eq!(end("Transfer-Encoding: Chunked\r\n"), Ok(BodyEnd::Chunked));
        for bad in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Transfer-Encoding: gzip\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: x\r\nContent-Length: x\r\n",
        ] {
            assert_eq!(end(bad), Err(BadFraming), "{bad:?}");
        }
    }

    #[test]
    fn octets_that_are_no_head_are_nonsense_at_once() {
        for bad in ["SSH-2.0-x\r\n", "HTTP/2 200\r\n", "HTTP/1.1 20\r\n", "HTTP/1.1 200 OK\r\nA B: 1\r\n"] {
            assert!(Head::parse(&Bytes::from_static(bad.as_bytes()), HeaderMap::new()).is_err(), "{bad:?}");
        }
        let part = Head::parse(&Bytes::from_static(b"HTTP/1.1 200 OK\r\nA"), HeaderMap::new());
        assert!(matches!(part, Ok(Err(_))));
    }
}
