use std::time::Duration;

use super::Table;

/// How a value is written, for those who describe a file instead of reading it.
#[derive(Debug, Clone)]
pub enum Form {
    Null,
    /// `true` or `false`.
    Flag,
    Whole {
        least: u32,
        most: u32,
    },
    Duration {
        least: Duration,
        most: Duration,
    },
    /// In bytes.
    Size {
        least: u64,
        most: u64,
    },
    /// One of these.
    Word(Vec<&'static str>),
    Text(&'static Text),
    Mapping(&'static Table),
    /// As a mapping, without some of its keys.
    Without(&'static Table, &'static [&'static str]),
    /// A mapping with exactly one of these keys.
    OneKey(&'static Table),
    /// A mapping whose keys are the user's own.
    Named {
        name: &'static Text,
        of: Box<Form>,
        least: usize,
        most: usize,
    },
    List {
        of: Box<Form>,
        least: usize,
        most: usize,
    },
    Either(Vec<Form>),
}

impl Form {
    #[must_use]
    pub fn list(self, least: usize, most: usize) -> Self {
        Self::List { of: Box::new(self), least, most }
    }

    #[must_use]
    pub fn or_null(self) -> Self {
        Self::Either(vec![self, Self::Null])
    }
}

/// Text of a certain form. What the form leaves open, a parser decides.
#[derive(Debug)]
pub struct Text {
    /// In words, with an example, as in "a name such as `a`".
    pub what: &'static str,
    /// A regular expression (ECMA 262) that all such texts match.
    pub pattern: &'static str,
}

impl Text {
    /// What stands between the first backticks of `what`.
    #[must_use]
    pub fn example(&self) -> &'static str {
        self.what.split('`').nth(1).unwrap_or(self.what)
    }
}
