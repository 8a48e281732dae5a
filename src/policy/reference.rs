//! What is told of the keys of the policy: to people, as Markdown, and to editors, as a JSON schema.
//!
//! Both are made from the tables by which the compiler reads a file, and know no key by themselves: what they say of names,
//! bounds, choices and defaults is what holds.

mod markdown;
mod schema;

pub use markdown::{Section, markdown, sections};
pub use schema::schema;

use crate::config::{Form, Table, show_duration, show_size};

/// The mapping that a value may be, alone, in a list, or beside other forms.
fn mapping_in(form: &Form) -> Option<&'static Table> {
    match form {
        Form::Mapping(table) => Some(table),
        Form::List { of, .. } | Form::Named { of, .. } => mapping_in(of),
        Form::Either(forms) => forms.iter().find_map(mapping_in),
        _ => None,
    }
}

/// Which values there are, in words.
fn values(form: &Form) -> String {
    match form {
        Form::Null => "`null`".to_owned(),
        Form::Flag => "`true`, `false`".to_owned(),
        Form::Whole { least, most } => format!("{} to {}", grouped(*least), grouped(*most)),
        Form::Duration { least, most } => format!("{} to {}", show_duration(*least), show_duration(*most)),
        Form::Size { least, most } => format!("{} to {}", show_size(*least), show_size(*most)),
        Form::Word(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Form::Text(text) => text.what.to_owned(),
        Form::Mapping(_) | Form::Without(..) => "a mapping".to_owned(),
        Form::OneKey(table) => {
            let forms = table.keys.iter().map(|key| match key.form() {
                Form::Text(text) => format!("`{{ {}: {} }}`", key.name(), text.example()),
                _ => format!("`{{ {}: … }}`", key.name()),
            });
            forms.collect::<Vec<_>>().join(", ")
        }
        Form::Named { name, of, least, most } => {
            let number = if *most == usize::MAX { String::new() } else { format!("{} of ", number(*least, *most)) };
            format!("{number}`{}: …`, each {}", name.example(), values(of))
        }
        Form::List { of, least, most } => format!("a list of {}: {}", number(*least, *most), values(of)),
        Form::Either(forms) => either(forms),
    }
}

fn either(forms: &[Form]) -> String {
    let all = |forms: &[Form]| forms.iter().map(values).collect::<Vec<_>>().join(", ");
    if let [alone @ .., Form::List { of, least, most }] = forms
        && values(of) == all(alone)
    {
        return format!("{}, or a list of {} such", all(alone), number(*least, *most));
    }
    all(forms)
}

fn number(least: usize, most: usize) -> String {
    let grouped = |number: usize| grouped(u32::try_from(number).unwrap_or(u32::MAX));
    if least == 0 { format!("at most {}", grouped(most)) } else { format!("{} to {}", grouped(least), grouped(most)) }
}

/// With a comma between thousands, from five digits on.
fn grouped(number: u32) -> String {
    let digits = number.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let first = digits.len() % 3;
    let (first, rest) = digits.split_at(first);
    let mut parts: Vec<&str> = Vec::from_iter((!first.is_empty()).then_some(first));
    parts.extend((0..rest.len()).step_by(3).map(|start| &rest[start..start + 3]));
    parts.join(",")
}

#[cfg(test)]
mod tests;
