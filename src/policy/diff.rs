//! What a new policy changes that a running gateway cannot follow.

use super::Policy;

/// Keys that differ and need a restart; the rest of the new policy applies all the same.
#[must_use]
pub fn needs_restart(old: &Policy, new: &Policy) -> Vec<String> {
    let changes = [
        ("listen", old.listen != new.listen),
        ("admin.listen", old.admin.listen != new.admin.listen),
        ("server.workers", old.server.workers != new.server.workers),
        ("background", old.background.is_some() != new.background.is_some()),
        ("background.store", store_moves(old, new)),
    ];
    changes.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key.to_owned()).collect()
}

/// Whether both have a durable queue, in different places.
fn store_moves(old: &Policy, new: &Policy) -> bool {
    matches!((&old.background, &new.background), (Some(old), Some(new)) if old.store != new.store)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::compile::compile;

    fn policy(head: &str) -> Policy {
        let text = format!("{head}\nupstreams: {{a: {{servers: ['http://a']}}}}");
        compile("f", text.as_bytes(), &|_| None).expect("the policy holds").policy
    }

    #[test]
    fn only_addresses_workers_and_the_store_need_a_restart() {
        let old = policy("server: {workers: 1}");
        let new = policy("server: {workers: 2}\nlisten: ':81'\nadmin: {listen: '127.0.0.1:82'}");
        assert_eq!(needs_restart(&old, &new), ["listen", "admin.listen", "server.workers"]);
        assert!(needs_restart(&old, &policy("server: {workers: 1, drain_delay: 1s}\nlimits: {queue: 1}")).is_empty());
        let with = policy("background: {workers: 2}");
        assert_eq!(needs_restart(&old, &policy("server: {workers: 1}\nbackground: {}")), ["background"]);
        assert_eq!(needs_restart(&with, &policy("background: {store: elsewhere}")), ["background.store"]);
        let live =
            "background: {workers: 9, queue: 9, attempts: 9, retry_delay: 9s, keep_results: 9s, max_result: 9KiB}";
        assert!(needs_restart(&with, &policy(live)).is_empty());
    }
}
