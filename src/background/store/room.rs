//! How much the disk of a store still takes.
//!
//! A store that has used up its disk cannot even write down that a job has ended. So requests and answers are written as
//! long as there is room for what must be written: requests leave room for the answers, answers for the ends of jobs.
//! What is free inside the store's own file counts as well, by an estimate: pages are up to twice as long as what is in
//! them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{FILE, Place};
use crate::sync::Mutex;
use crate::time;

/// The disk is not asked more often.
const LOOKED_AT: Duration = Duration::from_millis(100);
/// A tenth of the disk is kept free of requests, but no more than this for its own sake.
const MOST_KEPT_FREE: u64 = 64 << 20;

/// What a disk has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What is free.
    pub free: u64,
    /// All of it, whoever has it.
    pub total: u64,
    /// What the store's file has of it.
    pub own: u64,
}

impl Space {
    /// `None`: nobody knows, or there is no end to it.
    fn of(folder: &Path) -> Option<Self> {
        let disk = rustix::fs::statvfs(folder).ok().filter(|disk| disk.f_blocks > 0)?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        // A file may have holes: its length says nothing.
        let own = std::fs::metadata(folder.join(FILE)).map_or(0, |file| file.blocks() * 512);
        Some(Self { free: bytes(disk.f_bavail), total: bytes(disk.f_blocks), own })
    }

    /// What requests leave free, where answers of so many bytes may be on their way.
    #[must_use]
    pub fn kept_for_answers(&self, answers: u64) -> u64 {
        let own = (self.total / 10).min(MOST_KEPT_FREE);
        own.max(answers.saturating_mul(2).min(self.total / 4))
    }

    /// What answers leave free.
    #[must_use]
    pub fn kept_for_ends(&self) -> u64 {
        self.kept_for_answers(0) / 4
    }

    /// How many bytes the store may hold once `length` more are in it, if `kept` is to stay free. `None`: any number.
    #[must_use]
    pub fn bound(&self, length: u64, kept: u64) -> Option<u64> {
        let is_ample = self.free >= kept.saturating_add(length.saturating_mul(2));
        (!is_ample).then(|| self.free.saturating_add(self.own).saturating_sub(kept) / 2)
    }
}

/// The same, looked at now and then.
#[derive(Debug, Default)]
pub(super) struct Room(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    space: Option<Space>,
    /// Bytes that are to be written, and those of them that the disk may not have had when it was looked at.
    coming: u64,
    since: u64,
}

impl Room {
    pub(super) fn space(&self, place: &Place) -> Option<Space> {
        let mut seen = self.0.lock();
        let now = time::now();
        if seen.at.is_none_or(|at| now.saturating_duration_since(at) >= LOOKED_AT) {
            seen.at = Some(now);
            seen.since = seen.coming;
            seen.space = match place {
                Place::Folder(folder) => Space::of(folder),
                Place::Memory => None,
                #[cfg(test)]
                Place::Disk(disk) => disk.space(),
            };
        }
        let taken = seen.since.saturating_mul(2);
        seen.space.map(|space| Space { free: space.free.saturating_sub(taken), ..space })
    }

    /// So much is to be written.
    pub(super) fn comes(&self, bytes: u64) {
        let mut seen = self.0.lock();
        seen.coming += bytes;
        seen.since += bytes;
    }

    /// It has been, or never will be.
    pub(super) fn came(&self, bytes: u64) {
        let mut seen = self.0.lock();
        seen.coming = seen.coming.saturating_sub(bytes);
    }
}
