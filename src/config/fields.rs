use super::{Cursor, Entry, Fault};

/// A mapping that is being read key by key, or one that is absent and has no keys.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    of: Cursor<'a>,
    entries: &'a [Entry],
}

impl<'a> Fields<'a> {
    pub(super) fn new(of: Cursor<'a>, entries: &'a [Entry]) -> Self {
        Self { of, entries }
    }

    /// A mapping without keys, in the place of one that is absent.
    #[must_use]
    pub fn absent(around: Cursor<'a>) -> Self {
        Self { of: around, entries: &[] }
    }

    /// The mapping itself; for one that is absent, the one around it.
    #[must_use]
    pub fn cursor(self) -> Cursor<'a> {
        self.of
    }

    #[must_use]
    pub fn get(self, key: &str) -> Option<Cursor<'a>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(self.of.over(&entry.node))
    }

    /// Like [`Fields::get`], and tells when the key is missing.
    #[must_use]
    pub fn required(self, key: &str) -> Option<Cursor<'a>> {
        let found = self.get(key);
        if found.is_none() {
            self.of.problem(Fault::new(format!("`{key}` is missing")));
        }
        found
    }

    /// What `read` makes of the key; the default when the key is absent, and also when it is wrong, because then the
    /// problem has been told and the result is never used.
    #[must_use]
    pub fn or<T>(self, key: &str, default: T, read: impl FnOnce(Cursor<'a>) -> Option<T>) -> T {
        self.get(key).and_then(read).unwrap_or(default)
    }

    /// Like [`Fields::or`] for a key whose default is `null`.
    #[must_use]
    pub fn nullable<T>(self, key: &str, read: impl FnOnce(Cursor<'a>) -> Option<T>) -> Option<T> {
        self.get(key).filter(|cursor| !cursor.is_null()).and_then(read)
    }

    /// A mapping in this mapping; an absent one has no keys.
    #[must_use]
    pub fn section(self, key: &str, known: &[&str]) -> Fields<'a> {
        let section = self.get(key).and_then(|cursor| cursor.fields(known));
        section.unwrap_or(Fields { of: self.of, entries: &[] })
    }
}
