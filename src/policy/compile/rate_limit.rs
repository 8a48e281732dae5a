//! `rate_limits` of a route.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::{MAX_COUNT, SOME_TIME, http_words, one_key};
use crate::config::{Cursor, Fault, Fields, parse_rate, quoted};
use crate::policy::{Rate, RateLimit, RatePer, WhenExceeded};

const RATE_LIMIT: [&str; 7] = ["per", "rate", "burst", "when_exceeded", "name", "queue", "queue_timeout"];
const PER: [(&str, RatePerWord); 3] =
    [("session", RatePerWord::Session), ("client_ip", RatePerWord::ClientIp), ("route", RatePerWord::Route)];

/// Without `burst`, as many requests may come at once as the rate allows in its own time (`5/s`: 5), but no more than this:
/// `1000/h` is not meant to let a thousand through together.
const MAX_DEFAULT_BURST: u32 = 100;
/// Limits of one route; each is asked for each request.
const MAX_LIMITS: usize = 16;

#[derive(Clone, Copy)]
enum RatePerWord {
    Session,
    ClientIp,
    Route,
}

pub(super) fn rate_limits(cursor: Cursor<'_>) -> Option<Vec<Arc<RateLimit>>> {
    let items = cursor.items_up_to(MAX_LIMITS)?;
    let mut limits: Vec<Arc<RateLimit>> = Vec::new();
    for item in items {
        let Some(limit) = rate_limit(item) else { continue };
        if limits.iter().any(|earlier| earlier.name == limit.name) {
            let place = item.inside("name").unwrap_or(item);
            let fault = Fault::new(format!("two limits of this route are named `{}`", limit.name));
            place.problem(fault.hint("give one of them a `name`"));
        }
        limits.push(Arc::new(limit));
    }
    Some(limits)
}

fn rate_limit(cursor: Cursor<'_>) -> Option<RateLimit> {
    let fields = cursor.fields(&RATE_LIMIT)?;
    let per = fields.required("per").and_then(per);
    let rate = fields.required("rate").and_then(|cursor| cursor.parsed(parse_rate, "a rate such as `10/s`"));
    let rate = rate.map(|(count, period)| Rate { count, period });
    let burst = fields.get("burst").and_then(|cursor| cursor.integer(1..=MAX_COUNT)).and_then(NonZeroU32::new);
    let when_exceeded = when_exceeded(fields);
    let named = fields.nullable("name", limit_name);
    let (per, rate) = (per?, rate?);
    let default_name = match &per {
        RatePer::Session => "session",
        RatePer::ClientIp => "client_ip",
        RatePer::Route => "route",
        RatePer::Header(name) => name.as_str(),
    };
    Some(RateLimit {
        name: named.unwrap_or(default_name).into(),
        burst: burst.unwrap_or_else(|| default_burst(rate)),
        per,
        rate,
        when_exceeded,
    })
}

fn default_burst(rate: Rate) -> NonZeroU32 {
    rate.count.min(NonZeroU32::new(MAX_DEFAULT_BURST).unwrap_or(NonZeroU32::MIN))
}

fn per(cursor: Cursor<'_>) -> Option<RatePer> {
    if cursor.is_mapping() {
        let (_, header) = one_key(cursor, &["header"])?;
        return header.string().and_then(|name| header.told(http_words::header_name(name))).map(RatePer::Header);
    }
    if cursor.shown() == "header" {
        let fault = Fault::new("must say which header");
        cursor.problem(fault.hint("write `{header: X-Api-Key}`"));
        return None;
    }
    cursor.word(&PER).map(|word| match word {
        RatePerWord::Session => RatePer::Session,
        RatePerWord::ClientIp => RatePer::ClientIp,
        RatePerWord::Route => RatePer::Route,
    })
}

fn when_exceeded(fields: Fields<'_>) -> WhenExceeded {
    let waits = fields.or("when_exceeded", false, |cursor| cursor.word(&[("reject", false), ("wait", true)]));
    let queue = fields.get("queue");
    let queue_timeout = fields.get("queue_timeout");
    if !waits {
        for cursor in [queue, queue_timeout].into_iter().flatten() {
            let fault = Fault::new("nothing waits for a limit that rejects");
            cursor.problem(fault.hint("write `when_exceeded: wait`, or remove this key"));
        }
        return WhenExceeded::Reject;
    }
    WhenExceeded::Wait {
        queue: queue.and_then(|cursor| cursor.integer(1..=MAX_COUNT)).unwrap_or(1000),
        queue_timeout: queue_timeout.and_then(|cursor| cursor.duration(SOME_TIME)).unwrap_or(Duration::from_secs(30)),
    }
}

/// It stands between quotation marks in the `RateLimit` fields (RFC 9651 section 3.3.3: visible ASCII).
fn limit_name(cursor: Cursor<'_>) -> Option<&str> {
    let text = cursor.string()?;
    let allowed = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
    if text.len() <= 64 && text.bytes().all(allowed) {
        return Some(text);
    }
    let message = format!("`{}` is no name: 1 to 64 ASCII characters without `\"` and `\\`", quoted(&cursor.shown()));
    cursor.problem(Fault::new(message));
    None
}
