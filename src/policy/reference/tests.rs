//! What is described is what the compiler does: every value in bounds is taken, every other one refused, in every
//! place.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::schema::literal;
use super::*;
use crate::config::{Absent, Problem};
use crate::policy::Policy;
use crate::policy::compile::{compile, keys};

/// A whole policy with this value in a place.
type Place<'p> = &'p dyn Fn(Value) -> Value;

/// Looks at every key of the file, in every place that it may stand in.
fn every_key(look: &mut dyn FnMut(Key<'_>)) {
    let base = json!({ "upstreams": { "agents": { "servers": ["http://127.0.0.1:8000"] } } });
    below(&Form::Mapping(keys()), "", &|value| with(&base, value), look);
}

/// A key in a place.
struct Key<'k> {
    path: &'k str,
    form: Form,
    absent: Absent,
    /// The policy with this value of the key, or without the key.
    policy: &'k dyn Fn(Option<Value>) -> Value,
}

fn below(form: &Form, path: &str, place: Place<'_>, look: &mut dyn FnMut(Key<'_>)) {
    match form {
        Form::Mapping(table) => mapping(table, &[], path, place, look),
        Form::Without(table, without) => mapping(table, without, path, place, look),
        Form::OneKey(table) => mapping(table, &[], path, place, look),
        Form::List { of, .. } => below(of, &format!("{path}[0]"), &|value| place(json!([value])), look),
        Form::Named { name, of, .. } => {
            let name = name.example();
            below(of, &format!("{path}.{name}"), &|value| place(json!({ name: value })), look);
        }
        Form::Either(forms) => forms.iter().for_each(|form| below(form, path, place, look)),
        _ => {}
    }
}

fn mapping(table: &'static Table, without: &[&str], path: &str, place: Place<'_>, look: &mut dyn FnMut(Key<'_>)) {
    for key in table.keys.iter().filter(|key| !without.contains(&key.name())) {
        let path = if path.is_empty() { key.name().to_owned() } else { format!("{path}.{}", key.name()) };
        let policy = |value: Option<Value>| {
            let mut mapping = least(&Form::Mapping(table));
            mapping.as_object_mut().expect("a mapping").remove(key.name());
            if let Some(value) = value {
                mapping[key.name()] = value;
            }
            beside(&path, place(mapping))
        };
        look(Key { path: &path, form: key.form(), absent: key.absent(), policy: &policy });
        below(&key.form(), &path, &|value| policy(Some(value)), look);
    }
}

/// The keys of `over` in the place of those of `base`.
fn with(base: &Value, over: Value) -> Value {
    let mut both = base.clone();
    for (key, value) in over.as_object().expect("a mapping") {
        both[key] = value.clone();
    }
    both
}

/// What has to stand beside a key for it to be allowed.
fn beside(path: &str, mut policy: Value) -> Value {
    if path.ends_with("background") && path != "background" {
        policy["background"] = json!({});
    }
    if path.starts_with("routes[0].session") {
        policy["routes"][0]["match"] = json!({ "path": "/agent/{agent}/run" });
    }
    if path.starts_with("defaults.session") {
        policy["routes"] = json!([{ "match": { "path": "/agent/{agent}/run" } }]);
    }
    if path.starts_with("upstreams.agents.tls") {
        policy["upstreams"]["agents"]["servers"] = json!(["https://agent"]);
        for (one, other) in [("cert", "key"), ("key", "cert")] {
            if path.ends_with(&format!("tls.{one}"))
                && policy.pointer(&format!("/upstreams/agents/tls/{one}")).is_some_and(|file| !file.is_null())
            {
                policy["upstreams"]["agents"]["tls"][other] = json!("other.pem");
            }
        }
    }
    for route in ["/routes/0", "/defaults"] {
        if let Some(limit) = policy.pointer_mut(&format!("{route}/rate_limits/0"))
            && path.contains("].queue")
        {
            limit["when_exceeded"] = json!("wait");
        }
    }
    policy
}

/// Something small of this form.
fn least(form: &Form) -> Value {
    match form {
        Form::Null => Value::Null,
        Form::Flag => json!(false),
        Form::Whole { least, .. } => json!(least),
        Form::Duration { least, .. } => json!(show_duration(*least)),
        Form::Size { least, .. } => json!(show_size(*least)),
        Form::Word(words) => json!(words[0]),
        Form::Text(text) => json!(text.example()),
        Form::Mapping(table) => {
            let needed = table.keys.iter().filter(|key| matches!(key.absent(), Absent::Required | Absent::Inherited));
            needed.map(|key| (key.name().to_owned(), least(&key.form()))).collect::<Map<_, _>>().into()
        }
        Form::Without(..) => json!({}),
        Form::OneKey(table) => json!({ table.keys[0].name(): least(&table.keys[0].form()) }),
        Form::Named { name, of, .. } => json!({ name.example(): least(of) }),
        Form::List { of, .. } => json!([least(of)]),
        Form::Either(forms) => least(&forms[0]),
    }
}

/// Values of this form, at its bounds where it has some.
fn good(form: &Form) -> Vec<Value> {
    match form {
        Form::Flag => vec![json!(true), json!(false)],
        Form::Whole { least, most } => vec![json!(least), json!(most)],
        Form::Duration { least, most } => vec![json!(show_duration(*least)), json!(show_duration(*most))],
        Form::Size { least, most } => {
            vec![json!(least), json!(show_size(*least)), json!(show_size(*most)), json!(most)]
        }
        Form::Word(words) => words.iter().map(|word| json!(word)).collect(),
        Form::OneKey(table) => table.keys.iter().map(|key| json!({ key.name(): least(&key.form()) })).collect(),
        Form::List { of, least: 0, .. } => vec![json!([]), json!([least(of)])],
        Form::Either(forms) => forms.iter().flat_map(good).collect(),
        _ => vec![least(form)],
    }
}

/// Values that are none of this form, one beyond its bounds where it has some.
fn bad(form: &Form) -> Vec<Value> {
    let mut bad = match form {
        Form::Null => return Vec::new(),
        Form::Flag => vec![json!("maybe"), json!(1)],
        Form::Whole { least, most } => {
            [least.checked_sub(1).map(|less| json!(less)), Some(json!(most + 1)), Some(json!("x"))]
                .into_iter()
                .flatten()
                .collect()
        }
        Form::Duration { least, most } => {
            let short = (!least.is_zero()).then(|| json!(show_duration(*least / 2)));
            [Some(json!(show_duration(*most + Duration::from_millis(1)))), Some(json!("30")), short]
                .into_iter()
                .flatten()
                .collect()
        }
        Form::Size { least, most } => vec![json!(least - 1), json!(most + 1), json!("64KB")],
        Form::Word(_) => vec![json!("nonsense")],
        Form::Text(_) => vec![json!("")],
        Form::Mapping(_) | Form::Without(..) => vec![json!("text"), json!({ "nonsense": 1 })],
        Form::OneKey(table) => {
            let all = table.keys.iter().map(|key| (key.name().to_owned(), least(&key.form()))).collect::<Map<_, _>>();
            let several = (all.len() > 1).then_some(Value::Object(all));
            [Some(json!({ "nonsense": 1 })), Some(json!({})), several].into_iter().flatten().collect()
        }
        Form::Named { of, least: fewest, most, .. } => {
            let many = |number: usize| (0..number).map(|n| (format!("n{n}"), least(of))).collect::<Map<_, _>>();
            let too_many = (*most < usize::MAX).then(|| Value::Object(many(*most + 1)));
            [too_many, (*fewest > 0).then(|| json!({})), Some(json!("text"))].into_iter().flatten().collect()
        }
        Form::List { of, least: fewest, most } => {
            let too_many = json!(vec![least(of); most + 1]);
            [Some(too_many), (*fewest > 0).then(|| json!([]))].into_iter().flatten().collect()
        }
        Form::Either(forms) => forms.iter().flat_map(bad).collect(),
    };
    // Nothing is a list of lists.
    bad.push(json!([["x"]]));
    bad
}

fn read(policy: &Value) -> Result<Policy, Vec<Problem>> {
    let compiled = compile("f", policy.to_string().as_bytes(), &|_| None);
    compiled.map(|compiled| compiled.policy).map_err(|problems| problems.into_vec())
}

#[test]
fn every_value_in_bounds_is_taken_and_every_other_one_refused() {
    let (mut taken, mut refused, mut wrong) = (0, 0, Vec::new());
    every_key(&mut |key| {
        for value in good(&key.form) {
            taken += 1;
            if let Err(problems) = read(&(key.policy)(Some(value.clone()))) {
                wrong.push(format!("{}: {value} is refused: {}", key.path, problems[0]));
            }
        }
        for value in bad(&key.form) {
            refused += 1;
            let told = |problem: &Problem| {
                let rest = problem.path.strip_prefix(key.path);
                // A list that is too long is told as a list, not by its items, which are equal here.
                let whole = value.as_array().is_some_and(|items| items.len() > 1);
                rest.is_some_and(|rest| rest.is_empty() || (!whole && rest.starts_with(['.', '['])))
            };
            if !read(&(key.policy)(Some(value.clone()))).is_err_and(|problems| problems.iter().any(told)) {
                let shown: String = value.to_string().chars().take(100).collect();
                wrong.push(format!("{}: {shown} is not refused", key.path));
            }
        }
    });
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), taken + refused, wrong.join("\n"));
    assert!(taken > 300 && refused > 300, "{taken} {refused}");
}

#[test]
fn what_holds_without_a_key_is_what_the_reference_says() {
    let (mut compared, mut wrong) = (0, Vec::new());
    every_key(&mut |key| {
        let Absent::Is(text) = key.absent else { return };
        compared += 1;
        let (said, left_out) = ((key.policy)(Some(literal(text))), (key.policy)(None));
        if read(&said).is_err() || read(&said) != read(&left_out) {
            wrong.push(format!("{}: {text}", key.path));
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 100, "{compared}");
}

#[test]
fn no_two_tables_have_one_name() {
    let mut tables: Vec<&'static Table> = Vec::new();
    fn all(form: &Form, tables: &mut Vec<&'static Table>) {
        match form {
            Form::Mapping(table) | Form::Without(table, _) | Form::OneKey(table) => {
                tables.push(table);
                table.keys.iter().for_each(|key| all(&key.form(), tables));
            }
            Form::List { of, .. } | Form::Named { of, .. } => all(of, tables),
            Form::Either(forms) => forms.iter().for_each(|form| all(form, tables)),
            _ => {}
        }
    }
    all(&Form::Mapping(keys()), &mut tables);
    for table in &tables {
        let same = tables.iter().filter(|other| other.name == table.name);
        assert!(same.clone().all(|other| other.names().eq(table.names())), "{}", table.name);
        assert_ne!(table.name, "defaults");
    }
}

#[test]
fn the_schema_knows_every_key_and_the_reference_tells_of_it() {
    let schema: Value = serde_json::from_str(&schema()).expect("JSON");
    let tables: String = sections().into_iter().map(|section| section.table).collect();
    every_key(&mut |key| {
        let name = key.path.rsplit('.').next().expect("a name");
        assert!(schema.to_string().contains(&format!("\"{name}\":")), "{}", key.path);
        // By itself, as a part of another, as what has parts, or as one of several places.
        let forms = [format!("`{name}`"), format!(".{name}`"), format!("`{name}."), format!("{{ {name}: ")];
        assert!(forms.iter().any(|form| tables.contains(form)), "{}", key.path);
    });
}

#[test]
fn large_numbers_are_grouped() {
    assert_eq!([0, 1000, 9999, 10_000, 1_000_000].map(grouped), ["0", "1000", "9999", "10,000", "1,000,000"]);
}
