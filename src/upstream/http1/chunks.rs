//! The chunked coding (RFC 9112, section 7.1) of answers, taken off.
//!
//! ```text
//!   Size ──n──▶ Data(n) ──n octets──▶ DataEnd ──line end──▶ Size
//!     └──0──▶ Trailers ──empty line──▶ Ended
//! ```

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;

use super::Nonsense;
use crate::request::framing::{MAX_FIELDS, chunk_size};

/// Longest line of a chunk's size, with its extensions.
const MAX_SIZE_LINE: usize = 16 * 1024;
/// Most octets of all trailers together.
const MAX_TRAILERS: usize = 64 * 1024;

const BARE_LINE_FEED: Nonsense = Nonsense("a line of the chunked coding ends in a bare line feed");

/// Follows one body.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: State,
    /// The beginning of a line that has not ended; of trailers all that came.
    part: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Ended,
}

/// What comes next in a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Data(Bytes),
    Trailers(HeaderMap),
    Ended,
    /// Nothing before more octets are read.
    More,
}

impl Chunks {
    /// Takes the next piece of the body off `octets`.
    pub(super) fn next(&mut self, octets: &mut Bytes) -> Result<Next, Nonsense> {
        loop {
            match self.state {
                State::Data(left) => {
                    if octets.is_empty() {
                        return Ok(Next::More);
                    }
                    let data = take(octets, left);
                    let left = left - data.len() as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Next::Data(data));
                }
                State::Ended => return Ok(Next::Ended),
                State::Trailers => return self.trailers(octets),
                State::Size | State::DataEnd => {
                    let Some(line) = self.line(octets)? else { return Ok(Next::More) };
                    self.state = self.after(&line)?;
                }
            }
        }
    }

    /// Whether the body has ended, or its end is the next thing in `octets`, which is then taken off.
    pub(super) fn ends_with(&mut self, octets: &mut Bytes) -> bool {
        let rest: &[u8] = match self.state {
            State::DataEnd => b"\r\n0\r\n\r\n",
            State::Size => b"0\r\n\r\n",
            _ => return self.state == State::Ended,
        };
        if self.part.is_empty() && octets.starts_with(rest) {
            octets.advance(rest.len());
            self.state = State::Ended;
        }
        self.state == State::Ended
    }

    fn after(&self, line: &[u8]) -> Result<State, Nonsense> {
        match self.state {
            State::DataEnd if line.is_empty() => Ok(State::Size),
            State::DataEnd => Err(Nonsense("a chunk is longer than its size says")),
            _ => match chunk_size(line) {
                Some((size, rest)) if ends_size(rest) => {
                    Ok(if size == 0 { State::Trailers } else { State::Data(size) })
                }
                _ => Err(Nonsense("the size of a chunk is not one")),
            },
        }
    }

    /// The next line, without its end.
    fn line(&mut self, octets: &mut Bytes) -> Result<Option<Bytes>, Nonsense> {
        let end = memchr(b'\n', octets).map(|end| end + 1);
        let piece = octets.split_to(end.unwrap_or(octets.len()));
        if self.part.len() + piece.len() > MAX_SIZE_LINE {
            return Err(Nonsense("the size of a chunk has too long a line"));
        }
        let mut line = if self.part.is_empty() && end.is_some() {
            piece
        } else {
            self.part.extend_from_slice(&piece);
            if end.is_none() {
                return Ok(None);
            }
            Bytes::from(std::mem::take(&mut self.part))
        };
        if !line.ends_with(b"\r\n") {
            return Err(BARE_LINE_FEED);
        }
        line.truncate(line.len() - 2);
        Ok(Some(line))
    }

    fn trailers(&mut self, octets: &mut Bytes) -> Result<Next, Nonsense> {
        while let Some(end) = memchr(b'\n', octets) {
            let line = octets.split_to(end + 1);
            self.part.extend_from_slice(&line);
            if !self.part.ends_with(b"\r\n") {
                return Err(BARE_LINE_FEED);
            }
            if self.part == b"\r\n" || self.part.ends_with(b"\r\n\r\n") {
                self.state = State::Ended;
                let trailers = parse_trailers(&std::mem::take(&mut self.part))?;
                return Ok(if trailers.is_empty() { Next::Ended } else { Next::Trailers(trailers) });
            }
        }
        self.part.extend_from_slice(octets);
        octets.clear();
        if self.part.len() > MAX_TRAILERS {
            return Err(Nonsense("the trailers are too many"));
        }
        Ok(Next::More)
    }
}

/// Whether a chunk's size may be followed by `rest`: blanks, with which some servers pad it, and extensions.
fn ends_size(rest: &[u8]) -> bool {
    let other = rest.iter().find(|octet| !matches!(octet, b' ' | b'\t'));
    other.is_none_or(|octet| *octet == b';')
}

/// At most `left` octets off the front.
pub(super) fn take(octets: &mut Bytes, left: u64) -> Bytes {
    match usize::try_from(left) {
        Ok(left) if left < octets.len() => octets.split_to(left),
        _ => std::mem::take(octets),
    }
}

fn parse_trailers(octets: &[u8]) -> Result<HeaderMap, Nonsense> {
    const BAD: Nonsense = Nonsense("the trailers are no fields");
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(octets, &mut fields) else {
        return Err(BAD);
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BAD)?;
        trailers.append(name, HeaderValue::from_bytes(field.value).map_err(|_| BAD)?);
    }
    Ok(trailers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Data, trailers and whether it ended, of octets that come in these pieces.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(Vec<u8>, HeaderMap, bool), Nonsense> {
        let (mut chunks, mut data, mut trailers) = (Chunks::default(), vec![], HeaderMap::new());
        for piece in pieces {
            let mut octets = Bytes::copy_from_slice(piece);
            loop {
                match chunks.next(&mut octets)? {
                    Next::Data(piece) => data.extend_from_slice(&piece),
                    Next::Trailers(fields) => trailers = fields,
                    Next::Ended => return Ok((data, trailers, octets.is_empty())),
                    Next::More => break,
                }
            }
            assert!(octets.is_empty(), "who wants more has used up what there was");
        }
        Ok((data, trailers, false))
    }

    #[test]
    fn an_end_that_stands_behind_the_data_is_seen_with_it() {
        let mut chunks = Chunks::default();
        let mut octets = Bytes::from_static(b"4\r\nbody\r\n0\r\n\r\nrest");
        assert_eq!(chunks.next(&mut octets), Ok(Next::Data(Bytes::from_static(b"body"))));
        assert!(chunks.ends_with(&mut octets));
        assert_eq!(chunks.next(&mut octets), Ok(Next::Ended));
        assert_eq!(octets, "rest");
        let mut octets = Bytes::from_static(b"4\r\nbody\r\n0\r\nA: 1\r\n\r\n");
        let mut chunks = Chunks::default();
        assert!(matches!(chunks.next(&mut octets), Ok(Next::Data(_))) && !chunks.ends_with(&mut octets));
        assert!(matches!(chunks.next(&mut octets), Ok(Next::Trailers(_))) && chunks.ends_with(&mut octets));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_nonsense() {
        for bad in [
            "x\r\n",
            "\r\n",
            "-1\r\n",
            "+1\r\n",
            " 1\r\n",
            "1 2\r\na\r\n",
            "1_\r\na\r\n",
            "1\nab",
            "1\r\nab\r\n",
            "10000000000000000\r\n",
            "0\r\nA\r\n\r\n",
            "0\r\nA : 1\r\n\r\n",
        ] {
            assert!(read([bad.as_bytes()]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lines_and_trailers_have_bounds() {
        assert!(read([format!("1;{}", "a".repeat(MAX_SIZE_LINE)).as_bytes()]).is_err());
        assert!(read([format!("0\r\nA: {}", "a".repeat(MAX_TRAILERS)).as_bytes()]).is_err());
        assert!(read([format!("0\r\n{}\r\n", "a: 1\r\n".repeat(MAX_FIELDS + 1)).as_bytes()]).is_err());
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_octets_are_cut(mut cuts in prop::collection::vec(0usize..82, 0..8)) {
            let whole = b"4;ext=1\r\nbody\r\n00a  \r\n\r\n0\r\nab\r\n\r\r\n000\r\nX-Sum: 42\r\nX-Sum: 43\r\n\r\n";
            cuts.extend([0, whole.len()]);
            cuts.iter_mut().for_each(|cut| *cut = (*cut).min(whole.len()));
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &whole[cut[0]..cut[1]]);
            let (data, trailers, ended) = read(pieces).expect("sound");
            prop_assert_eq!(data, b"body\r\n0\r\nab\r\n\r");
            prop_assert_eq!(trailers.get_all("x-sum").iter().collect::<Vec<_>>(), ["42", "43"]);
            prop_assert!(ended);
        }

        #[test]
        fn nothing_makes_it_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read([&octets[..]]);
        }
    }
}
