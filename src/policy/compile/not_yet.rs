//! What the policy file has words for and this version does not do. Stating that it is off is accepted, anything else
//! is refused: a limit or a promise that is silently ignored would be worse than none.

use crate::config::{Cursor, Fault, Fields};

/// How a key may say that it is off.
enum Off {
    /// The key cannot say so: it must be absent.
    Absent,
    /// The first of the words it knows.
    FirstOf(&'static [&'static str]),
}

/// A key whose function is still to come.
pub(super) struct NotYet {
    key: &'static str,
    off: Off,
}

const fn not_yet(key: &'static str, off: Off) -> NotYet {
    NotYet { key, off }
}

/// To lift one: remove its line here and read the key where its mapping is read.
pub(super) const TOP: &[NotYet] = &[not_yet("background", Off::Absent)];
pub(super) const ROUTE: &[NotYet] = &[not_yet("background", Off::FirstOf(&["off", "prefer", "always"]))];

/// What is said of anything that is still to come.
pub(super) fn fault(what: &str) -> Fault {
    Fault::new(format!("{what} is not available in this version of Turnwise"))
}

/// Tells of every key of the table that asks for more than to be off.
pub(super) fn refuse(fields: Fields<'_>, table: &[NotYet]) {
    for NotYet { key, off } in table {
        if let Some(cursor) = fields.get(key) {
            refuse_one(cursor, key, off);
        }
    }
}

fn refuse_one(cursor: Cursor<'_>, key: &str, off: &Off) {
    let key = format!("`{key}`");
    match off {
        Off::Absent => cursor.problem(fault(&key)),
        Off::FirstOf(words) => {
            let table: Vec<(&str, usize)> = words.iter().enumerate().map(|(place, word)| (*word, place)).collect();
            if let Some(place) = cursor.word(&table).filter(|place| *place > 0) {
                let what = format!("`{}` of {key}", words[place]);
                cursor.problem(fault(&what).hint(format!("write `{}`", words[0])));
            }
        }
    }
}
