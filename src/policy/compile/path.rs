//! `path` and `path_prefix` of a match.
//!
//! A request's path is matched with unreserved escapes decoded and repeated slashes merged, so a pattern is brought
//! into the same form here, and one that no such path can have is refused.

use crate::config::{Fault, quoted};
use crate::policy::{PathMatch, Segment};

const LONGEST: usize = 1024;

/// `/a/{variable}/b`. The segments are what stands between the slashes after the first one, so that a slash at the end
/// makes an empty literal, and `/` is one empty literal.
pub(super) fn pattern(text: &str) -> Result<PathMatch, Fault> {
    let path = checked(text)?;
    let mut segments: Vec<Segment> = Vec::new();
    for part in path.split('/') {
        let segment = segment(part)?;
        if let Segment::Variable(name) = &segment
            && segments.contains(&segment)
        {
            return Err(Fault::new(format!("the variable `{{{name}}}` stands here twice")));
        }
        segments.push(segment);
    }
    Ok(PathMatch::Pattern(segments))
}

/// `/api`, for whole segments; `/` is any path.
pub(super) fn prefix(text: &str) -> Result<PathMatch, Fault> {
    let path = checked(text)?;
    if path.contains(['{', '}']) {
        return Err(Fault::new("a prefix has no variables").hint("write `path` for a pattern"));
    }
    if path.split('/').any(is_star) {
        let before = path.split('*').next().unwrap_or_default().trim_end_matches('/');
        return Err(Fault::new("a prefix needs no `*`").hint(format!("did you mean `/{}`?", quoted(before))));
    }
    match path.strip_suffix('/').unwrap_or(&path) {
        "" => Ok(PathMatch::Any),
        path => Ok(PathMatch::Prefix(format!("/{}", normal(path)?))),
    }
}

/// Without its first slash.
fn checked(text: &str) -> Result<String, Fault> {
    if text.len() > LONGEST {
        return Err(Fault::new(format!("must be at most {LONGEST} characters")));
    }
    let Some(path) = text.strip_prefix('/') else {
        let fault = Fault::new(format!("must begin with `/`, not be `{}`", quoted(text)));
        return Err(fault.hint(format!("did you mean `/{}`?", quoted(text))));
    };
    if path.contains(['?', '#']) {
        return Err(Fault::new("must be a path without query or fragment"));
    }
    if path.starts_with('/') || path.contains("//") {
        return Err(Fault::new("must not have empty segments: repeated slashes are merged before paths are compared"));
    }
    Ok(path.to_owned())
}

fn segment(part: &str) -> Result<Segment, Fault> {
    if let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.len() > 64 || !name.chars().all(word) {
            let message = format!("`{{{}}}` is no variable: a name has 1 to 64 letters, digits and `_`", quoted(name));
            return Err(Fault::new(message));
        }
        return Ok(Segment::Variable(name.to_owned()));
    }
    if part.contains(['{', '}']) {
        return Err(Fault::new(format!(
            "`{}`: a variable is a whole segment, as in `/users/{{id}}/tasks`",
            quoted(part)
        )));
    }
    if is_star(part) {
        let fault = Fault::new(format!("`{part}` is no pattern of paths"));
        return Err(fault.hint("write `{name}` for one segment, or `path_prefix` for everything below"));
    }
    normal(part).map(Segment::Literal)
}

fn is_star(part: &str) -> bool {
    matches!(part, "*" | "**")
}

/// Unreserved escapes decoded (RFC 3986 section 6.2.2.2), the others in upper case; no dot segments.
fn normal(part: &str) -> Result<String, Fault> {
    let mut done = String::with_capacity(part.len());
    let mut rest = part.chars();
    while let Some(c) = rest.next() {
        match c {
            '%' => {
                let digits: String = rest.by_ref().take(2).collect();
                let both = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                let byte = u8::from_str_radix(&digits, 16).ok().filter(|_| both);
                let byte = byte.ok_or_else(|| Fault::new("`%` must be followed by two hexadecimal digits"))?;
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    done.push(char::from(byte));
                } else {
                    done.push_str(&format!("%{byte:02X}"));
                }
            }
            // RFC 3986 section 3.3: what a path may hold unescaped.
            c if c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/".contains(c) => done.push(c),
            c => {
                let escaped: String = c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")).collect();
                let fault = Fault::new(format!("`{}` never stands in a path as it is", c.escape_debug()));
                return Err(fault.hint(format!("write `{escaped}`")));
            }
        }
    }
    if done.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(Fault::new("must not have `.` or `..` segments: requests with them are refused"));
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Segment {
        Segment::Literal(text.to_owned())
    }

    #[test]
    fn a_pattern_has_literals_and_variables() {
        let expected = vec![literal("agent"), Segment::Variable("agent".to_owned()), literal("run")];
        assert_eq!(pattern("/agent/{agent}/run"), Ok(PathMatch::Pattern(expected)));
        assert_eq!(pattern("/"), Ok(PathMatch::Pattern(vec![literal("")])));
        assert_eq!(pattern("/a/"), Ok(PathMatch::Pattern(vec![literal("a"), literal("")])));
    }

    #[test]
    fn escapes_take_the_form_that_requests_are_compared_in() {
        assert_eq!(pattern("/%7e%61%2f"), Ok(PathMatch::Pattern(vec![literal("~a%2F")])));
        assert_eq!(prefix("/%41pi/"), Ok(PathMatch::Prefix("/Api".to_owned())));
    }

    #[test]
    fn patterns_that_nothing_could_match_are_refused() {
        for text in
            ["", "a", "//", "/a//b", "/a?b", "/a#b", "/.", "/a/../b", "/%2e%2E", "/é", "/a b", "/%4", "/%+1", "/\""]
        {
            pattern(text).expect_err(text);
            prefix(text).expect_err(text);
        }
    }

    #[test]
    fn variables_are_whole_segments_and_unique() {
        for text in ["/a{b}", "/{b}c", "/{a}/{a}", "/{}", "/{a b}", "/}", "/*", "/a/**"] {
            pattern(text).expect_err(text);
        }
        pattern("/{a}/{b}").expect("two variables");
    }

    #[test]
    fn a_prefix_is_without_slash_at_its_end() {
        assert_eq!(prefix("/api/"), Ok(PathMatch::Prefix("/api".to_owned())));
        assert_eq!(prefix("/"), Ok(PathMatch::Any));
        assert_eq!(prefix("/api/*").expect_err("a star").hint.as_deref(), Some("did you mean `/api`?"));
        prefix("/api/{x}").expect_err("a variable");
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "/?[/{}%.*a-cA-F0-9é ]{0,30}") {
            let _ = (pattern(&text), prefix(&text));
        }
    }
}
