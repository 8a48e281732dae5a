//! A configuration that is made of files, and made anew when they change.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Unusable;
use super::files::Seen;
use crate::sync::Mutex;

/// See the module.
#[derive(Debug)]
pub struct Live<C> {
    current: ArcSwap<C>,
    files: Mutex<Files>,
}

/// What is known of the files.
#[derive(Debug)]
struct Files {
    /// What they held when they were last tried.
    tried: Seen,
    /// What they held when they were last looked at.
    last: Seen,
}

/// What came of looking at the files again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// As before, or still being written.
    Same,
    Renewed,
    /// What is in force stays.
    Unusable(Unusable),
}

impl<C> Live<C> {
    pub(super) fn new(config: Arc<C>, seen: Seen) -> Self {
        Self { current: ArcSwap::new(config), files: Mutex::new(Files { tried: seen, last: seen }) }
    }

    /// What a connection is begun with now.
    #[must_use]
    pub fn current(&self) -> Arc<C> {
        self.current.load_full()
    }

    pub(super) fn renew(&self, config: Arc<C>, seen: Seen) {
        *self.files.lock() = Files { tried: seen, last: seen };
        self.current.store(config);
    }

    /// Reads the files anew if they are others than were tried last, and were the same at two looks: a certificate and
    /// its key are two files, and are not written in one moment.
    pub(super) fn look(&self, seen: Seen, read: impl FnOnce() -> Result<C, Unusable>) -> Looked {
        let mut files = self.files.lock();
        let settled = std::mem::replace(&mut files.last, seen) == seen;
        if seen == files.tried || !settled {
            return Looked::Same;
        }
        files.tried = seen;
        match read() {
            Ok(config) => {
                self.current.store(Arc::new(config));
                Looked::Renewed
            }
            Err(unusable) => Looked::Unusable(unusable),
        }
    }
}
