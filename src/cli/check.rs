//! `turnwise check`.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::{FAILED, OK};
use crate::config::Problem;
use crate::control;
use crate::policy::compile::Compiled;

/// Validates the file and prints what is wrong with it, or that nothing is. Returns the exit code.
pub(super) fn check(file: &Path, as_json: bool) -> u8 {
    let outcome = control::check(file);
    let mut out = std::io::stdout().lock();
    let printed = if as_json {
        let (valid, problems, warnings) = match &outcome {
            Ok(compiled) => (true, &[][..], &compiled.warnings[..]),
            Err(problems) => (false, problems.as_slice(), &[][..]),
        };
        let shown: Value = json!({ "valid": valid, "problems": problems, "warnings": warnings });
        writeln!(out, "{shown}")
    } else {
        match &outcome {
            Ok(compiled) => print_valid(&mut out, file, compiled),
            Err(problems) => print_lines(&mut out, "", problems.as_slice()),
        }
    };
    // A reader that closed the pipe has read enough.
    drop(printed);
    if outcome.is_ok() { OK } else { FAILED }
}

fn print_valid(out: &mut impl Write, file: &Path, compiled: &Compiled) -> std::io::Result<()> {
    print_lines(out, "warning: ", &compiled.warnings)?;
    let policy = &compiled.policy;
    let (routes, upstreams) = (policy.routes.len(), policy.upstreams.len());
    writeln!(out, "{}: valid: {} and {}", file.display(), count(routes, "route"), count(upstreams, "upstream"))
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn print_lines(out: &mut impl Write, kind: &str, problems: &[Problem]) -> std::io::Result<()> {
    problems.iter().try_for_each(|problem| writeln!(out, "{kind}{problem}"))
}
