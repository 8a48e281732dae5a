//! What routes of one lane must agree on.

use std::collections::HashMap;

use crate::config::{Cursor, Fault};
use crate::policy::{Route, Session};

/// Tells of every route whose session disagrees with an earlier one of the same lane.
pub(super) fn check(routes: &[(Cursor<'_>, Route)]) {
    let mut lanes: HashMap<&str, (&str, &Session)> = HashMap::new();
    for (cursor, route) in routes {
        let Some(session) = &route.session else { continue };
        let Some((first, earlier)) = lanes.get(&*session.lane) else {
            lanes.insert(&session.lane, (&route.name, session));
            continue;
        };
        let lane = &session.lane;
        if earlier.concurrency != session.concurrency {
            let message = format!(
                "routes that share the lane `{lane}` must agree on its concurrency: here {}, but {} in route `{first}`",
                session.concurrency, earlier.concurrency
            );
            at(*cursor, "concurrency", |place| place.problem(Fault::new(message)));
        }
        if earlier.within.len() != session.within.len() {
            let message = format!(
                "requests of this route and of `{first}` never meet in the lane `{lane}`: \
                 their keys are made of different parts"
            );
            at(*cursor, "within", |place| place.warning(Fault::new(message).hint("give both the same `within`")));
        }
    }
}

/// At a key of the route's session, or as near as there is one.
fn at(route: Cursor<'_>, key: &str, tell: impl FnOnce(Cursor<'_>)) {
    let session = route.inside("session").unwrap_or(route);
    tell(session.inside(key).unwrap_or(session));
}
