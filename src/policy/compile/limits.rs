//! `limits`: what holds across all routes.

use std::time::Duration;

use super::{MAX_COUNT, SOME_TIME, http_words, one_key};
use crate::config::{Cursor, Fault, Fields, parse_percent};
use crate::policy::{FairBy, Limits};

const LIMITS: [&str; 7] = ["concurrency", "queue", "queue_bytes", "queue_timeout", "fair_by", "queue_share", "keys"];

/// Greatest number of bytes that a policy may speak of: 1 TiB.
pub(super) const MAX_BYTES: u64 = 1 << 40;

pub(super) fn limits(fields: Fields<'_>) -> Limits {
    let fields = fields.section("limits", &LIMITS);
    let count = |key, default| fields.or(key, default, |cursor| cursor.integer(1..=MAX_COUNT));
    Limits {
        concurrency: count("concurrency", 100),
        queue: count("queue", 1000),
        queue_bytes: fields.or("queue_bytes", 256 << 20, |cursor| cursor.size(1..=MAX_BYTES)),
        queue_timeout: fields.or("queue_timeout", Duration::from_secs(30), |cursor| cursor.duration(SOME_TIME)),
        fair_by: fields.or("fair_by", Some(FairBy::ClientIp), |cursor| {
            if cursor.is_null() { Some(None) } else { fair_by(cursor).map(Some) }
        }),
        queue_share: fields.or("queue_share", 100, |cursor| cursor.parsed(parse_percent, "a share such as `50%`")),
        keys: fields.or("keys", 1_000_000, |cursor| cursor.integer(1..=100_000_000)) as usize,
    }
}

fn fair_by(cursor: Cursor<'_>) -> Option<FairBy> {
    if cursor.is_mapping() {
        let (_, header) = one_key(cursor, &["header"])?;
        return header.string().and_then(|name| header.told(http_words::header_name(name))).map(FairBy::Header);
    }
    if cursor.shown() == "client_ip" {
        return Some(FairBy::ClientIp);
    }
    let message = format!("must be `client_ip`, `{{header: …}}` or `null`, not {}", cursor.kind());
    cursor.problem(match crate::config::nearest(&cursor.shown(), ["client_ip", "header"]) {
        Some("header") => Fault::new(message).hint("did you mean `{header: X-Api-Key}`?"),
        Some(_) => Fault::new(message).hint("did you mean `client_ip`?"),
        None => Fault::new(message),
    });
    None
}
