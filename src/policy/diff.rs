//! What a new policy changes that a running gateway cannot follow.

use std::path::Path;

use super::Policy;

/// Keys that differ and need a restart; the rest of the new policy applies all the same. `store`: that of the jobs, if there
/// is one by now.
#[must_use]
pub fn needs_restart(first: &Policy, new: &Policy, store: Option<&Path>) -> Vec<String> {
    let in_force = in_force(first, new, store);
    let changes = [
        ("listen", in_force.listen != new.listen),
        ("admin.listen", in_force.admin.listen != new.admin.listen),
        ("server.workers", in_force.server.workers != new.server.workers),
        ("background.store", in_force.background != new.background),
    ];
    changes.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key.to_owned()).collect()
}

/// What of `new` can be in force in a gateway that began with `first`.
#[must_use]
pub fn in_force(first: &Policy, new: &Policy, store: Option<&Path>) -> Policy {
    let mut policy = new.clone();
    policy.listen.clone_from(&first.listen);
    policy.admin.listen = first.admin.listen;
    policy.server.workers = first.server.workers;
    if let (Some(queue), Some(store)) = (&mut policy.background, store) {
        queue.store = store.to_owned();
    }
    policy
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
        assert_eq!(needs_restart(&old, &new, None), ["listen", "admin.listen", "server.workers"]);
        let live = policy("server: {workers: 1, drain_delay: 1s}\nlimits: {queue: 1}\nbackground: {workers: 2}");
        assert!(needs_restart(&old, &live, None).is_empty());
        let (here, elsewhere) = (policy("background: {workers: 9}"), policy("background: {store: elsewhere}"));
        let store = Some(Path::new("turnwise-jobs"));
        assert!(needs_restart(&here, &here, store).is_empty());
        assert!(needs_restart(&here, &old, store).iter().all(|key| key == "server.workers"), "the queue goes");
        assert_eq!(needs_restart(&here, &elsewhere, store), ["background.store"]);
        let shown = in_force(&old, &new, None);
        assert_eq!((&shown.listen, shown.server.workers), (&old.listen, 1));
    }
}
