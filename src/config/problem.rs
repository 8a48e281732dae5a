use std::fmt;

use serde::Serialize;

use super::Position;

/// One thing that is wrong in one place of a policy file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// As in `routes[2].match.path`; empty for the file as a whole.
    pub path: String,
    pub message: String,
    /// What to write instead, when that can be guessed.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a policy file, in the order of the file. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Sorts by position and drops what is said twice (a value in `defaults` is read once for every route).
    #[must_use]
    pub fn new(mut problems: Vec<Problem>) -> Self {
        sort(&mut problems);
        Self(problems)
    }

    /// A problem of the file as a whole.
    #[must_use]
    pub fn of_file(file: &str, message: impl Into<String>) -> Self {
        Self(vec![Fault::new(message).at(file, Position::START, "")])
    }

    #[must_use]
    pub fn as_slice(&self) -> &[Problem] {
        &self.0
    }

    #[must_use]
    pub fn into_vec(self) -> Vec<Problem> {
        self.0
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

pub(super) fn sort(problems: &mut Vec<Problem>) {
    problems.sort_by(|a, b| {
        (a.line, a.column, &a.path, &a.message, &a.hint).cmp(&(b.line, b.column, &b.path, &b.message, &b.hint))
    });
    problems.dedup();
}

/// What is wrong with a value, before it is known where the value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub message: String,
    pub hint: Option<String>,
}

impl Fault {
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn at(self, file: &str, at: Position, path: &str) -> Problem {
        Problem {
            file: file.to_owned(),
            line: at.line,
            column: at.column,
            path: path.to_owned(),
            message: self.message,
            hint: self.hint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: usize) -> Problem {
        Fault::new("unknown key").hint("did you mean `routes`?").at(
            "gateway.yaml",
            Position { line, column: 3 },
            "rutes",
        )
    }

    #[test]
    fn a_problem_is_one_line_with_file_position_path_and_hint() {
        assert_eq!(problem(2).to_string(), "gateway.yaml:2:3: rutes: unknown key; did you mean `routes`?");
    }

    #[test]
    fn problems_come_in_the_order_of_the_file_and_each_once() {
        let problems = Problems::new(vec![problem(9), problem(2), problem(9)]);
        let lines: Vec<usize> = problems.as_slice().iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [2, 9]);
        assert_eq!(problems.to_string().lines().count(), 2);
    }

    #[test]
    fn json_has_the_promised_fields() {
        let json = serde_json::to_value(problem(2)).expect("a problem is plain data");
        let expected = serde_json::json!({"file": "gateway.yaml", "line": 2, "column": 3, "path": "rutes",
            "message": "unknown key", "hint": "did you mean `routes`?"});
        assert_eq!(json, expected);
    }
}
