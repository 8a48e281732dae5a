//! The text of session keys: one for each session, whatever clients choose for names.

use std::borrow::Cow;
use std::fmt::Write;

use sha2::{Digest, Sha256};

/// Longest name that is kept as it is, in octets.
const MAX_NAME: usize = 256;

pub(super) const ANONYMOUS: &str = "anonymous";
const HASHED: &str = "sha256:";
const ESCAPE: char = '=';
const TENANT_DIGITS: usize = 32;

/// A name as it is where possible, its digest where it is too long, escaped where it would look like something else.
pub(super) fn of_name(name: &str) -> Cow<'_, str> {
    if name.len() > MAX_NAME {
        Cow::Owned(format!("{HASHED}{}", hex(&Sha256::digest(name))))
    } else if looks_made_by_us(name) {
        Cow::Owned(format!("{ESCAPE}{name}"))
    } else {
        Cow::Borrowed(name)
    }
}

pub(super) fn within<'t>(tenant: Option<&str>, text: &'t str) -> Cow<'t, str> {
    tenant.map_or(Cow::Borrowed(text), |tenant| Cow::Owned(format!("{tenant}:{text}")))
}

fn looks_made_by_us(name: &str) -> bool {
    let tenant = || match name.as_bytes().split_at_checked(TENANT_DIGITS) {
        Some((digits, [b':', ..])) => digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')),
        _ => false,
    };
    name == ANONYMOUS || name.starts_with(ESCAPE) || name.starts_with(HASHED) || tenant()
}

/// Lower case.
pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(octets.len() * 2), |mut text, octet| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}
