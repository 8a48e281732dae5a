//! What scalars are: serde_yaml decides what is text and what a number, the tree of events where it stands.

use super::environment::expand;
use super::problem::Problem;
use super::{Fault, Kind, Node, Position, Scalar, Sink, Value};

/// Text of the environment in all scalars together. It is bounded apart from the file.
const MAX_EXPANDED: usize = 4 << 20;

/// Gives every scalar its value.
///
/// # Errors
///
/// What serde_yaml refuses, and whatever the two readers of YAML take for different things.
pub(super) fn resolve(root: &mut Node, text: &str, sink: &Sink) -> Result<(), Problem> {
    let value: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| {
        if let Some(node) = beyond_64_bits(root) {
            return sink.fault_at(node, "the number is too large");
        }
        let at = error.location().map_or(Position::START, |at| Position { line: at.line(), column: at.column() });
        Fault::new(format!("this is no valid YAML: {}", super::quoted(&error.to_string()))).at(sink.file(), at, "")
    })?;
    join(root, &value, sink)
}

/// The first number that serde_yaml has no room for, or a text of such digits.
fn beyond_64_bits(node: &Node) -> Option<&Node> {
    match &node.kind {
        Kind::Mapping(entries) => entries.iter().find_map(|entry| beyond_64_bits(&entry.node)),
        Kind::List(items) => items.iter().find_map(beyond_64_bits),
        Kind::Scalar(scalar) => {
            let digits = scalar.text.strip_prefix(['+', '-']).unwrap_or(&scalar.text);
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            (is_number && digits.parse::<i64>().is_err() && digits.parse::<u64>().is_err()).then_some(node)
        }
    }
}

fn join(node: &mut Node, value: &serde_yaml::Value, sink: &Sink) -> Result<(), Problem> {
    use serde_yaml::Value as Yaml;
    let agreed = match (&mut node.kind, value) {
        (Kind::Mapping(entries), Yaml::Mapping(mapping)) if entries.len() == mapping.len() => {
            for (entry, (key, value)) in entries.iter_mut().zip(mapping) {
                if !key.is_string() {
                    let fault = Fault::new("a key must be text").hint("write it in quotation marks");
                    return Err(fault.at(sink.file(), entry.node.at, &entry.node.path));
                }
                join(&mut entry.node, value, sink)?;
            }
            true
        }
        (Kind::List(items), Yaml::Sequence(values)) if items.len() == values.len() => {
            for (item, value) in items.iter_mut().zip(values) {
                join(item, value, sink)?;
            }
            true
        }
        (Kind::Scalar(scalar), value) => join_scalar(scalar, value),
        _ => false,
    };
    if agreed {
        return Ok(());
    }
    Err(sink.fault_at(node, "this can be read in more than one way; write it in quotation marks"))
}

/// Whether there was something to join.
fn join_scalar(scalar: &mut Scalar, value: &serde_yaml::Value) -> bool {
    use serde_yaml::Value as Yaml;
    scalar.value = match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(*value),
        Yaml::Number(number) => number.as_u64().map_or(Value::OtherNumber, Value::Integer),
        Yaml::String(text) => return *text == scalar.text,
        Yaml::Sequence(_) | Yaml::Mapping(_) | Yaml::Tagged(_) => return false,
    };
    true
}

/// Puts values of the environment into all scalars that ask for them. Problems go to `sink`.
pub(super) fn put_environment_in(root: &mut Node, env: &dyn Fn(&str) -> Option<String>, sink: &Sink) {
    let mut left = MAX_EXPANDED;
    walk(
        root,
        &mut |node| {
            let Kind::Scalar(scalar) = &mut node.kind else {
                return Ok(());
            };
            if left == 0 || !scalar.written.contains("${") {
                return Ok(());
            }
            let expanded = expand(&scalar.written, env)?;
            left = left.saturating_sub(expanded.text.len());
            if left == 0 {
                return Err(Fault::new("the values of the environment are larger than 4 MiB together"));
            }
            if expanded.replaced {
                scalar.value = read_again(&expanded.text);
            }
            scalar.from_environment = expanded.replaced;
            scalar.text = expanded.text;
            Ok(())
        },
        sink,
    );
}

fn walk(node: &mut Node, change: &mut dyn FnMut(&mut Node) -> Result<(), Fault>, sink: &Sink) {
    if let Err(fault) = change(node) {
        sink.push_spoilt(fault.at(sink.file(), node.at, &node.path));
    }
    match &mut node.kind {
        Kind::Mapping(entries) => entries.iter_mut().for_each(|entry| walk(&mut entry.node, change, sink)),
        Kind::List(items) => items.iter_mut().for_each(|item| walk(item, change, sink)),
        Kind::Scalar(_) => {}
    }
}

/// What text of the environment stands for: the plain cases of YAML, never structure. Quotation marks around the
/// variable do not matter, because in `{ … }` a variable cannot be written without them.
fn read_again(text: &str) -> Value {
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().map_or(Value::OtherNumber, Value::Integer),
        _ => Value::Text,
    }
}

/// A text of one line as it would stand in a file: a scalar, or a list of scalars.
pub(super) fn written(text: &str) -> Node {
    let node = |kind| Node { at: Position::START, path: "".into(), kind };
    let scalar = |text: &str| {
        let value = read_again(text);
        node(Kind::Scalar(Scalar { value, text: text.to_owned(), written: text.to_owned(), from_environment: false }))
    };
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(items) => node(Kind::List(items.split(", ").filter(|item| !item.is_empty()).map(scalar).collect())),
        None => scalar(text),
    }
}
