//! `defaults` under each route: mappings are merged key by key, everything else of the route replaces.

use std::borrow::Cow;

use crate::config::{Entry, Kind, Node};

/// The route with what it leaves to `defaults`. Values keep the position and path of where they were written.
pub(super) fn under<'a>(route: &'a Node, defaults: Option<&Node>) -> Cow<'a, Node> {
    match defaults {
        Some(defaults) => Cow::Owned(merged(route, defaults)),
        None => Cow::Borrowed(route),
    }
}

fn merged(over: &Node, under: &Node) -> Node {
    let (Kind::Mapping(own), Kind::Mapping(inherited)) = (&over.kind, &under.kind) else {
        return over.clone();
    };
    let mut entries: Vec<Entry> = own
        .iter()
        .map(|entry| match under.get(&entry.key) {
            Some(below) => Entry { key: entry.key.clone(), node: merged(&entry.node, below) },
            None => entry.clone(),
        })
        .collect();
    entries.extend(inherited.iter().filter(|entry| over.get(&entry.key).is_none()).cloned());
    Node { kind: Kind::Mapping(entries), ..over.clone() }
}

/// Whether a value was written in `defaults`.
pub(super) fn inherited(node: &Node) -> bool {
    node.path.strip_prefix("defaults").is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}
