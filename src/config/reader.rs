//! Strict reading of a tree that goes on after a problem, so that one pass tells everything.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::problem::{self, Fault, Problem, Problems};
use super::suggest;
use super::{Fields, Kind, Node, Scalar, Table, Value, quoted, scalar};

/// Where problems and warnings of one file go.
#[derive(Debug)]
pub struct Sink {
    file: String,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    /// Paths of values that could not be had: whatever else is wrong there comes of that.
    spoilt: RefCell<HashSet<String>>,
}

impl Sink {
    #[must_use]
    pub fn new(file: &str) -> Self {
        let (problems, warnings, spoilt) = Default::default();
        Self { file: file.to_owned(), problems, warnings, spoilt }
    }

    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    #[must_use]
    pub fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    pub fn push(&self, problem: Problem) {
        if !self.spoilt.borrow().contains(&problem.path) {
            self.problems.borrow_mut().push(problem);
        }
    }

    /// As [`push`](Self::push), where reading goes on without the value: nothing more is said of that one.
    pub(super) fn push_spoilt(&self, problem: Problem) {
        let path = problem.path.clone();
        self.push(problem);
        self.spoilt.borrow_mut().insert(path);
    }

    #[must_use]
    pub fn into_problems(self) -> Problems {
        Problems::new(self.problems.into_inner())
    }

    /// In the order of the file, each once.
    #[must_use]
    pub fn into_warnings(self) -> Vec<Problem> {
        let mut warnings = self.warnings.into_inner();
        problem::sort(&mut warnings);
        warnings
    }

    pub(super) fn fault_at(&self, node: &Node, message: &str) -> Problem {
        Fault::new(message).at(&self.file, node.at, &node.path)
    }
}

/// A value that is being read. A reader that finds something wrong says so to the sink and returns `None`.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    node: &'a Node,
    sink: &'a Sink,
}

impl<'a> Cursor<'a> {
    #[must_use]
    pub fn new(node: &'a Node, sink: &'a Sink) -> Self {
        Self { node, sink }
    }

    #[must_use]
    pub fn node(self) -> &'a Node {
        self.node
    }

    pub fn problem(self, fault: Fault) {
        self.sink.push(fault.at(&self.sink.file, self.node.at, &self.node.path));
    }

    /// Something that is surely not meant, but harmless.
    pub fn warning(self, fault: Fault) {
        self.sink.warnings.borrow_mut().push(fault.at(&self.sink.file, self.node.at, &self.node.path));
    }

    /// The value, or its fault told. What a parser says may quote the text, and text of the environment may be a
    /// secret: for such a value only the variable is named.
    pub fn told<T>(self, result: Result<T, Fault>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(_) if self.scalar().is_some_and(|scalar| scalar.from_environment) => {
                self.wrong(format!("what `{}` stands for cannot be used here", self.shown()))
            }
            Err(fault) => self.refuse(fault),
        }
    }

    fn refuse<T>(self, fault: Fault) -> Option<T> {
        self.problem(fault);
        None
    }

    fn wrong<T>(self, message: impl Into<String>) -> Option<T> {
        self.refuse(Fault::new(message))
    }

    /// A mapping whose keys are all among `known`; unknown ones are told.
    #[must_use]
    pub fn fields(self, known: &'static Table) -> Option<Fields<'a>> {
        let Kind::Mapping(entries) = &self.node.kind else {
            return self.wrong(format!("must be a mapping, not {}", self.kind()));
        };
        for entry in entries.iter().filter(|entry| !known.has(&entry.key)) {
            let hint = suggest::hint(&entry.key, &known.names().collect::<Vec<_>>());
            Cursor::new(&entry.node, self.sink).problem(Fault::new("unknown key").hint(hint));
        }
        Some(Fields::new(self, entries, known))
    }

    /// Keys that the reader does not know beforehand (names of upstreams).
    #[must_use]
    pub fn entries(self) -> Option<Vec<(&'a str, Cursor<'a>)>> {
        let Kind::Mapping(entries) = &self.node.kind else {
            return self.wrong(format!("must be a mapping, not {}", self.kind()));
        };
        Some(entries.iter().map(|entry| (entry.key.as_str(), Cursor::new(&entry.node, self.sink))).collect())
    }

    #[must_use]
    pub fn items(self) -> Option<Vec<Cursor<'a>>> {
        let Kind::List(items) = &self.node.kind else {
            return self.wrong(format!("must be a list, not {}", self.kind()));
        };
        Some(items.iter().map(|item| Cursor::new(item, self.sink)).collect())
    }

    /// The value of a key, if this is a mapping that has it: a better place to point at.
    #[must_use]
    pub fn inside(self, key: &str) -> Option<Cursor<'a>> {
        self.node.get(key).map(|node| Cursor::new(node, self.sink))
    }

    /// Another value of the same file.
    #[must_use]
    pub fn over<'n>(self, node: &'n Node) -> Cursor<'n>
    where
        'a: 'n,
    {
        Cursor::new(node, self.sink)
    }

    /// Like [`Cursor::items`], and tells when there are more than `most`.
    #[must_use]
    pub fn items_up_to(self, most: usize) -> Option<Vec<Cursor<'a>>> {
        let items = self.items()?;
        if items.len() > most {
            return self.wrong(format!("must have at most {most} items, not {}", items.len()));
        }
        Some(items)
    }

    #[must_use]
    pub fn is_list(self) -> bool {
        matches!(self.node.kind, Kind::List(_))
    }

    #[must_use]
    pub fn is_mapping(self) -> bool {
        matches!(self.node.kind, Kind::Mapping(_))
    }

    #[must_use]
    pub fn is_null(self) -> bool {
        self.node.is_null()
    }

    #[must_use]
    pub fn bool(self) -> Option<bool> {
        match self.scalar() {
            Some(Scalar { value: Value::Bool(value), .. }) => Some(*value),
            Some(scalar) if scalar.value == Value::Text && !scalar.from_environment => {
                let fault = Fault::new(format!("must be `true` or `false`, not the text {}", self.kind()));
                self.refuse(match &*scalar.text.to_ascii_lowercase() {
                    "true" | "on" | "yes" => fault.hint("write `true`, without quotation marks"),
                    "false" | "off" | "no" => fault.hint("write `false`, without quotation marks"),
                    _ => fault,
                })
            }
            _ => self.wrong(format!("must be `true` or `false`, not {}", self.kind())),
        }
    }

    #[must_use]
    pub fn integer(self, range: RangeInclusive<u32>) -> Option<u32> {
        let (low, high) = (*range.start(), *range.end());
        match self.scalar() {
            Some(Scalar { value: Value::Integer(0), .. }) if low == 1 => {
                self.wrong("must be at least 1: with 0 nothing would ever pass")
            }
            Some(Scalar { value: Value::Integer(value), .. }) => match u32::try_from(*value) {
                Ok(value) if range.contains(&value) => Some(value),
                _ => self.wrong(format!("must be from {low} to {high}, not `{}`", self.shown())),
            },
            Some(scalar) if scalar.value == Value::Text && scalar.text.parse::<u64>().is_ok() => {
                let fault = Fault::new("must be a whole number, not text");
                self.refuse(fault.hint("write it without quotation marks"))
            }
            _ => self.wrong(format!("must be a whole number from {low} to {high}, not {}", self.kind())),
        }
    }

    /// Text that is not empty.
    #[must_use]
    pub fn string(self) -> Option<&'a str> {
        match self.scalar() {
            Some(scalar) if scalar.from_environment || scalar.value == Value::Text => {
                if scalar.text.is_empty() {
                    return self.wrong("must not be empty");
                }
                Some(&scalar.text)
            }
            Some(scalar) if !matches!(scalar.value, Value::Null) => {
                let fault = Fault::new(format!("must be text, not {}", self.kind()));
                let hint = format!("write it in quotation marks: `\"{}\"`", quoted(scalar.shown()));
                self.refuse(fault.hint(hint))
            }
            _ => self.wrong(format!("must be text, not {}", self.kind())),
        }
    }

    /// One of the words of a table.
    #[must_use]
    pub fn word<T: Copy>(self, table: &[(&str, T)]) -> Option<T> {
        let words: Vec<&str> = table.iter().map(|(word, _)| *word).collect();
        let scalar = self.scalar().filter(|scalar| scalar.value != Value::Null);
        let found = scalar.and_then(|scalar| table.iter().find(|(word, _)| *word == scalar.text));
        if let Some((_, value)) = found {
            return Some(*value);
        }
        let list: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        let fault = Fault::new(format!("must be {}, not {}", list.join(" or "), self.kind()));
        let near = scalar.and_then(|scalar| match scalar.value {
            // YAML 1.1 takes them for the same.
            Value::Bool(false) => words.into_iter().find(|word| *word == "off"),
            _ => suggest::nearest(&scalar.text, words),
        });
        self.refuse(match near {
            Some(word) => fault.hint(format!("did you mean `{word}`?")),
            None => fault,
        })
    }

    /// In the range; both ends are shown to the user when it is not.
    #[must_use]
    pub fn duration(self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let duration = self.parsed(scalar::parse_duration, "a duration such as `30s`")?;
        if range.contains(&duration) {
            return Some(duration);
        }
        let (low, high) = (scalar::show_duration(*range.start()), scalar::show_duration(*range.end()));
        self.wrong(format!("must be from {low} to {high}, not `{}`", self.shown()))
    }

    /// In bytes.
    #[must_use]
    pub fn size(self, range: RangeInclusive<u64>) -> Option<u64> {
        let size = self.parsed(scalar::parse_size, "a size such as `16MiB`")?;
        if range.contains(&size) {
            return Some(size);
        }
        let (low, high) = (scalar::show_size(*range.start()), scalar::show_size(*range.end()));
        self.wrong(format!("must be from {low} to {high}, not `{}`", self.shown()))
    }

    /// Text read by `parse`; numbers are given to it as they are written.
    #[must_use]
    pub fn parsed<T>(self, parse: impl FnOnce(&str) -> Result<T, Fault>, what: &str) -> Option<T> {
        match self.scalar() {
            Some(scalar) if !matches!(scalar.value, Value::Null | Value::Bool(_)) => {
                match parse(&scalar.text) {
                    Ok(value) => Some(value),
                    // What the parser says may quote the text, and that of the environment must not be shown.
                    Err(_) if scalar.from_environment => {
                        self.wrong(format!("must be {what}, which `{}` is not", self.shown()))
                    }
                    Err(fault) => self.refuse(fault),
                }
            }
            _ => self.wrong(format!("must be {what}, not {}", self.kind())),
        }
    }

    fn scalar(self) -> Option<&'a Scalar> {
        match &self.node.kind {
            Kind::Scalar(scalar) => Some(scalar),
            Kind::Mapping(_) | Kind::List(_) => None,
        }
    }

    /// The value as it may be shown in messages.
    #[must_use]
    pub fn shown(self) -> String {
        self.scalar().map(|scalar| quoted(scalar.shown())).unwrap_or_default()
    }

    /// What stands there instead of what was wanted.
    #[must_use]
    pub fn kind(self) -> String {
        match &self.node.kind {
            Kind::Mapping(_) => "a mapping".to_owned(),
            Kind::List(_) => "a list".to_owned(),
            Kind::Scalar(scalar) if scalar.value == Value::Null && !scalar.from_environment => "nothing".to_owned(),
            Kind::Scalar(_) => format!("`{}`", self.shown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::{From, Is, Key, Parts, key, keys};
    use super::super::{Document, Flag, Section, Size, Time, Whole, Word};
    use super::*;

    const LOW: Whole = Whole(1..=9);
    const LEVEL: Word<u8> = Word(&[("high", 1), ("low", 2)]);
    const TIME: Time = Time(Duration::ZERO..=Duration::MAX);

    keys! {
        mod of = "of" {
            NUMBER: Key<Whole> = key("a", LOW, Is("7"), "");
            FLAG: Key<Flag> = key("b", Flag, Is("true"), "");
            LEVELS: Key<Word<u8>> = key("level", LEVEL, Is("low"), "");
            QUEUE: Key<Time> = key("queue", TIME, Is("30s"), "");
            INNER: Key<Section, Parts> = key("inner", Section(inner::KEYS), Parts, "");
        }
    }

    keys! {
        mod inner = "inner" {
            NUMBER: Key<Whole, From> = key("c", LOW, From(""), "");
            BYTES: Key<Size> = key("d", Size(1..=9), Is("3B"), "");
        }
    }

    fn told(text: &str, read: impl FnOnce(Fields<'_>)) -> String {
        let document = Document::parse("f", text.as_bytes(), &|_| Some("s3cret".to_owned())).expect("sound YAML");
        let sink = Sink::new("f");
        read(document.cursor(&sink).fields(of::KEYS).expect("a mapping"));
        sink.into_problems().to_string()
    }

    #[test]
    fn all_problems_are_told_in_one_pass() {
        let said = told("a: x\nquue: 1\nb: []\n", |fields| {
            assert_eq!(fields.read(&of::NUMBER), 7);
            assert!(fields.read(&of::FLAG));
        });
        assert_eq!(
            said,
            "f:1:1: a: must be a whole number from 1 to 9, not `x`\n\
             f:2:1: quue: unknown key; did you mean `queue`?\n\
             f:3:1: b: must be `true` or `false`, not a list"
        );
    }

    #[test]
    fn what_holds_without_a_key_is_read_as_if_it_were_written() {
        let said = told("{}", |fields| {
            assert_eq!((fields.read(&of::NUMBER), fields.read(&of::FLAG), fields.read(&of::LEVELS)), (7, true, 2));
            assert_eq!(fields.read(&of::QUEUE), Duration::from_secs(30));
            let inner = fields.section(&of::INNER);
            assert_eq!((inner.given(&inner::NUMBER), inner.read(&inner::BYTES)), (None, 3));
        });
        assert_eq!(said, "");
    }

    #[test]
    fn a_value_of_the_environment_is_never_shown() {
        let said = told("a: ${KEY}\nlevel: ${KEY}\nqueue: ${KEY}", |fields| {
            let _ = (fields.read(&of::NUMBER), fields.read(&of::LEVELS), fields.read(&of::QUEUE));
        });
        assert!(!said.contains("s3cret"), "{said}");
        assert!(said.contains("${KEY}"), "{said}");
    }

    #[test]
    fn a_number_of_the_environment_is_a_number() {
        let text = b"a: ${N:-100}\ninner: {c: '${N}'}";
        let document = Document::parse("f", text, &|_| Some("5".to_owned())).expect("sound");
        let sink = Sink::new("f");
        let fields = document.cursor(&sink).fields(of::KEYS).expect("a mapping");
        assert_eq!(fields.read(&of::NUMBER), 5);
        assert_eq!(fields.section(&of::INNER).given(&inner::NUMBER), Some(5));
        assert_eq!(fields.get(&of::NUMBER).and_then(Cursor::string), Some("5"));
        assert!(!sink.has_problems());
    }

    #[test]
    fn a_word_that_is_nearly_right_is_suggested() {
        let said = told("level: hihg", |fields| {
            let _ = fields.read(&of::LEVELS);
        });
        assert_eq!(said, "f:1:1: level: must be `high` or `low`, not `hihg`; did you mean `high`?");
    }
}
