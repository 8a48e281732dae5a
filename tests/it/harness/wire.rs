//! HTTP/1.1 read from a socket, byte for byte: the same for the client and for the upstream.

use std::io::{self, Read};
use std::net::TcpStream;

/// Start line and fields as they came.
#[derive(Debug, Clone, Default)]
pub struct Head {
    pub raw: String,
    pub first: String,
    pub fields: Vec<(String, String)>,
}

impl Head {
    fn parse(raw: &[u8]) -> Self {
        let raw = String::from_utf8_lossy(raw).into_owned();
        let mut lines = raw.split("\r\n");
        let first = lines.next().unwrap_or_default().to_owned();
        let fields = fields_of(lines);
        Self { raw, first, fields }
    }

    /// The only field of that name; `None` when there is none. Two of them are joined as RFC 9110 section 5.3 says.
    pub fn get(&self, name: &str) -> Option<String> {
        let all = self.all(name);
        (!all.is_empty()).then(|| all.join(", "))
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let of_name = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| value.as_str()).collect()
    }

    /// Word `place` of the first line.
    pub fn word(&self, place: usize) -> &str {
        self.first.split(' ').nth(place).unwrap_or_default()
    }

    pub fn is_chunked(&self) -> bool {
        self.get("transfer-encoding").is_some_and(|codings| codings.to_ascii_lowercase().ends_with("chunked"))
    }

    pub fn content_length(&self) -> Option<usize> {
        self.all("content-length").first().and_then(|length| length.trim().parse().ok())
    }
}

fn fields_of<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let pairs = lines.filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// A message body as far as it came.
#[derive(Debug, Clone, Default)]
pub struct Body {
    pub bytes: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// Whether it ended as its framing said, instead of being cut.
    pub whole: bool,
}

/// A socket and what has been read of it too much.
#[derive(Debug)]
pub struct Wire {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Reads some more. 0 is the end, however the other side brought it about.
    fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(read) => {
                    self.buffer.extend_from_slice(&piece[..read]);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => return Err(error),
                Err(_) => return Ok(0),
            }
        }
    }

    /// Everything up to and with `mark`; `None` when the other side ended before it.
    pub fn until(&mut self, mark: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            if let Some(found) = find(&self.buffer[searched..], mark) {
                return Ok(Some(self.take(searched + found + mark.len())));
            }
            searched = (self.buffer.len() + 1).saturating_sub(mark.len());
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(length);
        std::mem::replace(&mut self.buffer, rest)
    }

    pub fn head(&mut self) -> io::Result<Option<Head>> {
        Ok(self.until(b"\r\n\r\n")?.map(|raw| Head::parse(&raw)))
    }

    /// What is there of `length` bytes.
    pub fn up_to(&mut self, length: usize) -> io::Result<Body> {
        while self.buffer.len() < length && self.fill()? > 0 {}
        let whole = self.buffer.len() >= length;
        let bytes = self.take(length.min(self.buffer.len()));
        Ok(Body { bytes, whole, ..Body::default() })
    }

    pub fn chunked(&mut self) -> io::Result<Body> {
        let mut body = Body::default();
        loop {
            let Some(line) = self.until(b"\r\n")? else {
                return Ok(body);
            };
            let line = String::from_utf8_lossy(&line).into_owned();
            let digits = line.trim().split(';').next().unwrap_or_default().trim().to_owned();
            let Ok(length) = usize::from_str_radix(&digits, 16) else {
                return Ok(body);
            };
            if length == 0 {
                return self.trailers(body);
            }
            let piece = self.up_to(length + 2)?;
            body.bytes.extend_from_slice(&piece.bytes[..piece.bytes.len().min(length)]);
            if !piece.whole {
                return Ok(body);
            }
        }
    }

    fn trailers(&mut self, mut body: Body) -> io::Result<Body> {
        loop {
            let Some(line) = self.until(b"\r\n")? else {
                return Ok(body);
            };
            if line == b"\r\n" {
                body.whole = true;
                return Ok(body);
            }
            let line = String::from_utf8_lossy(&line).into_owned();
            body.trailers.extend(fields_of(std::iter::once(line.trim_end())));
        }
    }

    /// Whatever comes next; empty at the end.
    pub fn some(&mut self) -> io::Result<Vec<u8>> {
        if self.buffer.is_empty() {
            self.fill()?;
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    /// All that comes until the other side closes.
    pub fn rest(&mut self) -> io::Result<Body> {
        while self.fill()? > 0 {}
        let bytes = std::mem::take(&mut self.buffer);
        Ok(Body { bytes, whole: true, ..Body::default() })
    }

    /// Closes with a reset instead of a FIN.
    pub fn reset(self) {
        let socket = socket2::Socket::from(self.stream);
        let _ = socket.set_linger(Some(std::time::Duration::ZERO));
    }
}

pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

pub fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark)
}
