//! All TLS of a gateway, from one policy to the next.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};

use super::files::{Reader, Seen};
use super::live::{Live, Looked};
use super::outgoing::{Outgoing, Wanted};
use super::{Faulty, Unusable, incoming, outgoing};
use crate::config::Fault;
use crate::policy::{Listener, ListenerTls, NamedFile, Policy, Upstream};
use crate::sync::Mutex;

/// What is in force, by what it was made of.
#[derive(Debug)]
pub struct Store {
    /// Whose files' paths are relative to it.
    folder: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    incoming: HashMap<ListenerTls, Arc<Live<ServerConfig>>>,
    outgoing: HashMap<Wanted, Arc<Live<ClientConfig>>>,
}

/// What a policy wants, read and found usable, and not in force yet.
#[derive(Debug)]
pub struct Prepared {
    incoming: Vec<(ListenerTls, Read<ServerConfig>)>,
    outgoing: Vec<(Wanted, Read<ClientConfig>)>,
}

type Read<C> = (Arc<C>, Seen);

impl Store {
    /// For a policy file in `folder`.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), held: Mutex::default() }
    }

    /// Reads all files that `policy` names.
    ///
    /// # Errors
    /// Every file that cannot be used, at the place where `file`, the policy's, names it.
    pub fn prepare(&self, policy: &Policy, file: &str) -> Result<Prepared, Faulty> {
        let mut problems = Vec::new();
        let listeners = policy.listen.iter().filter_map(incoming_of);
        let upstreams = policy.upstreams.iter().filter_map(|upstream| outgoing_of(upstream));
        let prepared = Prepared {
            incoming: self.read_all(listeners, incoming::files, incoming::read, &mut problems),
            outgoing: self.read_all(upstreams, outgoing::files, outgoing::read, &mut problems),
        };
        if problems.is_empty() {
            return Ok(prepared);
        }
        let mut faulty = Faulty::default();
        for Unusable { file: named, why, unread } in problems {
            let problem = Fault::new(format!("`{}`: {why}", named.path.display())).at(file, named.at, &named.key);
            if unread { faulty.unread.push(problem) } else { faulty.bad.push(problem) }
        }
        Err(faulty)
    }

    fn read_all<D: Eq, C>(
        &self,
        definitions: impl Iterator<Item = D>,
        files: impl Fn(&D) -> Vec<&NamedFile>,
        read: impl Fn(&D, Reader<'_>) -> Result<C, Unusable>,
        problems: &mut Vec<Unusable>,
    ) -> Vec<(D, Read<C>)> {
        let mut all: Vec<(D, Read<C>)> = Vec::new();
        for definition in definitions {
            if all.iter().any(|(earlier, _)| *earlier == definition) {
                continue;
            }
            // Before they are read: whatever is written meanwhile is then found at the next look.
            let seen = Seen::in_files(&self.folder, &files(&definition));
            match read(&definition, self.reader()) {
                Ok(config) => all.push((definition, (Arc::new(config), seen))),
                Err(unusable) => problems.push(unusable),
            }
        }
        all
    }

    fn reader(&self) -> Reader<'_> {
        Reader { folder: &self.folder }
    }

    /// Puts what was prepared in force, and forgets what it does not name. `kept`: listeners that go on whatever a
    /// policy says.
    pub fn commit(&self, prepared: Prepared, kept: &Policy) {
        let mut held = self.held.lock();
        let kept: Vec<ListenerTls> = kept.listen.iter().filter_map(incoming_of).collect();
        renew(&mut held.incoming, prepared.incoming, |definition| kept.contains(definition));
        renew(&mut held.outgoing, prepared.outgoing, |_| false);
    }

    /// What a listener's connections begin with.
    #[must_use]
    pub fn incoming(&self, tls: &ListenerTls) -> Option<Arc<Live<ServerConfig>>> {
        self.held.lock().incoming.get(tls).cloned()
    }

    /// What connections to the `https` servers of `upstream` begin with.
    #[must_use]
    pub fn outgoing(&self, upstream: &Upstream) -> Option<Outgoing> {
        let wanted = outgoing_of(upstream)?;
        let live = self.held.lock().outgoing.get(&wanted).cloned()?;
        Some(Outgoing { live, server_name: wanted.tls.server_name })
    }

    /// Looks whether files have changed, and puts in force what can be used. Reads them, so it may block. Call it some
    /// times a second.
    pub fn look(&self) {
        let (incoming, outgoing) = {
            let held = self.held.lock();
            (pairs(&held.incoming), pairs(&held.outgoing))
        };
        for (definition, live) in &incoming {
            let seen = Seen::in_files(&self.folder, &incoming::files(definition));
            told(live.look(seen, || incoming::read(definition, self.reader())));
        }
        for (definition, live) in &outgoing {
            let seen = Seen::in_files(&self.folder, &outgoing::files(definition));
            told(live.look(seen, || outgoing::read(definition, self.reader())));
        }
    }
}

fn told(looked: Looked) {
    match looked {
        Looked::Same => {}
        Looked::Renewed => tracing::info!("certificates have changed; new connections get the new ones"),
        Looked::Unusable(Unusable { file, why, .. }) => {
            tracing::error!(key = %file.key, file = %file.path.display(), %why, "changed certificates cannot be used; those before stay in force");
        }
    }
}

fn incoming_of(listener: &Listener) -> Option<ListenerTls> {
    listener.tls.as_deref().cloned()
}

fn outgoing_of(upstream: &Upstream) -> Option<Wanted> {
    let https = upstream.servers.iter().any(|server| server.https);
    https.then(|| Wanted { tls: upstream.tls.clone(), http2: upstream.http2 })
}

fn pairs<D: Clone, C>(held: &HashMap<D, Arc<Live<C>>>) -> Vec<(D, Arc<Live<C>>)> {
    held.iter().map(|(definition, live)| (definition.clone(), live.clone())).collect()
}

fn renew<D: Eq + Hash, C>(
    held: &mut HashMap<D, Arc<Live<C>>>,
    prepared: Vec<(D, Read<C>)>,
    is_kept: impl Fn(&D) -> bool,
) {
    let mut before = std::mem::take(held);
    for (definition, (config, seen)) in prepared {
        let live = match before.remove(&definition) {
            Some(live) => {
                live.renew(config, seen);
                live
            }
            None => Arc::new(Live::new(config, seen)),
        };
        held.insert(definition, live);
    }
    before.retain(|definition, _| is_kept(definition));
    held.extend(before);
}
