//! Steps over JSON text (RFC 8259, and what Python adds to it: `NaN`, `Infinity`, `-Infinity`), checks it, and builds nothing.
//!
//! Every step is `None` when what stands there is not JSON; the reader is of no use after that.

use super::marks::{BLOCK, marks};

/// A place in JSON text.
#[derive(Debug)]
pub(super) struct Reader<'t> {
    text: &'t str,
    at: usize,
}

/// What a value stands in.
#[derive(Clone, Copy)]
enum Container {
    Object,
    Array,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// The octet that begins what comes next, after white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.octet() {
            self.at += 1;
        }
        self.octet()
    }

    /// Passes over an octet of structure if it is what comes next.
    pub(super) fn passes(&mut self, octet: u8) -> bool {
        let is_next = self.peek() == Some(octet);
        self.at += usize::from(is_next);
        is_next
    }

    /// After a member or an element: whether another one follows, else the container was closed.
    pub(super) fn another(&mut self, end: u8) -> Option<bool> {
        match self.peek()? {
            b',' => {
                self.at += 1;
                Some(true)
            }
            octet if octet == end => {
                self.at += 1;
                Some(false)
            }
            _ => None,
        }
    }

    /// A member's name in its quotes as it is written, and the colon after it.
    pub(super) fn name(&mut self) -> Option<&'t str> {
        let start = (self.peek()? == b'"').then_some(self.at)?;
        self.string()?;
        let name = &self.text[start..self.at];
        self.passes(b':').then_some(name)
    }

    /// A whole value as it is written, however deep: memory is one octet for each container that is open.
    pub(super) fn value(&mut self) -> Option<&'t str> {
        let mut first = self.peek()?;
        let start = self.at;
        let mut open = Vec::new();
        loop {
            match first {
                b'{' => {
                    self.at += 1;
                    if !self.passes(b'}') {
                        self.name()?;
                        open.push(Container::Object);
                        first = self.peek()?;
                        continue;
                    }
                }
                b'[' => {
                    self.at += 1;
                    if !self.passes(b']') {
                        open.push(Container::Array);
                        first = self.peek()?;
                        continue;
                    }
                }
                b'"' => self.string()?,
                b't' => self.literal("true")?,
                b'f' => self.literal("false")?,
                b'n' => self.literal("null")?,
                b'N' => self.literal("NaN")?,
                b'I' => self.literal("Infinity")?,
                _ => self.number()?,
            }
            loop {
                match open.last() {
                    None => return Some(&self.text[start..self.at]),
                    Some(Container::Object) if self.another(b'}')? => {
                        self.name()?;
                        break;
                    }
                    Some(Container::Array) if self.another(b']')? => break,
                    Some(_) => open.pop(),
                };
            }
            first = self.peek()?;
        }
    }

    /// Nothing but white space is left.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    fn octet(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn literal(&mut self, word: &str) -> Option<()> {
        self.text.as_bytes()[self.at..].starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    /// RFC 8259, section 6: no leading zero, no lone point or exponent.
    fn number(&mut self) -> Option<()> {
        self.at += usize::from(self.octet()? == b'-');
        let leading = self.octet()?;
        if leading == b'I' {
            return self.literal("Infinity");
        }
        let integer = self.digits()?;
        if leading == b'0' && integer > 1 {
            return None;
        }
        if self.octet() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.octet() {
            self.at += 1;
            self.at += usize::from(matches!(self.octet(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Some(())
    }

    /// Passes over at least one digit; how many they were.
    fn digits(&mut self) -> Option<usize> {
        let digits = self.text.as_bytes()[self.at..].iter().take_while(|octet| octet.is_ascii_digit()).count();
        self.at += digits;
        (digits > 0).then_some(digits)
    }

    /// A string, from its opening quote.
    ///
    /// The marks of a block are found for the whole block at once and do not depend on those of the block before, so
    /// the processor looks at several blocks at the same time; only the marks are walked through one by one.
    fn string(&mut self) -> Option<()> {
        let octets = self.text.as_bytes();
        let mut at = self.at + 1;
        let mut escaped = 0; // the first octet of a block, when the last one before it is a backslash
        while at < octets.len() {
            let mut found = match octets[at..].first_chunk() {
                Some(block) => marks(block),
                None => {
                    let mut block = [b' '; BLOCK];
                    block[..octets.len() - at].copy_from_slice(&octets[at..]);
                    marks(&block)
                }
            } & !escaped;
            escaped = 0;
            while found != 0 {
                let bit = found.trailing_zeros();
                let place = at + bit as usize;
                match octets[place] {
                    b'\\' if is_escape(&octets[place + 1..]) => {}
                    b'"' => {
                        self.at = place + 1;
                        return Some(());
                    }
                    _ => return None, // a control character, or an escape that is none
                }
                found &= !(0b11 << bit);
                escaped = u64::from(bit == u64::BITS - 1);
            }
            at += BLOCK;
        }
        None
    }
}

/// RFC 8259, section 7. Surrogates need not be in pairs: that is for those who decode.
fn is_escape(rest: &[u8]) -> bool {
    match rest {
        [b'u', digits @ ..] => {
            digits.first_chunk::<4>().is_some_and(|digits| digits.map(|octet| HEX[octet as usize]) == [true; 4])
        }
        [letter, ..] => LETTER[*letter as usize],
        [] => false,
    }
}

/// Looked up, because escapes follow no pattern that a processor could foresee.
const LETTER: [bool; 256] = table(b"\"\\/bfnrt");
const HEX: [bool; 256] = table(b"0123456789abcdefABCDEF");

const fn table(members: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut place = 0;
    while place < members.len() {
        table[members[place] as usize] = true;
        place += 1;
    }
    table
}
