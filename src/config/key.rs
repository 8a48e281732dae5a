//! Keys that are described where they are read.
//!
//! A [`Key`] is a constant that says all there is to say of a key: its name, how its value is written, what holds
//! without it, and what it means. [`Fields`](super::Fields) are read by such constants alone, so nothing is read that is
//! not described; and `keys!` makes the constants together with their [`Table`], so that a key which is described and
//! never read is dead code to the compiler.

use std::fmt;

use super::{Cursor, Form, Formed, Shape, Sink, values};

/// A key: how it is read, and what is said of it.
pub struct Key<S, A = Is> {
    name: &'static str,
    pub(super) shape: S,
    absent: A,
    what: &'static str,
}

/// Describes a key. `what` is a line of Markdown.
pub const fn key<S, A>(name: &'static str, shape: S, absent: A, what: &'static str) -> Key<S, A> {
    Key { name, shape, absent, what }
}

impl<S, A> Key<S, A> {
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<S: Shape> Key<S, Is> {
    /// What holds without the key: its text, read as if it stood in the file.
    pub(super) fn standard(&self) -> S::Value {
        let (node, sink) = (values::written(self.absent.0), Sink::new(""));
        self.shape.read(Cursor::new(&node, &sink)).expect("what holds without a key is a value of it")
    }
}

/// What holds without the key, as the file would write it.
#[derive(Debug, Clone, Copy)]
pub struct Is(pub &'static str);

/// Nothing holds without the key, and `null` says the same.
#[derive(Debug, Clone, Copy)]
pub struct Null;

/// An empty list holds without the key.
#[derive(Debug, Clone, Copy)]
pub struct Empty;

/// The key must be there.
#[derive(Debug, Clone, Copy)]
pub struct Required;

/// The key must be there, or come from a mapping that this one is merged with.
#[derive(Debug, Clone, Copy)]
pub struct Inherited;

/// What holds without the key depends on others; in words.
#[derive(Debug, Clone, Copy)]
pub struct From(pub &'static str);

/// A mapping whose own keys say what holds without them.
#[derive(Debug, Clone, Copy)]
pub struct Parts;

/// What holds without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// This, as the file would write it.
    Is(&'static str),
    Required,
    Inherited,
    /// In words.
    From(&'static str),
    Parts,
}

/// Of a type: what holds without a key.
pub trait WhenAbsent: Sync {
    fn absent(&self) -> Absent;
    /// What may be written, of all that has this form.
    fn form(&self, form: Form) -> Form {
        form
    }
}

impl WhenAbsent for Is {
    fn absent(&self) -> Absent {
        Absent::Is(self.0)
    }
}

impl WhenAbsent for Null {
    fn absent(&self) -> Absent {
        Absent::Is("null")
    }

    fn form(&self, form: Form) -> Form {
        form.or_null()
    }
}

impl WhenAbsent for Empty {
    fn absent(&self) -> Absent {
        Absent::Is("[]")
    }
}

impl WhenAbsent for Required {
    fn absent(&self) -> Absent {
        Absent::Required
    }
}

impl WhenAbsent for Inherited {
    fn absent(&self) -> Absent {
        Absent::Inherited
    }
}

impl WhenAbsent for From {
    fn absent(&self) -> Absent {
        Absent::From(self.0)
    }
}

impl WhenAbsent for Parts {
    fn absent(&self) -> Absent {
        Absent::Parts
    }
}

/// A key that must be there, one way or the other.
pub trait MustBe: WhenAbsent {}
impl MustBe for Required {}
impl MustBe for Inherited {}

/// What is said of a key.
pub trait Described: fmt::Debug + Sync {
    fn name(&self) -> &'static str;
    fn form(&self) -> Form;
    fn absent(&self) -> Absent;
    /// A line of Markdown.
    fn what(&self) -> &'static str;
}

impl<S: Formed, A: WhenAbsent> Described for Key<S, A> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn form(&self) -> Form {
        self.absent.form(self.shape.form())
    }

    fn absent(&self) -> Absent {
        self.absent.absent()
    }

    fn what(&self) -> &'static str {
        self.what
    }
}

impl<S, A> fmt::Debug for Key<S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.name).finish()
    }
}

/// All keys of a mapping.
#[derive(Debug)]
pub struct Table {
    /// What the mapping is called. No two tables of a file are called the same.
    pub name: &'static str,
    pub keys: &'static [&'static dyn Described],
}

impl Table {
    /// In the order in which they are described.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name())
    }

    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }
}

/// A module with a constant for each key of a mapping, and the [`Table`] of all of them, `KEYS`.
macro_rules! keys {
    ($(#[$about:meta])* $visible:vis mod $module:ident = $name:literal {
        $($constant:ident: $type:ty = $key:expr;)+
    }) => {
        $(#[$about])*
        $visible mod $module {
            use super::*;

            $(pub const $constant: $type = $key;)+

            // Made anew, so that it does not count as a use of the constants.
            pub const KEYS: &$crate::config::Table = &$crate::config::Table {
                name: $name,
                keys: &[$({ const KEY: $type = $key; &KEY }),+],
            };
        }
    };
}
pub(crate) use keys;
