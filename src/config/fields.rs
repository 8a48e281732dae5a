use super::key::{Empty, Is, Key, MustBe, Null, Parts};
use super::{Cursor, Entry, Fault, Section, Shape, Table};

/// A mapping that is being read key by key, or one that is absent and has no keys.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    of: Cursor<'a>,
    entries: &'a [Entry],
    known: &'static Table,
}

impl<'a> Fields<'a> {
    pub(super) fn new(of: Cursor<'a>, entries: &'a [Entry], known: &'static Table) -> Self {
        Self { of, entries, known }
    }

    /// A mapping without keys, in the place of one that is absent.
    #[must_use]
    pub fn absent(around: Cursor<'a>, known: &'static Table) -> Self {
        Self { of: around, entries: &[], known }
    }

    /// The mapping itself; for one that is absent, the one around it.
    #[must_use]
    pub fn cursor(self) -> Cursor<'a> {
        self.of
    }

    #[must_use]
    pub fn get<S, A>(self, key: &Key<S, A>) -> Option<Cursor<'a>> {
        debug_assert!(self.known.has(key.name()), "`{}` is no key of `{}`", key.name(), self.known.name);
        let entry = self.entries.iter().find(|entry| entry.key == key.name())?;
        Some(self.of.over(&entry.node))
    }

    /// Like [`Fields::get`], without what is `null`.
    #[must_use]
    pub fn present<S>(self, key: &Key<S, Null>) -> Option<Cursor<'a>> {
        self.get(key).filter(|cursor| !cursor.is_null())
    }

    /// Like [`Fields::get`], and tells when the key is missing.
    #[must_use]
    pub fn required<S, A: MustBe>(self, key: &Key<S, A>) -> Option<Cursor<'a>> {
        let found = self.get(key);
        if found.is_none() {
            self.of.problem(Fault::new(format!("`{}` is missing", key.name())));
        }
        found
    }

    /// The value of the key; what holds without it when it is absent, and also when it is wrong, because then the
    /// problem has been told and the result is never used.
    #[must_use]
    pub fn read<S: Shape>(self, key: &Key<S, Is>) -> S::Value {
        self.given(key).unwrap_or_else(|| key.standard())
    }

    /// The value of a key, if it is there and sound.
    #[must_use]
    pub fn given<S: Shape, A>(self, key: &Key<S, A>) -> Option<S::Value> {
        self.get(key).and_then(|cursor| key.shape.read(cursor))
    }

    /// Like [`Fields::given`], and tells when the key is missing.
    #[must_use]
    pub fn needed<S: Shape, A: MustBe>(self, key: &Key<S, A>) -> Option<S::Value> {
        self.required(key).and_then(|cursor| key.shape.read(cursor))
    }

    /// Like [`Fields::given`] for a key that may be `null`.
    #[must_use]
    pub fn nullable<S: Shape>(self, key: &Key<S, Null>) -> Option<S::Value> {
        self.present(key).and_then(|cursor| key.shape.read(cursor))
    }

    /// Like [`Fields::given`] for a list that is empty when it is absent.
    #[must_use]
    pub fn listed<S: Shape<Value = Vec<T>>, T>(self, key: &Key<S, Empty>) -> Vec<T> {
        self.given(key).unwrap_or_default()
    }

    /// A mapping in this mapping; an absent one has no keys.
    #[must_use]
    pub fn section(self, key: &Key<Section, Parts>) -> Fields<'a> {
        let known = key.shape.0;
        let section = self.get(key).and_then(|cursor| cursor.fields(known));
        section.unwrap_or(Fields { of: self.of, entries: &[], known })
    }
}
