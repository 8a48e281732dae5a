use std::fmt;
use std::sync::Arc;

/// A place in a file; both from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    pub const START: Position = Position { line: 1, column: 1 };
}

/// A value of the file, with where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Of the key, when it has one.
    pub at: Position,
    /// As in `routes[2].match.path`; empty for the whole document.
    pub path: Arc<str>,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// In the order of the file; keys are unique.
    Mapping(Vec<Entry>),
    List(Vec<Node>),
    Scalar(Scalar),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    pub node: Node,
}

/// A value without parts.
#[derive(Clone, PartialEq)]
pub struct Scalar {
    pub value: Value,
    /// With values of the environment put in.
    pub text: String,
    /// As it stands in the file.
    pub written: String,
    /// Whether a value of the environment was put in: it may be a secret, so only `written` is ever shown.
    pub from_environment: bool,
}

impl Scalar {
    /// What may be shown of it in messages.
    #[must_use]
    pub fn shown(&self) -> &str {
        if self.from_environment { &self.written } else { &self.text }
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scalar").field(&self.shown()).finish()
    }
}

/// What YAML takes a scalar for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    Null,
    Bool(bool),
    Integer(u64),
    /// A number that is negative, too large, or no integer.
    OtherNumber,
    Text,
}

impl Node {
    /// The value of a key, if this is a mapping that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Mapping(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
            Kind::List(_) | Kind::Scalar(_) => None,
        }
    }

    /// Whether it is `null`, or nothing at all.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(scalar) if scalar.value == Value::Null)
    }

    /// Number of values in it, itself included.
    pub(super) fn size(&self) -> usize {
        1 + self.children().map(Node::size).sum::<usize>()
    }

    /// Levels of values in it, itself included.
    pub(super) fn height(&self) -> usize {
        1 + self.children().map(Node::height).max().unwrap_or(0)
    }

    fn children(&self) -> Box<dyn Iterator<Item = &Node> + '_> {
        match &self.kind {
            Kind::Mapping(entries) => Box::new(entries.iter().map(|entry| &entry.node)),
            Kind::List(items) => Box::new(items.iter()),
            Kind::Scalar(_) => Box::new(std::iter::empty()),
        }
    }

    /// Gives it and everything in it the paths of another place. Positions stay: they are where it was written.
    pub(super) fn move_to(&mut self, path: &str) {
        self.path = path.into();
        match &mut self.kind {
            Kind::Mapping(entries) => {
                for entry in entries {
                    let path = key_path(path, &entry.key);
                    entry.node.move_to(&path);
                }
            }
            Kind::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    item.move_to(&format!("{path}[{index}]"));
                }
            }
            Kind::Scalar(_) => {}
        }
    }
}

/// The path of a key. A key that is no word is shown safely and cut short, so that paths stay small.
pub(super) fn key_path(parent: &str, key: &str) -> String {
    let key = super::quoted(key);
    if parent.is_empty() { key } else { format!("{parent}.{key}") }
}
