//! Requests of one session run one after another, in order of arrival; others do not wait for them.

mod anonymous;
mod assign;
mod key_sources;
mod keys_of_json;
mod lanes;
mod leaving;
mod order;
mod order_of_ten_thousand;
mod queue_full;
mod queue_timeout;
mod side_by_side;
mod strategies;
mod until_the_body_ends;
mod width;
mod within;

/// A policy with one route for everything, whose session has these keys.
fn sessions(keys: &str) -> String {
    format!("routes:\n  - {{ name: runs, match: {{ path_prefix: / }}, upstream: agents, session: {{ {keys} }} }}\n")
}

/// Sessions named by `X-Session-Id`, with more keys of the session behind a comma.
fn by_header(more: &str) -> String {
    sessions(&format!("key: [{{ header: X-Session-Id }}]{more}"))
}
