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
        Absent::Is(text) => format!("Default: {text}."),
        Absent::From(words) if !words.is_empty() => format!("Default: {words}."),
        Absent::Required | Absent::Inherited => "Required.".to_owned(),
        Absent::From(_) | Absent::Parts => String::new(),
    };
    let description = format!("{}\n\nValues: {}. {default}", without_links(key.what()), values(&form));
    property.insert("description".to_owned(), json!(description.trim_end()));
    if let Absent::Is(text) = key.absent() {
        property.insert("default".to_owned(), literal(text));
    }
    Value::Object(property)
}

fn of(form: &Form, definitions: &mut Map<String, Value>) -> Map<String, Value> {
    let mut forms = Vec::new();
    gather(form, definitions, &mut forms);
    let mut forms: Vec<Value> = forms.into_iter().map(Value::Object).collect();
    let variable = json!({ "$ref": "#/$defs/variable" });
    // Once, and last: it is the least likely.
    let several = forms.len();
    forms.retain(|form| *form != variable);
    if forms.len() < several {
        forms.push(variable);
    }
    match <[Value; 1]>::try_from(forms) {
        Ok([Value::Object(only)]) => only,
        Ok([other]) => one([("const", other)]),
        Err(forms) => one([("anyOf", json!(forms))]),
    }
}

/// The forms that a value may have, one by one.
fn gather(form: &Form, definitions: &mut Map<String, Value>, forms: &mut Vec<Map<String, Value>>) {
    let variable = || one([("$ref", json!("#/$defs/variable"))]);
    match form {
        Form::Null => forms.extend([one([("type", json!("null"))]), variable()]),
        Form::Flag => forms.extend([one([("type", json!("boolean"))]), variable()]),
        Form::Whole { least, most } => forms.extend([integer(u64::from(*least), u64::from(*most)), variable()]),
        Form::Size { least, most } => {
            forms.extend([integer(*least, *most), text(&size_pattern(*least), "a size such as `16MiB`")]);
        }
        Form::Duration { least, .. } => forms.push(text(&duration_pattern(*least), "a duration such as `30s`")),
        Form::Word(words) => forms.extend([one([("enum", json!(words))]), variable()]),
        Form::Text(Text { what, pattern }) => forms.push(text(pattern, what)),
        Form::Mapping(table) => forms.push(defined(table.name, table, &[], definitions)),
        Form::Without(table, without) => forms.push(defined("defaults", table, without, definitions)),
        Form::OneKey(table) => {
            let reference = defined(table.name, table, &[], definitions);
            if let Some(Value::Object(definition)) = definitions.get_mut(table.name) {
                definition.insert("minProperties".to_owned(), json!(1));
                definition.insert("maxProperties".to_owned(), json!(1));
            }
            forms.push(reference);
        }
        Form::Named { name, of: inner, least, most } => {
            let mut named = one([("type", json!("object")), ("propertyNames", json!({ "pattern": name.pattern }))]);
            named.insert("additionalProperties".to_owned(), Value::Object(of(inner, definitions)));
            bound(&mut named, "minProperties", "maxProperties", *least, *most);
            forms.push(named);
        }
        Form::List { of: inner, least, most } => {
            let mut list = one([("type", json!("array")), ("items", Value::Object(of(inner, definitions)))]);
            bound(&mut list, "minItems", "maxItems", *least, *most);
            forms.push(list);
        }
        Form::Either(either) => either.iter().for_each(|form| gather(form, definitions, forms)),
    }
}

fn defined(name: &str, table: &Table, without: &[&str], definitions: &mut Map<String, Value>) -> Map<String, Value> {
    if !definitions.contains_key(name) {
        let mut definition = object(table, without, definitions);
        definition.insert("title".to_owned(), json!(name));
        definitions.insert(name.to_owned(), Value::Object(definition));
    }
    one([("$ref", json!(format!("#/$defs/{name}")))])
}

fn integer(least: u64, most: u64) -> Map<String, Value> {
    one([("type", json!("integer")), ("minimum", json!(least)), ("maximum", json!(most))])
}

/// `what` is told by editors that know this keyword; to validators it is nothing.
fn text(pattern: &str, what: &str) -> Map<String, Value> {
    let pattern = json!(format!("{pattern}|{VARIABLE}"));
    one([("type", json!("string")), ("pattern", pattern), ("patternErrorMessage", json!(format!("must be {what}")))])
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
