use super::Fault;
use super::quoted;

/// A scalar after values of the environment were put in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expanded {
    pub text: String,
    /// Whether there was anything to put in.
    pub replaced: bool,
}

/// Puts values of the environment in for `${VAR}` and `${VAR:-default}`; `$${` writes a literal `${`.
///
/// As in a shell, the default of `:-` also stands in for a variable that is set to nothing. What is put in is not
/// looked at again.
///
/// # Errors
///
/// A variable without value and default, or a `${` that is neither form.
pub(super) fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, Fault> {
    let mut done = String::with_capacity(text.len());
    let mut replaced = false;
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let before = &rest[..start];
        let inside = &rest[start + 2..];
        if let Some(literal) = before.strip_suffix('$') {
            done.push_str(literal);
            done.push_str("${");
            rest = inside;
            continue;
        }
        done.push_str(before);
        let Some(end) = inside.find('}') else {
            return Err(Fault::new("`${` is never closed").hint("write `$${` for a literal `${`"));
        };
        done.push_str(&value(&inside[..end], env)?);
        replaced = true;
        rest = &inside[end + 1..];
    }
    done.push_str(rest);
    Ok(Expanded { text: done, replaced })
}

/// The value of what stands between `${` and `}`.
fn value(inside: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Fault> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(word) || name.starts_with(|c: char| c.is_ascii_digit()) {
        let fault = Fault::new(format!("`${{{}}}` names no environment variable", quoted(inside)));
        return Err(fault.hint("write `${VAR}` or `${VAR:-default}`, or `$${` for a literal `${`"));
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(Fault::new(format!("the default of `${{{name}:-…}}` cannot hold another `${{`")));
    }
    match (env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Fault::new(format!("the environment variable `{}` is not set", quoted(name)))
            .hint(format!("set it, or write `${{{}:-default}}`", quoted(name)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("agents".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICKY" => Some("${HOST}".to_owned()),
            _ => None,
        }
    }

    fn expanded(text: &str) -> String {
        expand(text, &env).expect("the text is sound").text
    }

    #[test]
    fn variables_and_defaults_are_put_in() {
        assert_eq!(expanded("http://${HOST}:${PORT:-8000}"), "http://agents:8000");
        assert_eq!(expanded("${EMPTY:-x}${EMPTY}${NONE:-}"), "x");
    }

    #[test]
    fn what_was_put_in_is_not_looked_at_again() {
        assert_eq!(expanded("${TRICKY}"), "${HOST}");
    }

    #[test]
    fn a_doubled_dollar_is_literal() {
        let literal = expand("$${HOST} $5 $$", &env).expect("the text is sound");
        assert_eq!(literal, Expanded { text: "${HOST} $5 $$".to_owned(), replaced: false });
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let fault = expand("${NONE}", &env).expect_err("NONE is not set");
        assert_eq!(fault.message, "the environment variable `NONE` is not set");
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        for text in ["${", "${}", "${A B}", "${1A}", "${A:x}", "${A:-${HOST}}", "${A-b}"] {
            expand(text, &env).expect_err(text);
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[$\\{\\}:\\-A-Zé ]{0,40}") {
            let _ = expand(&text, &env);
        }
    }
}
