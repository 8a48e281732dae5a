//! JSON that is not in UTF-8. RFC 8259, section 8.1, allows no other encoding between systems; Python's `json.loads`, which
//! reads the bodies of most agents, takes what it was given by its first octets. Where the gateway read less than the agent, a
//! request would have a session there and none here.

use std::borrow::Cow;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Utf16 { big: bool },
    Utf32 { big: bool },
}

/// The text of a body in another encoding, or in UTF-8 with surrogates in it, which stand for no character and are read as
/// one that says so (U+FFFD). `None`: it is no text, or plain UTF-8.
pub(super) fn other_text(body: &[u8]) -> Option<String> {
    match encoding(body) {
        Some((Encoding::Utf16 { big }, skip)) => {
            let units = body[skip..].chunks(2).map(|pair| match *pair {
                [first, second] if big => u16::from_be_bytes([first, second]),
                [first, second] => u16::from_le_bytes([first, second]),
                _ => 0xFFFD,
            });
            Some(char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
        }
        Some((Encoding::Utf32 { big }, skip)) => {
            let units = body[skip..].chunks(4).map(|four| match *four {
                [a, b, c, d] if big => u32::from_be_bytes([a, b, c, d]),
                [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
                _ => 0xFFFD,
            });
            Some(units.map(|unit| char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
        }
        None => without_surrogates(body),
    }
}

/// As CPython's `json.detect_encoding`, with how many octets of a mark stand before the text.
fn encoding(body: &[u8]) -> Option<(Encoding, usize)> {
    match *body {
        [0, 0, 0xFE, 0xFF, ..] => Some((Encoding::Utf32 { big: true }, 4)),
        [0xFF, 0xFE, 0, 0, ..] => Some((Encoding::Utf32 { big: false }, 4)),
        [0xFE, 0xFF, ..] => Some((Encoding::Utf16 { big: true }, 2)),
        [0xFF, 0xFE, ..] => Some((Encoding::Utf16 { big: false }, 2)),
        [0, 0, _, _, ..] => Some((Encoding::Utf32 { big: true }, 0)),
        [0, _, _, _, ..] => Some((Encoding::Utf16 { big: true }, 0)),
        [_, 0, 0, 0, ..] => Some((Encoding::Utf32 { big: false }, 0)),
        [_, 0, _, _, ..] => Some((Encoding::Utf16 { big: false }, 0)),
        _ => None,
    }
}

fn without_surrogates(body: &[u8]) -> Option<String> {
    let mut octets: Cow<'_, [u8]> = Cow::Borrowed(body);
    let mut from = 0;
    while let Some(at) = memchr::memchr(0xED, &octets[from..]).map(|at| from + at) {
        if let Some([0xED, 0xA0..=0xBF, 0x80..=0xBF]) = octets.get(at..at + 3) {
            octets.to_mut()[at..at + 3].copy_from_slice("\u{FFFD}".as_bytes());
        }
        from = at + 1;
    }
    match octets {
        Cow::Borrowed(_) => None,
        Cow::Owned(octets) => String::from_utf8(octets).ok(),
    }
}
