//! `background`: the durable queue, and which routes need it.

use std::path::PathBuf;
use std::time::Duration;

use super::SOME_TIME;
use super::limits::MAX_BYTES;
use crate::config::{Cursor, Fault, Fields};
use crate::policy::{Background, Later, Route};

const BACKGROUND: [&str; 8] =
    ["store", "store_bytes", "workers", "queue", "attempts", "retry_delay", "keep_results", "max_result"];

/// Jobs at once and in all are kept in memory as well, so there are fewer of them than of other things.
const MAX_WORKERS: u32 = 1000;
const MAX_QUEUE: u32 = 100_000;
const MAX_ATTEMPTS: u32 = 100;
/// An answer is in memory as a whole when it is kept, and when it is given to its client.
const MAX_RESULT: u64 = 64 << 20;

/// `None` without the block.
pub(super) fn background(fields: Fields<'_>) -> Option<Background> {
    fields.get("background").filter(|cursor| !cursor.is_null())?;
    let fields = fields.section("background", &BACKGROUND);
    let count = |key, default, most| fields.or(key, default, |cursor| cursor.integer(1..=most));
    let store = fields.or("store", "turnwise-jobs", Cursor::string);
    Some(Background {
        store: PathBuf::from(store),
        store_bytes: fields.or("store_bytes", 1 << 30, |cursor| cursor.size(1 << 20..=MAX_BYTES)),
        workers: count("workers", 5, MAX_WORKERS) as usize,
        queue: count("queue", 1000, MAX_QUEUE) as usize,
        attempts: count("attempts", 3, MAX_ATTEMPTS),
        retry_delay: fields.or("retry_delay", Duration::from_secs(5), |cursor| cursor.duration(SOME_TIME)),
        keep_results: fields.or("keep_results", Duration::from_secs(3600), |cursor| cursor.duration(SOME_TIME)),
        max_result: fields.or("max_result", 1 << 20, |cursor| cursor.size(1..=MAX_RESULT)),
    })
}

/// Tells of every route that answers later without a queue to do it with.
pub(super) fn check(fields: Fields<'_>, routes: &[(Cursor<'_>, Route)]) {
    let block = fields.get("background").filter(|cursor| !cursor.is_null());
    for (cursor, route) in routes.iter().filter(|(_, route)| route.background != Later::Off) {
        if block.is_none() {
            let fault = Fault::new(format!("`{}` needs the durable queue", route.background.word()));
            let place = cursor.inside("background").unwrap_or(*cursor);
            place.problem(fault.hint("add the block `background: {}` to the file"));
        }
    }
}
