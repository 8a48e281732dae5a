//! `rate_limits` of a route.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::http_words::by_header;
use super::{COUNT, SOME_TIME, one_key};
use crate::config::key::{From, Is, Null, Required};
use crate::config::{Cursor, Fault, Fields, Form, Key, Own, Parsed, RATE, Text, Time, Whole, Word, key, quoted};
use crate::policy::{Rate, RateLimit, RatePer, WhenExceeded};

crate::config::keys! {
    mod keys = "rate_limit" {
        PER: Key<Own<RatePer>, Required> = key("per", Own(per, per_form), Required,
            "whose requests are counted together: those of a session, of a client address, of the route, or with one \
             value of a header");
        RATE_OF: Key<Parsed<(NonZeroU32, Duration)>, Required> = key("rate", RATE, Required,
            "how fast tokens come back, evenly: `60/min` is one each second");
        BURST: Key<Whole, From> = key("burst", COUNT, From("the number of `rate`, at most 100"),
            "how many may come at once");
        WHEN_EXCEEDED: Key<Word<bool>> = key("when_exceeded", Word(&[("reject", false), ("wait", true)]), Is("reject"),
            "`reject` is 429 `rate_limited`");
        NAME: Key<Own<String>, Null> = key("name", Own(limit_name, || Form::Text(&NAME_TEXT)), Null,
            "in the `RateLimit` fields of answers; unique in its route, and at most 64 characters of ASCII; `null`: \
             what it is `per`");
        QUEUE: Key<Whole> = key("queue", COUNT, Is("1000"), "with `wait`: waiting for one key");
        QUEUE_TIMEOUT: Key<Time> = key("queue_timeout", SOME_TIME, Is("30s"),
            "with `wait`: the longest wait; then 429");
    }
}

const NAME_TEXT: Text = Text { what: "a name such as `burst`", pattern: "^[ !#-\\[\\]-~]{1,64}$" };
const PER: [(&str, RatePerWord); 3] =
    [("session", RatePerWord::Session), ("client_ip", RatePerWord::ClientIp), ("route", RatePerWord::Route)];

/// Without `burst`, as many requests may come at once as the rate allows in its own time (`5/s`: 5), but no more than this:
/// `1000/h` is not meant to let a thousand through together.
const MAX_DEFAULT_BURST: u32 = 100;
/// Limits of one route; each is asked for each request.
const MAX_LIMITS: usize = 16;

pub(super) fn form() -> Form {
    Form::Mapping(keys::KEYS).list(0, MAX_LIMITS)
}

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
    let fields = cursor.fields(keys::KEYS)?;
    let per = fields.needed(&keys::PER);
    let rate = fields.needed(&keys::RATE_OF).map(|(count, period)| Rate { count, period });
    let burst = fields.given(&keys::BURST).and_then(NonZeroU32::new);
    let when_exceeded = when_exceeded(fields);
    let named = fields.nullable(&keys::NAME);
    let (per, rate) = (per?, rate?);
    let default_name = match &per {
        RatePer::Session => "session",
        RatePer::ClientIp => "client_ip",
        RatePer::Route => "route",
        RatePer::Header(name) => name.as_str(),
    };
    Some(RateLimit {
        name: named.as_deref().unwrap_or(default_name).into(),
        burst: burst.unwrap_or_else(|| default_burst(rate)),
        per,
        rate,
        when_exceeded,
    })
}

fn default_burst(rate: Rate) -> NonZeroU32 {
    rate.count.min(NonZeroU32::new(MAX_DEFAULT_BURST).unwrap_or(NonZeroU32::MIN))
}

fn per_form() -> Form {
    let words = PER.iter().map(|(word, _)| *word).collect();
    Form::Either(vec![Form::Word(words), Form::OneKey(by_header::KEYS)])
}

fn per(cursor: Cursor<'_>) -> Option<RatePer> {
    if cursor.is_mapping() {
        return one_key(cursor, by_header::KEYS)?.given(&by_header::HEADER).map(RatePer::Header);
    }
    if cursor.shown() == by_header::HEADER.name() {
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
    if !fields.read(&keys::WHEN_EXCEEDED) {
        for cursor in [fields.get(&keys::QUEUE), fields.get(&keys::QUEUE_TIMEOUT)].into_iter().flatten() {
            let fault = Fault::new("nothing waits for a limit that rejects");
            cursor.problem(fault.hint("write `when_exceeded: wait`, or remove this key"));
        }
        return WhenExceeded::Reject;
    }
    WhenExceeded::Wait { queue: fields.read(&keys::QUEUE), queue_timeout: fields.read(&keys::QUEUE_TIMEOUT) }
}

/// It stands between quotation marks in the `RateLimit` fields (RFC 9651 section 3.3.3: visible ASCII).
fn limit_name(cursor: Cursor<'_>) -> Option<String> {
    let text = cursor.string()?;
    let allowed = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
    if text.len() <= 64 && text.bytes().all(allowed) {
        return Some(text.to_owned());
    }
    let message = format!("`{}` is no name: 1 to 64 ASCII characters without `\"` and `\\`", quoted(&cursor.shown()));
    cursor.problem(Fault::new(message));
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::policy::compile::tests::{policy, says, warnings, with_route};
    use crate::policy::{RatePer, WhenExceeded};

    #[test]
    fn rate_limits_have_their_defaults() {
        let policy = policy(&with_route(
            "rate_limits:\n- {per: client_ip, rate: 5/s}\n\
             - {per: {header: X-Api-Key}, rate: 1000/h, when_exceeded: wait}\n- {per: route, rate: 600/min, burst: 7, name: all}",
        ));
        let [ip, header, route] = policy.routes[0].rate_limits.as_slice() else { panic!("three limits") };
        assert_eq!((&*ip.name, ip.burst.get(), ip.when_exceeded), ("client_ip", 5, WhenExceeded::Reject));
        let wait = WhenExceeded::Wait { queue: 1000, queue_timeout: Duration::from_secs(30) };
        assert_eq!((&*header.name, header.burst.get(), header.when_exceeded), ("x-api-key", 100, wait));
        assert_eq!((&*route.name, route.burst.get(), &route.per), ("all", 7, &RatePer::Route));
        assert_eq!(route.rate.interval(), Duration::from_millis(100));
    }

    #[test]
    fn rate_limits_are_checked() {
        let limits = |text: &str| with_route(&format!("rate_limits: [{text}]"));
        says(&limits("{per: route}"), "routes[0].rate_limits[0]: `rate` is missing");
        says(&limits("{rate: 1/s}"), "`per` is missing");
        says(&limits("{per: header, rate: 1/s}"), "write `{header: X-Api-Key}`");
        says(&limits("{per: route, rate: 1/s}, {per: route, rate: 9/h}"), "two limits of this route are named `route`");
        says(&limits("{per: route, rate: 1/s, queue: 5}"), "nothing waits for a limit that rejects");
        says(&limits("{per: route, rate: 1/s, name: 'a\"b'}"), "is no name");
        says(&limits("{per: route, rate: 1/m}"), "write `1/min`");
        assert!(warnings(&limits("{per: session, rate: 1/s}"))[0].contains("this route has no session"));
    }
}
