use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Cursor, Fault, Form, Table, Text};

/// A kind of value, as it is described.
pub trait Formed: Sync {
    fn form(&self) -> Form;
}

/// A kind of value that can be read by itself. What is read and what is described come from the same constant.
pub trait Shape: Formed {
    type Value;
    /// `None` after a problem was told.
    fn read(&self, cursor: Cursor<'_>) -> Option<Self::Value>;
}

/// `true` or `false`.
#[derive(Debug, Clone, Copy)]
pub struct Flag;

impl Shape for Flag {
    type Value = bool;

    fn read(&self, cursor: Cursor<'_>) -> Option<bool> {
        cursor.bool()
    }
}

impl Formed for Flag {
    fn form(&self) -> Form {
        Form::Flag
    }
}

/// A whole number in a range.
#[derive(Debug, Clone)]
pub struct Whole(pub RangeInclusive<u32>);

impl Shape for Whole {
    type Value = u32;

    fn read(&self, cursor: Cursor<'_>) -> Option<u32> {
        cursor.integer(self.0.clone())
    }
}

impl Formed for Whole {
    fn form(&self) -> Form {
        Form::Whole { least: *self.0.start(), most: *self.0.end() }
    }
}

/// A duration in a range.
#[derive(Debug, Clone)]
pub struct Time(pub RangeInclusive<Duration>);

impl Shape for Time {
    type Value = Duration;

    fn read(&self, cursor: Cursor<'_>) -> Option<Duration> {
        cursor.duration(self.0.clone())
    }
}

impl Formed for Time {
    fn form(&self) -> Form {
        Form::Duration { least: *self.0.start(), most: *self.0.end() }
    }
}

/// A number of bytes in a range.
#[derive(Debug, Clone)]
pub struct Size(pub RangeInclusive<u64>);

impl Shape for Size {
    type Value = u64;

    fn read(&self, cursor: Cursor<'_>) -> Option<u64> {
        cursor.size(self.0.clone())
    }
}

impl Formed for Size {
    fn form(&self) -> Form {
        Form::Size { least: *self.0.start(), most: *self.0.end() }
    }
}

/// One of the words of a table.
#[derive(Debug, Clone, Copy)]
pub struct Word<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy + Sync> Shape for Word<T> {
    type Value = T;

    fn read(&self, cursor: Cursor<'_>) -> Option<T> {
        cursor.word(self.0)
    }
}

impl<T: Copy + Sync> Formed for Word<T> {
    fn form(&self) -> Form {
        Form::Word(self.0.iter().map(|(word, _)| *word).collect())
    }
}

/// Text that a parser makes something of. What looks like a number to YAML is given to it as well.
#[derive(Debug, Clone, Copy)]
pub struct Parsed<T>(pub &'static Text, pub fn(&str) -> Result<T, Fault>);

impl<T> Shape for Parsed<T> {
    type Value = T;

    fn read(&self, cursor: Cursor<'_>) -> Option<T> {
        cursor.parsed(self.1, self.0.what)
    }
}

impl<T> Formed for Parsed<T> {
    fn form(&self) -> Form {
        Form::Text(self.0)
    }
}

/// Text, never empty, that a parser makes something of. What looks like a number to YAML is to be quoted.
#[derive(Debug, Clone, Copy)]
pub struct Strict<T>(pub &'static Text, pub fn(&str) -> Result<T, Fault>);

impl<T> Shape for Strict<T> {
    type Value = T;

    fn read(&self, cursor: Cursor<'_>) -> Option<T> {
        cursor.string().and_then(|text| cursor.told((self.1)(text)))
    }
}

impl<T> Formed for Strict<T> {
    fn form(&self) -> Form {
        Form::Text(self.0)
    }
}

/// A mapping of these keys, all of which may be absent.
#[derive(Debug, Clone, Copy)]
pub struct Section(pub &'static Table);

impl Formed for Section {
    fn form(&self) -> Form {
        Form::Mapping(self.0)
    }
}

/// Whatever a function reads, and another describes.
#[derive(Debug, Clone, Copy)]
pub struct Own<T>(pub fn(Cursor<'_>) -> Option<T>, pub fn() -> Form);

impl<T> Shape for Own<T> {
    type Value = T;

    fn read(&self, cursor: Cursor<'_>) -> Option<T> {
        (self.0)(cursor)
    }
}

impl<T> Formed for Own<T> {
    fn form(&self) -> Form {
        (self.1)()
    }
}

/// What can only be read where more is known than the value. It is described here.
#[derive(Debug, Clone, Copy)]
pub struct InPlace(pub fn() -> Form);

impl Formed for InPlace {
    fn form(&self) -> Form {
        (self.0)()
    }
}
