//! The reference as a JSON schema (draft 2020-12), for editors.
//!
//! It is never stricter than the compiler: what the compiler takes, the schema takes. The other way round, it leaves to
//! the compiler what needs more than one value to judge (names of upstreams, keys that go together), and bounds of
//! durations and sizes that are written with a unit.

use serde_json::{Map, Value, json};

use super::values;
use crate::config::{Absent, Described, Form, Table, Text, duration_pattern, size_pattern};
use crate::policy::compile::keys;

/// Text with a value of the environment in it may become anything that is written in one line.
const VARIABLE: &str = "\\$\\{";

/// The schema of a policy file, as text.
#[must_use]
pub fn schema() -> String {
    let mut definitions = Map::new();
    definitions.insert("variable".to_owned(), json!({ "type": "string", "pattern": VARIABLE }));
    let mut root = object(keys(), &[], &mut definitions);
    root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    root.insert("$id".to_owned(), json!("urn:turnwise:schema:policy"));
    root.insert("title".to_owned(), json!("Policy of Turnwise"));
    root.insert("$defs".to_owned(), Value::Object(definitions));
    format!("{:#}\n", Value::Object(root))
}

/// Of a mapping, without some of its keys.
fn object(table: &Table, without: &[&str], definitions: &mut Map<String, Value>) -> Map<String, Value> {
    let keys = || table.keys.iter().filter(|key| !without.contains(&key.name()));
    let properties: Map<String, Value> =
        keys().map(|key| (key.name().to_owned(), property(*key, definitions))).collect();
    let required: Vec<&str> = keys().filter(|key| key.absent() == Absent::Required).map(|key| key.name()).collect();
    let mut object = Map::new();
    object.insert("title".to_owned(), json!(table.name));
    object.insert("type".to_owned(), json!("object"));
    object.insert("properties".to_owned(), Value::Object(properties));
    object.insert("additionalProperties".to_owned(), json!(false));
    if !required.is_empty() {
        object.insert("required".to_owned(), json!(required));
    }
    object
}

fn property(key: &dyn Described, definitions: &mut Map<String, Value>) -> Value {
    let form = key.form();
    let mut property = of(&form, definitions);
    let default = match key.absent() {
        Absent::Is(text) => format!("Default: `{text}`."),
        Absent::From(words) if !words.is_empty() => format!("Default: {words}."),
        Absent::Required | Absent::Inherited => "Required.".to_owned(),
        Absent::From(_) | Absent::Parts => String::new(),
    };
    let description = format!("{}\n\nValues: {}. {default}", without_links(key.what()), values(&form));
    property.insert("description".to_owned(), json!(description.trim_end().replace('`', "")));
    // As above, for editors that know this keyword.
    property.insert("markdownDescription".to_owned(), json!(description.trim_end()));
    if let Absent::Is(text) = key.absent() {
        property.insert("default".to_owned(), literal(text));
    }
    Value::Object(property)
}

/// The forms of one value. What is written in one line stands together: its keywords are each for one type only.
#[derive(Default)]
struct Alternatives {
    types: Vec<&'static str>,
    keywords: Map<String, Value>,
    /// Whether a value of the environment may stand there that no pattern speaks of yet.
    variable: bool,
    others: Vec<Map<String, Value>>,
}

fn of(form: &Form, definitions: &mut Map<String, Value>) -> Map<String, Value> {
    let mut found = Alternatives::default();
    found.gather(form, definitions);
    let Alternatives { mut types, mut keywords, variable, mut others } = found;
    if variable && !keywords.contains_key("pattern") {
        if types.is_empty() {
            others.push(one([("$ref", json!("#/$defs/variable"))]));
        } else {
            types.push("string");
            keywords.extend(one([("pattern", json!(VARIABLE)), ("patternErrorMessage", must_be(&values(form)))]));
        }
    }
    if !types.is_empty() {
        keywords.insert("type".to_owned(), if let [only] = types[..] { json!(only) } else { json!(types) });
        // What editors say of a value that is nothing at all, they take from the first.
        others.insert(
            if keywords.get("pattern").is_some_and(|pattern| pattern == VARIABLE) { others.len() } else { 0 },
            keywords,
        );
    }
    if others.len() == 1 { others.remove(0) } else { one([("anyOf", json!(others))]) }
}

impl Alternatives {
    fn gather(&mut self, form: &Form, definitions: &mut Map<String, Value>) {
        match form {
            Form::Null => self.plain("null", []),
            Form::Flag => self.plain("boolean", []),
            Form::Whole { least, most } => self.plain("integer", [("minimum", json!(least)), ("maximum", json!(most))]),
            Form::Size { least, most } => {
                self.plain("integer", [("minimum", json!(least)), ("maximum", json!(most))]);
                self.text(&size_pattern(*least), "a size such as `16MiB`");
            }
            Form::Duration { least, .. } => self.text(&duration_pattern(*least), "a duration such as `30s`"),
            Form::Text(Text { what, pattern }) => self.text(pattern, what),
            Form::Word(words) => {
                self.variable = true;
                self.others.push(one([("enum", json!(words))]));
            }
            Form::Mapping(table) => self.others.push(defined(table.name, table, &[], definitions)),
            Form::Without(table, without) => self.others.push(defined("defaults", table, without, definitions)),
            Form::OneKey(table) => {
                let reference = defined(table.name, table, &[], definitions);
                if let Some(Value::Object(definition)) = definitions.get_mut(table.name) {
                    bound(definition, "minProperties", "maxProperties", 1, 1);
                }
                self.others.push(reference);
            }
            Form::Named { name, of: inner, least, most } => {
                let mut named = one([("type", json!("object")), ("propertyNames", json!({ "pattern": name.pattern }))]);
                named.insert("additionalProperties".to_owned(), Value::Object(of(inner, definitions)));
                bound(&mut named, "minProperties", "maxProperties", *least, *most);
                self.others.push(named);
            }
            Form::List { of: inner, least, most } => {
                let mut list = one([("type", json!("array")), ("items", Value::Object(of(inner, definitions)))]);
                bound(&mut list, "minItems", "maxItems", *least, *most);
                self.others.push(list);
            }
            Form::Either(forms) => forms.iter().for_each(|form| self.gather(form, definitions)),
        }
    }

    fn plain<const N: usize>(&mut self, name: &'static str, keywords: [(&str, Value); N]) {
        self.types.push(name);
        self.keywords.extend(one(keywords));
        self.variable = true;
    }

    /// There is at most one such form of a value.
    fn text(&mut self, pattern: &str, what: &str) {
        self.types.push("string");
        let pattern = json!(format!("{pattern}|{VARIABLE}"));
        self.keywords.extend(one([("pattern", pattern), ("patternErrorMessage", must_be(what))]));
    }
}

/// Told by editors that know this keyword; to validators it is nothing.
fn must_be(what: &str) -> Value {
    json!(format!("must be {what}"))
}

fn defined(name: &str, table: &Table, without: &[&str], definitions: &mut Map<String, Value>) -> Map<String, Value> {
    if !definitions.contains_key(name) {
        let mut definition = object(table, without, definitions);
        definition.insert("title".to_owned(), json!(name));
        definitions.insert(name.to_owned(), Value::Object(definition));
    }
    one([("$ref", json!(format!("#/$defs/{name}")))])
}

fn bound(of: &mut Map<String, Value>, low: &str, high: &str, least: usize, most: usize) {
    if least > 0 {
        of.insert(low.to_owned(), json!(least));
    }
    if most < usize::MAX {
        of.insert(high.to_owned(), json!(most));
    }
}

fn one<const N: usize>(entries: [(&str, Value); N]) -> Map<String, Value> {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A value as the file would write it.
pub(super) fn literal(text: &str) -> Value {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(items) => items.split(", ").filter(|item| !item.is_empty()).map(literal).collect(),
        None => match text {
            "null" | "true" | "false" => text.parse().unwrap_or(Value::Null),
            _ => text.parse::<u64>().map_or_else(|_| json!(text), Value::from),
        },
    }
}

/// Editors show what stands between the brackets, and not where it leads.
fn without_links(markdown: &str) -> String {
    let mut text = String::with_capacity(markdown.len());
    let mut rest = markdown;
    while let Some((before, after)) = rest.split_once('[') {
        text.push_str(before);
        let link = after.split_once("](").filter(|(shown, _)| !shown.contains([']', '[']));
        match link.and_then(|(shown, after)| Some((shown, after.split_once(')')?.1))) {
            Some((shown, after)) => {
                text.push_str(shown);
                rest = after;
            }
            None => {
                text.push('[');
                rest = after;
            }
        }
    }
    text + rest
}
