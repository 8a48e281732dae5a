//! From YAML events to a tree that knows where everything stands. Scalars are text here; see `values`.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::problem::Problem;
use super::tree::key_path;
use super::{Entry, Fault, Kind, Node, Position, Scalar, Sink, Value, quoted};

/// Mappings in lists in mappings …: no policy needs more levels.
pub const MAX_DEPTH: usize = 32;
/// Values in all, those that aliases stand for counted every time.
pub const MAX_NODES: usize = 50_000;

/// The tree of the only document; `None` when there is none.
///
/// # Errors
///
/// The first problem after which the rest cannot be trusted. Others (a key that stands twice) go to `sink`.
pub(super) fn read(text: &str, sink: &Sink) -> Result<Option<Node>, Problem> {
    let mut reader = Reader { parser: Parser::new_from_str(text), sink, anchors: HashMap::new(), nodes: 0 };
    let mut root = None;
    loop {
        let (event, span) = reader.next("")?;
        match event {
            Event::StreamEnd => return Ok(root),
            Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
            Event::DocumentStart(_) => {
                if root.is_some() {
                    let fault = Fault::new("a second document begins here; a policy is one document");
                    return Err(reader.at(fault, span.start, ""));
                }
            }
            event => root = Some(reader.node(event, span, "", 1)?),
        }
    }
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    sink: &'t Sink,
    /// What aliases may stand for; only values that are complete.
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self, path: &str) -> Result<(Event<'t>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.syntax(&error, path)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn syntax(&self, error: &ScanError, path: &str) -> Problem {
        self.at(Fault::new(format!("this is no valid YAML: {}", quoted(error.info()))), *error.marker(), path)
    }

    fn at(&self, fault: Fault, marker: Marker, path: &str) -> Problem {
        fault.at(self.sink.file(), position(marker), path)
    }

    fn node(&mut self, event: Event<'t>, span: Span, path: &str, depth: usize) -> Result<Node, Problem> {
        self.bound(span, path, 1, depth)?;
        let (anchor, kind) = match event {
            Event::Alias(anchor) => return self.alias(anchor, span, path, depth),
            Event::Scalar(text, _, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span, path)?;
                (anchor, Kind::Scalar(scalar(&text)))
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), span, path)?;
                (anchor, Kind::List(self.list(path, depth)?))
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), span, path)?;
                (anchor, Kind::Mapping(self.mapping(path, depth)?))
            }
            _ => {
                return Err(self.at(Fault::new("this is no valid YAML: a value is missing"), span.start, path));
            }
        };
        let node = Node { at: position(span.start), path: path.into(), kind };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, path: &str, depth: usize) -> Result<Vec<Node>, Problem> {
        let mut items = Vec::new();
        loop {
            let item_path = format!("{path}[{}]", items.len());
            let (event, span) = self.next(&item_path)?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(items);
            }
            let mut item = self.node(event, span, &item_path, depth + 1)?;
            item.at = position(span.start);
            items.push(item);
        }
    }

    fn mapping(&mut self, path: &str, depth: usize) -> Result<Vec<Entry>, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, key_span) = self.next(path)?;
            let key = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(text, style, _, None) => {
                    self.check_key(&text, style, key_span, path)?;
                    text.into_owned()
                }
                _ => return Err(self.at(Fault::new("a key must be text"), key_span.start, path)),
            };
            let path = key_path(path, &key);
            let at = position(key_span.start);
            let (event, span) = self.next(&path)?;
            let mut node = self.node(event, span, &path, depth + 1)?;
            node.at = at;
            if let Some(first) = lines.get(&key) {
                let fault = Fault::new("this key stands twice in its mapping");
                self.sink.push(fault.hint(format!("the first is in line {first}")).at(self.sink.file(), at, &path));
            } else {
                lines.insert(key.clone(), at.line);
                entries.push(Entry { key, node });
            }
        }
    }

    fn check_key(&self, key: &str, style: ScalarStyle, span: Span, path: &str) -> Result<(), Problem> {
        if style == ScalarStyle::Plain && key == "<<" {
            let fault = Fault::new("merge keys (`<<`) are not read").hint("write what routes share into `defaults`");
            return Err(self.at(fault, span.start, path));
        }
        // YAML takes these for other things than text. Numbers are found when values are resolved.
        if style == ScalarStyle::Plain && matches!(key, "" | "~" | "null" | "true" | "false") {
            return Err(self.at(Fault::new("a key must be text"), span.start, path));
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, span: Span, path: &str, depth: usize) -> Result<Node, Problem> {
        let Some(node) = self.anchors.get(&anchor) else {
            let fault = Fault::new("this alias stands for nothing that is complete before it");
            return Err(self.at(fault, span.start, path));
        };
        let (size, height) = (node.size(), node.height());
        // Counted before it is copied, so that aliases of aliases cannot fill the memory.
        self.bound(span, path, size, depth + height - 1)?;
        let mut node = self.anchors[&anchor].clone();
        node.move_to(path);
        Ok(node)
    }

    fn bound(&mut self, span: Span, path: &str, nodes: usize, depth: usize) -> Result<(), Problem> {
        self.nodes += nodes;
        let message = if self.nodes > MAX_NODES {
            format!("the file holds more than {MAX_NODES} values")
        } else if depth > MAX_DEPTH {
            format!("this is nested deeper than {MAX_DEPTH} levels")
        } else {
            return Ok(());
        };
        Err(self.at(Fault::new(message), span.start, path))
    }

    fn refuse_tag(&self, tagged: bool, span: Span, path: &str) -> Result<(), Problem> {
        if !tagged {
            return Ok(());
        }
        let fault = Fault::new("YAML tags (`!…`) are not read").hint("write text in quotation marks");
        Err(self.at(fault, span.start, path))
    }
}

fn scalar(text: &str) -> Scalar {
    Scalar { value: Value::Text, text: text.to_owned(), written: text.to_owned(), from_environment: false }
}

fn position(marker: Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1 }
}

/// Whether a document holds nothing. Values are not resolved yet, so it goes by the text.
pub(super) fn is_nothing(root: &Node) -> bool {
    matches!(&root.kind, Kind::Scalar(scalar) if matches!(scalar.text.as_str(), "" | "~" | "null"))
}
