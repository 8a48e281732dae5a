//! `limits`: what holds across all routes.

use super::http_words::by_header;
use super::{COUNT, SOME_TIME, file, one_key};
use crate::config::key::Is;
use crate::config::{Cursor, Fault, Fields, Form, Key, Own, Parsed, SHARE, Size, Time, Whole, key};
use crate::policy::{FairBy, Limits};

/// Greatest number of bytes that a policy may speak of: 1 TiB.
pub(super) const MAX_BYTES: u64 = 1 << 40;
pub(super) const BYTES: Size = Size(1..=MAX_BYTES);

crate::config::keys! {
    pub(super) mod keys = "limits" {
        CONCURRENCY: Key<Whole> = key("concurrency", COUNT, Is("100"),
            "requests at the upstreams at once, exempt ones not counted");
        QUEUE: Key<Whole> = key("queue", COUNT, Is("1000"),
            "requests that wait for a place; those beyond get 503 `queue_full`");
        QUEUE_BYTES: Key<Size> = key("queue_bytes", BYTES, Is("256MiB"),
            "bodies held for requests that wait for a turn, a rate or a place; else 503 `queue_full`");
        QUEUE_TIMEOUT: Key<Time> = key("queue_timeout", SOME_TIME, Is("30s"),
            "the longest wait for a place, and for a server with room; then 503 `queue_timeout`");
        FAIR_BY: Key<Own<Option<FairBy>>> = key("fair_by", Own(fair_by_or_null, fair_by_form), Is("client_ip"),
            "free places go round these: client addresses, or values of a header; `null` is one line for all");
        QUEUE_SHARE: Key<Parsed<u8>> = key("queue_share", SHARE, Is("100%"),
            "the most of `queue` and `queue_bytes` that one client address or header value may hold");
        KEYS_AT_ONCE: Key<Whole> = key("keys", Whole(1..=100_000_000), Is("1000000"),
            "sessions and rate-limit keys remembered at once; else 503 `key_table_full`");
    }
}

pub(super) fn limits(fields: Fields<'_>) -> Limits {
    let fields = fields.section(&file::LIMITS);
    Limits {
        concurrency: fields.read(&keys::CONCURRENCY),
        queue: fields.read(&keys::QUEUE),
        queue_bytes: fields.read(&keys::QUEUE_BYTES),
        queue_timeout: fields.read(&keys::QUEUE_TIMEOUT),
        fair_by: fields.read(&keys::FAIR_BY),
        queue_share: fields.read(&keys::QUEUE_SHARE),
        keys: fields.read(&keys::KEYS_AT_ONCE) as usize,
    }
}

const CLIENT_IP: &str = "client_ip";

fn fair_by_form() -> Form {
    Form::Either(vec![Form::Word(vec![CLIENT_IP]), Form::OneKey(by_header::KEYS), Form::Null])
}

fn fair_by_or_null(cursor: Cursor<'_>) -> Option<Option<FairBy>> {
    if cursor.is_null() { Some(None) } else { fair_by(cursor).map(Some) }
}

fn fair_by(cursor: Cursor<'_>) -> Option<FairBy> {
    if cursor.is_mapping() {
        return one_key(cursor, by_header::KEYS)?.given(&by_header::HEADER).map(FairBy::Header);
    }
    if cursor.shown() == CLIENT_IP {
        return Some(FairBy::ClientIp);
    }
    let message = format!("must be `client_ip`, `{{header: …}}` or `null`, not {}", cursor.kind());
    cursor.problem(match crate::config::nearest(&cursor.shown(), [CLIENT_IP, by_header::HEADER.name()]) {
        Some("header") => Fault::new(message).hint("did you mean `{header: X-Api-Key}`?"),
        Some(_) => Fault::new(message).hint("did you mean `client_ip`?"),
        None => Fault::new(message),
    });
    None
}
