//! Routes that no request can reach, because an earlier one takes all of theirs.

use crate::config::{Cursor, Fault};
use crate::policy::{Match, PathMatch, Route, Segment};

pub(super) fn check(routes: &[(Cursor<'_>, Route)]) {
    for (index, (cursor, route)) in routes.iter().enumerate() {
        let covers = |earlier: &&(Cursor<'_>, Route)| covers(&earlier.1.matching, &route.matching);
        if let Some((_, earlier)) = routes[..index].iter().find(covers) {
            let message = format!(
                "no request can reach the route `{}`: the earlier route `{}` takes all of its requests",
                route.name, earlier.name
            );
            cursor.inside("match").unwrap_or(*cursor).warning(Fault::new(message).hint("move it up"));
        }
    }
}

/// Whether every request of `later` is also one of `earlier`. May say no where the truth is yes.
fn covers(earlier: &Match, later: &Match) -> bool {
    covers_path(&earlier.path, &later.path)
        && among(&earlier.methods, &later.methods)
        && among(&earlier.hosts, &later.hosts)
        && earlier.headers.iter().all(|header| later.headers.contains(header))
}

/// For lists of which an empty one means any.
fn among<T: PartialEq>(earlier: &[T], later: &[T]) -> bool {
    earlier.is_empty() || (!later.is_empty() && later.iter().all(|item| earlier.contains(item)))
}

fn covers_path(earlier: &PathMatch, later: &PathMatch) -> bool {
    match (earlier, later) {
        (PathMatch::Any, _) => true,
        (PathMatch::Prefix(earlier), PathMatch::Prefix(later)) => {
            later.strip_prefix(earlier.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        (PathMatch::Prefix(earlier), PathMatch::Pattern(later)) => {
            let prefix: Vec<&str> = earlier.split('/').skip(1).collect();
            let literal = |(text, segment): (&&str, &Segment)| matches!(segment, Segment::Literal(own) if own == text);
            prefix.len() <= later.len() && prefix.iter().zip(later).all(literal)
        }
        (PathMatch::Pattern(earlier), PathMatch::Pattern(later)) => {
            earlier.len() == later.len()
                && earlier.iter().zip(later).all(|(earlier, later)| match earlier {
                    Segment::Literal(_) => earlier == later,
                    // A variable takes one segment that is not empty.
                    Segment::Variable(_) => !matches!(later, Segment::Literal(text) if text.is_empty()),
                })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::path::{pattern, prefix};
    use super::*;

    #[test]
    fn paths_cover_what_is_below_them() {
        let (api, apix) = (prefix("/api").expect("sound"), prefix("/apix").expect("sound"));
        let (run, any) = (pattern("/api/run").expect("sound"), pattern("/api/{x}").expect("sound"));
        assert!(covers_path(&api, &run) && covers_path(&any, &run) && covers_path(&PathMatch::Any, &api));
        assert!(!covers_path(&api, &apix) && !covers_path(&run, &any) && !covers_path(&run, &api));
        assert!(!covers_path(&any, &pattern("/api/").expect("sound")));
    }
}
