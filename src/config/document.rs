use super::events;
use super::problem::{Problem, Problems};
use super::values;
use super::{Cursor, Kind, Node, Sink};

/// A larger file is refused before it is parsed: 1 MiB.
pub const MAX_BYTES: usize = 1 << 20;

/// A policy file that is sound YAML: one document, a mapping, every key a text that stands once in its mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    file: String,
    root: Node,
}

impl Document {
    /// Reads a file and puts values of the environment in. What reading can go on without is told to the sink that comes
    /// with it: a value that could not be put in.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the file as such; as many problems as can be told in one go.
    pub fn read(
        file_name: &str,
        bytes: &[u8],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Document, Sink), Problems> {
        if bytes.len() > MAX_BYTES {
            return Err(Problems::of_file(file_name, "the file is larger than 1 MiB"));
        }
        let text = match str::from_utf8(bytes) {
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
            Err(error) => return Err(not_utf8(file_name, bytes, error.valid_up_to())),
        };
        let sink = Sink::new(file_name);
        let root = events::read(text, &sink).map_err(|problem| Problems::new(vec![problem]))?;
        let Some(mut root) = root.filter(|root| !events::is_nothing(root)) else {
            return Err(Problems::of_file(file_name, "the file is empty: a policy needs at least `upstreams`"));
        };
        if sink.has_problems() {
            return Err(sink.into_problems());
        }
        if !matches!(root.kind, Kind::Mapping(_)) {
            let problem = sink.fault_at(&root, "a policy is a mapping of keys such as `upstreams` and `routes`");
            return Err(Problems::new(vec![problem]));
        }
        values::resolve(&mut root, text, &sink).map_err(|problem: Problem| Problems::new(vec![problem]))?;
        values::put_environment_in(&mut root, env, &sink);
        Ok((Document { file: file_name.to_owned(), root }, sink))
    }

    /// As [`read`](Self::read), for one who wants nothing less than all of it.
    ///
    /// # Errors
    /// Everything that is wrong with the file as such.
    pub fn parse(file_name: &str, bytes: &[u8], env: &dyn Fn(&str) -> Option<String>) -> Result<Document, Problems> {
        let (document, sink) = Self::read(file_name, bytes, env)?;
        if sink.has_problems() { Err(sink.into_problems()) } else { Ok(document) }
    }

    /// As given to [`Document::parse`].
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    #[must_use]
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// Where reading starts; problems go to `sink`.
    #[must_use]
    pub fn cursor<'a>(&'a self, sink: &'a Sink) -> Cursor<'a> {
        Cursor::new(&self.root, sink)
    }
}

/// Points at the first byte that is no UTF-8.
fn not_utf8(file_name: &str, bytes: &[u8], valid: usize) -> Problems {
    let before = String::from_utf8_lossy(&bytes[..valid]);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let fault = super::Fault::new("the file is not UTF-8 text");
    Problems::new(vec![fault.at(file_name, super::Position { line, column }, "")])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Document, Problems> {
        Document::parse("f.yaml", text.as_bytes(), &|name| (name == "PORT").then(|| "8000".to_owned()))
    }

    fn refused(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn an_empty_file_is_refused() {
        for text in ["", " \n", "# only a comment\n", "---\n", "null", "~", "--- # nothing\n...\n", "\u{feff}"] {
            assert!(refused(text).contains("the file is empty"), "{text:?}");
        }
    }

    #[test]
    fn a_file_that_is_no_mapping_is_refused() {
        assert_eq!(refused("- a"), "f.yaml:1:1: a policy is a mapping of keys such as `upstreams` and `routes`");
        assert!(refused("hello").contains("a policy is a mapping"));
    }

    #[test]
    fn a_file_that_is_not_text_is_refused_where_it_stops_being_text() {
        let problems = Document::parse("f.yaml", b"a: 1\nb: \xff", &|_| None).expect_err("not UTF-8");
        assert_eq!(problems.to_string(), "f.yaml:2:4: the file is not UTF-8 text");
    }

    #[test]
    fn a_file_over_1_mib_is_refused_and_one_of_1_mib_is_not() {
        let mut text = "a: 1\n#".to_owned();
        text.push_str(&"x".repeat(MAX_BYTES - text.len()));
        parse(&text).expect("exactly 1 MiB");
        text.push('x');
        assert_eq!(refused(&text), "f.yaml:1:1: the file is larger than 1 MiB");
    }

    #[test]
    fn a_syntax_error_says_where() {
        assert!(refused("a: 1\nb: [1, 2\n").starts_with("f.yaml:"), "{}", refused("a: 1\nb: [1, 2\n"));
        assert!(refused("a: 1\n b: 2\n").starts_with("f.yaml:2:"), "{}", refused("a: 1\n b: 2\n"));
        assert!(refused("a: \"x\n").starts_with("f.yaml:"));
    }

    #[test]
    fn a_second_document_is_refused() {
        assert!(refused("a: 1\n---\nb: 2\n").starts_with("f.yaml:2:1: "), "{}", refused("a: 1\n---\nb: 2\n"));
    }

    #[test]
    fn every_key_that_stands_twice_is_told() {
        assert_eq!(
            refused("a: 1\nb: {c: 1, c: 2}\na: 2\n"),
            "f.yaml:2:11: b.c: this key stands twice in its mapping; the first is in line 2\n\
             f.yaml:3:1: a: this key stands twice in its mapping; the first is in line 1"
        );
    }

    #[test]
    fn keys_are_text() {
        for text in ["1: a", "true: a", "~: a", "[a]: b", "{a: b}: c", "? \n: a"] {
            assert!(refused(text).contains("a key must be text"), "{text:?}: {}", refused(text));
        }
    }

    #[test]
    fn merge_keys_and_tags_are_refused() {
        assert!(refused("a: &x {b: 1}\nc: {<<: *x}").contains("merge keys"));
        assert!(refused("a: !!str 1").contains("tags"));
    }

    #[test]
    fn aliases_are_followed() {
        let document = parse("a: &x {b: [1]}\nc: *x\n").expect("sound");
        let copy = document.root().get("c").and_then(|c| c.get("b")).expect("the copy");
        assert_eq!((&*copy.path, copy.at.line), ("c.b", 1));
    }

    #[test]
    fn aliases_that_multiply_are_refused() {
        let mut text = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
        for level in 1..9 {
            let before = format!("*a{} ", level - 1).replace(' ', ",").repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        assert!(refused(&text).contains("more than 50000 values"), "{}", refused(&text));
    }

    #[test]
    fn an_alias_inside_its_own_anchor_is_refused() {
        assert!(refused("a: &x [*x]").contains("alias"), "{}", refused("a: &x [*x]"));
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |levels: usize| format!("a: {}{}", "[".repeat(levels), "]".repeat(levels));
        parse(&deep(crate::config::MAX_DEPTH - 1)).expect("just deep enough");
        assert!(refused(&deep(crate::config::MAX_DEPTH)).contains("deeper than 32 levels"));
        assert!(refused(&deep(500_000)).contains("no valid YAML")); // the scanner has a bound of its own
    }

    #[test]
    fn positions_are_those_of_keys_and_of_list_items() {
        let document = parse("# head\na:\n  - x: 1\n    y:\n      z: ${PORT}\n").expect("sound");
        let item = document.root().get("a").and_then(|a| match &a.kind {
            Kind::List(items) => items.first(),
            _ => None,
        });
        let item = item.expect("an item");
        assert_eq!((&*item.path, item.at.line, item.at.column), ("a[0]", 3, 5));
        let z = item.get("y").and_then(|y| y.get("z")).expect("z");
        assert_eq!((&*z.path, z.at.line, z.at.column), ("a[0].y.z", 5, 7));
        assert_eq!((document.root().at.line, &*document.root().path), (2, ""));
    }

    #[test]
    fn every_variable_that_is_not_set_is_told_at_its_key() {
        assert_eq!(
            refused("a: ${NOPE}\nb: ['${PORT}', '${NADA}']\n"),
            "f.yaml:1:1: a: the environment variable `NOPE` is not set; set it, or write `${NOPE:-default}`\n\
             f.yaml:2:16: b[1]: the environment variable `NADA` is not set; set it, or write `${NADA:-default}`"
        );
    }

    #[test]
    fn a_number_that_is_too_large_is_told_at_its_key() {
        assert_eq!(refused("a: 1\nb: {c: 99999999999999999999}\n"), "f.yaml:2:5: b.c: the number is too large");
        parse("a: '99999999999999999999'").expect("text");
    }

    #[test]
    fn the_environment_cannot_bring_structure() {
        let document = Document::parse("f", b"a: ${X}", &|_| Some("{b: 1}\nc: 2".to_owned())).expect("sound");
        assert_eq!(document.root().get("c"), None);
        assert!(matches!(document.root().get("a").map(|a| &a.kind), Some(Kind::Scalar(_))));
    }

    #[test]
    fn the_environment_cannot_fill_the_memory() {
        let text = format!("a: [{}]", "\"${X}\",".repeat(20_000));
        let problems = Document::parse("f", text.as_bytes(), &|_| Some("x".repeat(4096))).expect_err("too much");
        assert!(problems.to_string().contains("values of the environment"), "{problems}");
    }

    #[test]
    fn values_of_the_environment_are_not_in_debug_output() {
        let document = Document::parse("f", b"a: ${X}", &|_| Some("s3cret".to_owned())).expect("sound");
        assert!(!format!("{document:?}").contains("s3cret"));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = Document::parse("f", &bytes, &|_| None);
        }

        #[test]
        fn text_that_resembles_yaml_never_panics(
            text in "([a-c&*!#?:|>\\-\\[\\]{},'\"% \n\t$~0-9é]|: |- |\n  |\\$\\{A\\}|<<|--- ){0,60}",
        ) {
            let _ = parse(&text);
        }
    }
}
