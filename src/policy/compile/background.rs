//! `background`: the durable queue, and which routes need it.

use std::path::PathBuf;

use super::limits::MAX_BYTES;
use super::{ANYTHING, SOME_TIME, file};
use crate::config::key::Is;
use crate::config::{Cursor, Fault, Fields, Form, Key, Size, Strict, Text, Time, Whole, key};
use crate::policy::{Background, Later};

/// Jobs at once and in all are kept in memory as well, so there are fewer of them than of other things.
const MAX_WORKERS: u32 = 1000;
const MAX_QUEUE: u32 = 100_000;
const MAX_ATTEMPTS: u32 = 100;
/// An answer is in memory as a whole when it is kept, and when it is given to its client.
const MAX_RESULT: u64 = 64 << 20;

crate::config::keys! {
    mod queue = "background" {
        STORE: Key<Strict<PathBuf>> = key("store", FOLDER, Is("turnwise-jobs"),
            "its folder, beside the policy file unless absolute. Needs a restart");
        STORE_BYTES: Key<Size> = key("store_bytes", Size(1 << 20..=MAX_BYTES), Is("1GiB"),
            "requests and answers in it, above which no further job is taken");
        WORKERS: Key<Whole> = key("workers", Whole(1..=MAX_WORKERS), Is("5"), "jobs at once");
        QUEUE: Key<Whole> = key("queue", Whole(1..=MAX_QUEUE), Is("1000"),
            "jobs that have not ended; then 503 `job_queue_full`");
        ATTEMPTS: Key<Whole> = key("attempts", Whole(1..=MAX_ATTEMPTS), Is("3"), "tries in all, the first included");
        RETRY_DELAY: Key<Time> = key("retry_delay", SOME_TIME, Is("5s"),
            "before the second try; doubled each time, up to 1 h, with up to a quarter more");
        KEEP_RESULTS: Key<Time> = key("keep_results", SOME_TIME, Is("1h"),
            "how long ended jobs and their answers are kept");
        MAX_RESULT: Key<Size> = key("max_result", Size(1..=super::MAX_RESULT), Is("1MiB"),
            "the longest answer that is kept; a longer one fails its job");
    }
}

const FOLDER: Strict<PathBuf> =
    Strict(&Text { what: "a path such as `/var/lib/jobs`", pattern: ANYTHING }, |text| Ok(PathBuf::from(text)));

pub(super) fn form() -> Form {
    Form::Mapping(queue::KEYS)
}

/// `None` without the block.
pub(super) fn background(fields: Fields<'_>) -> Option<Background> {
    let cursor = fields.present(&file::BACKGROUND)?;
    let fields = cursor.fields(queue::KEYS).unwrap_or(Fields::absent(cursor, queue::KEYS));
    Some(Background {
        store: fields.read(&queue::STORE),
        store_bytes: fields.read(&queue::STORE_BYTES),
        workers: fields.read(&queue::WORKERS) as usize,
        queue: fields.read(&queue::QUEUE) as usize,
        attempts: fields.read(&queue::ATTEMPTS),
        retry_delay: fields.read(&queue::RETRY_DELAY),
        keep_results: fields.read(&queue::KEEP_RESULTS),
        max_result: fields.read(&queue::MAX_RESULT),
    })
}

/// Tells of every route that answers later without a queue to do it with. With each goes the place that says so.
pub(super) fn check<'a>(fields: Fields<'_>, routes: impl Iterator<Item = (Cursor<'a>, Later)>) {
    if fields.present(&file::BACKGROUND).is_some() {
        return;
    }
    for (place, later) in routes.filter(|(_, later)| *later != Later::Off) {
        let fault = Fault::new(format!("`{}` needs the durable queue", later.word()));
        place.problem(fault.hint("add the block `background: {}` to the file"));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use crate::policy::compile::tests::{SMALLEST, policy, says, with_route};

    #[test]
    fn the_durable_queue_has_every_default_and_bounds() {
        let of = |text: &str| policy(&format!("{SMALLEST}\nbackground: {text}")).background;
        assert_eq!(policy(SMALLEST).background, None);
        assert_eq!(of("null"), None);
        let queue = of("{}").expect("a queue");
        assert_eq!((queue.store.as_path(), queue.store_bytes), (Path::new("turnwise-jobs"), 1 << 30));
        assert_eq!((queue.workers, queue.queue, queue.attempts, queue.max_result), (5, 1000, 3, 1 << 20));
        assert_eq!((queue.retry_delay, queue.keep_results), (Duration::from_secs(5), Duration::from_secs(3600)));
        for key in ["workers", "queue", "attempts", "max_result", "store_bytes"] {
            says(&format!("{SMALLEST}\nbackground: {{{key}: 0}}"), &format!("background.{key}: must be "));
        }
        says(&format!("{SMALLEST}\nbackground: {{retry_delay: 0s}}"), "background.retry_delay: must be ");
        says(&format!("{SMALLEST}\nbackground: {{worker: 1}}"), "did you mean `workers`?");
        says(&format!("{SMALLEST}\nbackground: {{store: ''}}"), "background.store: must not be empty");
        says(&format!("{SMALLEST}\nbackground: 5"), "background: must be a mapping");
    }

    #[test]
    fn a_route_that_answers_later_needs_the_durable_queue() {
        for word in ["prefer", "always"] {
            let route = with_route(&format!("background: {word}"));
            says(&route, &format!("routes[0].background: `{word}` needs the durable queue"));
            assert_eq!(policy(&format!("{route}background: {{}}")).routes[0].background.word(), word);
        }
        says(&format!("{SMALLEST}\ndefaults: {{background: prefer}}"), "defaults.background: `prefer` needs");
        policy(&with_route("background: off"));
        says(&with_route("background: false"), "must be `off` or `prefer` or `always`, not `false`");
    }
}
