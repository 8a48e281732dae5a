//! The policy file as written: YAML with the position of every key, values from the environment put in, and readers
//! that report every problem in one pass. Nothing in here knows what a key means.
//!
//! Bounds: a file has at most [`MAX_BYTES`], [`MAX_NODES`] values after aliases are followed, and [`MAX_DEPTH`] levels.

mod document;
mod environment;
mod events;
mod fields;
mod form;
pub mod key;
mod problem;
mod reader;
mod scalar;
mod shape;
mod suggest;
mod tree;
mod values;

pub use document::{Document, MAX_BYTES};
pub use events::{MAX_DEPTH, MAX_NODES};
pub use fields::Fields;
pub use form::{Form, Text};
pub(crate) use key::keys;
pub use key::{Absent, Described, Key, Table, key};
pub use problem::{Fault, Problem, Problems};
pub use reader::{Cursor, Sink};
pub use scalar::{
    MAX_DURATION, MAX_RATE, RATE, SHARE, duration_pattern, parse_duration, parse_percent, parse_rate, parse_size,
    show_duration, show_rate, show_size, size_pattern,
};
pub use shape::{Flag, Formed, InPlace, Own, Parsed, Section, Shape, Size, Strict, Time, Whole, Word};
pub use suggest::nearest;
pub use tree::{Entry, Kind, Node, Position, Scalar, Value};

/// Text of a user fit for one line of a message: control characters escaped, cut after 60 characters.
#[must_use]
pub fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    // Quotation marks are harmless between backticks, and escaping them would only confuse.
    shown = shown.replace("\\\"", "\"").replace("\\'", "'");
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
