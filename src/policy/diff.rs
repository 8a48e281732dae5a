//! What a new policy changes that a running gateway cannot follow.

use super::Policy;

/// Keys that differ and need a restart; the rest of the new policy applies all the same.
#[must_use]
pub fn needs_restart(old: &Policy, new: &Policy) -> Vec<String> {
    let changes = [
        ("listen", old.listen != new.listen),
        ("admin.listen", old.admin.listen != new.admin.listen),
        ("server.workers", old.server.workers != new.server.workers),
    ];
    changes.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key.to_owned()).collect()
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
    fn only_addresses_and_workers_need_a_restart() {
        let old = policy("server: {workers: 1}");
        let new = policy("server: {workers: 2}\nlisten: ':81'\nadmin: {listen: '127.0.0.1:82'}");
        assert_eq!(needs_restart(&old, &new), ["listen", "admin.listen", "server.workers"]);
        assert!(needs_restart(&old, &policy("server: {workers: 1, drain_delay: 1s}\nlimits: {queue: 1}")).is_empty());
    }
}
