//! `turnwise explain`: what the policy makes of a request, and why.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};

use super::{FAILED, OK, PolicyFile};
use crate::config::{show_duration, show_rate, show_size};
use crate::policy::{
    Abandoned, Anonymous, Assign, KeySource, Later, NormalPath, PathMatch, Policy, Priority, RatePer, Route, Segment,
    Session, Target, WhenBusy, WhenExceeded, compile,
};
use crate::request::{HeadView, KeyLookup, SessionKey, check_head};

/// The request to explain.
#[derive(Debug, Args)]
pub(super) struct Explain {
    #[command(flatten)]
    policy: PolicyFile,
    #[arg(value_name = "METHOD")]
    method: Method,
    /// A path, or a URL whose host is then the request's.
    #[arg(value_name = "URL")]
    url: Uri,
    /// A field of the request.
    #[arg(short = 'H', long = "header", value_name = "K: V", value_parser = super::field)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The body. Without a Content-Type field it counts as JSON.
    #[arg(short = 'd', long = "data", value_name = "BODY")]
    body: Option<String>,
}

/// What a request would get.
struct Explained {
    text: String,
    /// It has a route, which refuses it.
    is_refused: bool,
}

impl Explain {
    /// Prints the explanation. Returns the exit code.
    pub(super) fn run(self) -> u8 {
        let compiled = match compile::load(&self.policy.file) {
            Ok(compiled) => compiled,
            Err(problems) => {
                eprintln!("{problems}");
                return FAILED;
            }
        };
        match self.explanation(&compiled.policy) {
            Ok(Explained { text, is_refused }) => {
                // A reader that closed the pipe has read enough.
                let _ = std::io::stdout().lock().write_all(text.as_bytes());
                if is_refused { FAILED } else { OK }
            }
            Err(why) => {
                eprintln!("{why}");
                FAILED
            }
        }
    }

    fn explanation(&self, policy: &Policy) -> Result<Explained, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        let host = self.url.authority().map(|authority| authority.as_str().to_owned());
        if !headers.contains_key(header::HOST) {
            let host = host.clone().unwrap_or_else(|| "localhost".into());
            headers.insert(header::HOST, HeaderValue::from_str(&host).map_err(|_| "the URL's host is no field value")?);
        }
        check_head(Version::HTTP_11, &self.method, &self.url, &headers)
            .map_err(|bad| format!("refused: 400 bad_request: {bad}"))?;
        let path = NormalPath::parse(self.url.path()).map_err(|bad| format!("refused: 400 bad_request: {bad}"))?;
        let named = host.as_deref().or_else(|| headers.get(header::HOST).and_then(|host| host.to_str().ok()));
        let target = Target { method: &self.method, host: named, path: &path, headers: &headers };
        let Some(place) = policy.route(&target) else {
            return Err(format!("no route matches {} {} (404 no_route)", self.method, self.url));
        };
        let body = Bytes::from(self.body.clone().unwrap_or_default());
        let view = HeadView { headers: &headers, query: self.url.query(), path: &path };
        Ok(describe(policy, place, &view, &body))
    }
}

fn describe(policy: &Policy, place: usize, view: &HeadView<'_>, body: &Bytes) -> Explained {
    let route = &policy.routes[place];
    let upstream = &policy.upstreams[route.upstream];
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{what:<12} {value}");
    };
    line("route", format!("{} (number {} of {}: {})", route.name, place + 1, policy.routes.len(), why(route)));
    let session = session_line(route, view, body);
    let is_refused = session.is_err();
    line("session", session.unwrap_or_else(|why| format!("refused: 400 {why}")));
    if let Some(session) = route.session.as_ref().filter(|_| !route.exempt) {
        line("turn", turn_line(session));
        line("if busy", busy_line(session));
    }
    for limit in &route.rate_limits {
        let exceeded = match limit.when_exceeded {
            WhenExceeded::Reject => "then 429".into(),
            WhenExceeded::Wait { queue, queue_timeout } => {
                format!("then waits, at most {queue} for {}", show_duration(queue_timeout))
            }
        };
        let per = match &limit.per {
            RatePer::Session => "session".into(),
            RatePer::ClientIp => "client address".into(),
            RatePer::Route => "route".into(),
            RatePer::Header(name) => format!("value of {name}"),
        };
        let rate = show_rate(limit.rate.count, limit.rate.period);
        line("rate limit", format!("{}: {rate} per {per}, {} at once, {exceeded}", limit.name, limit.burst));
    }
    line("place", place_line(policy, route));
    let servers: Vec<&str> = upstream.servers.iter().map(|server| &*server.url).collect();
    line("upstream", format!("{}: {}", upstream.name, servers.join(", ")));
    let timeouts = &route.timeouts;
    let total = if timeouts.total == Duration::ZERO { "none".into() } else { show_duration(timeouts.total) };
    let shown = format!(
        "connect {}, request {}, response {}, idle {}, total {total}",
        show_duration(upstream.connect_timeout),
        show_duration(timeouts.request),
        show_duration(timeouts.response),
        show_duration(timeouts.idle),
    );
    line("timeouts", shown);
    line("body", format!("at most {}", show_size(route.body_limit)));
    line("client gone", abandoned_line(route));
    if let Some(later) = later_line(policy, route) {
        line("background", later);
    }
    Explained { text, is_refused }
}

fn why(route: &Route) -> String {
    let matching = &route.matching;
    let mut reasons = vec![match &matching.path {
        PathMatch::Any => "any path".into(),
        PathMatch::Prefix(prefix) => format!("path_prefix {prefix}"),
        PathMatch::Pattern(segments) => {
            let segments = segments.iter().map(|segment| match segment {
                Segment::Literal(text) => format!("/{text}"),
                Segment::Variable(name) => format!("/{{{name}}}"),
            });
            format!("path {}", segments.collect::<String>())
        }
    }];
    if !matching.methods.is_empty() {
        let methods: Vec<&str> = matching.methods.iter().map(Method::as_str).collect();
        reasons.push(format!("methods {}", methods.join(", ")));
    }
    if !matching.hosts.is_empty() {
        reasons.push(format!("hosts {}", matching.hosts.join(", ")));
    }
    reasons.extend(matching.headers.iter().map(|(name, _)| format!("field {name}")));
    reasons.join("; ")
}

/// Whose turn it takes, or why it is refused.
fn session_line(route: &Route, view: &HeadView<'_>, body: &Bytes) -> Result<String, String> {
    if route.exempt {
        return Ok("none: the route is exempt, its requests take no turn and no place".into());
    }
    let Some(session) = &route.session else {
        return Ok("none: requests of this route do not wait for one another".into());
    };
    let sources: Vec<String> = session.key.iter().map(source).collect();
    let looked = sources.join(", then ");
    let lookup = SessionKey::from_whole(session, &route.matching.path, view, body);
    if let KeyLookup::Found(key) = lookup.map_err(|bad| format!("bad_request: {bad}"))? {
        return Ok(format!("{key} (first one present of {looked})"));
    }
    Ok(match (session.anonymous, &session.assign) {
        (Anonymous::Reject, _) => return Err(format!("session_required, nothing in {looked}")),
        (Anonymous::Shared, _) => format!("the one that all requests without a key share, nothing in {looked}"),
        (Anonymous::Separate, None) => format!("its own: it waits for no other, nothing in {looked}"),
        (Anonymous::Separate, Some(Assign::Header(name))) => format!("a made-up key, sent upstream as field {name}"),
        (Anonymous::Separate, Some(Assign::Json(pointer))) => {
            format!("a made-up key, sent upstream at /{} of a JSON body", pointer.join("/"))
        }
    })
}

fn source(source: &KeySource) -> String {
    match source {
        KeySource::Header(name) => format!("field {name}"),
        KeySource::Json(pointer) => format!("JSON /{}", pointer.join("/")),
        KeySource::Form(name) => format!("form {name}"),
        KeySource::Query(name) => format!("query {name}"),
        KeySource::Cookie(name) => format!("cookie {name}"),
        KeySource::Path(name) => format!("path {{{name}}}"),
    }
}

fn turn_line(session: &Session) -> String {
    format!(
        "lane {}, {} at once, then at most {} wait for {}",
        session.lane,
        session.concurrency,
        session.queue,
        show_duration(session.queue_timeout)
    )
}

fn busy_line(session: &Session) -> String {
    let mut text = match session.when_busy {
        WhenBusy::Wait => "it waits".to_owned(),
        WhenBusy::Reject => "it is refused: 409 session_busy".to_owned(),
        WhenBusy::Replace => "it ends those that wait, and waits in their stead".to_owned(),
        WhenBusy::Interrupt => "it ends those that wait and the one that runs".to_owned(),
    };
    if !session.when_busy_choices.is_empty() {
        let choices: Vec<&str> = session.when_busy_choices.iter().map(|choice| choice.word()).collect();
        text += &format!("; may choose {} by field turnwise-when-busy", choices.join(", "));
    }
    if let Some(join) = session.join {
        text += "; shares the answer of an equal one";
        if join.replay_for > Duration::ZERO {
            text += &format!(", also of one that ended within {}", show_duration(join.replay_for));
        }
    }
    if session.reentrant {
        text += "; what it makes itself may be nested in it";
    }
    if session.waits_aloud {
        text += "; hears how it waits, if it accepts text/event-stream or its body says \"stream\": true";
    }
    text
}

fn place_line(policy: &Policy, route: &Route) -> String {
    if route.exempt {
        return "none: exempt".into();
    }
    let limits = &policy.limits;
    let mut at_once = vec![format!("{} in all", limits.concurrency)];
    at_once.extend(route.concurrency.map(|limit| format!("{limit} of this route")));
    let upstream = &policy.upstreams[route.upstream];
    at_once.extend(upstream.effective_concurrency().map(|limit| format!("{limit} at {}", upstream.name)));
    let priority = match route.priority {
        Priority::High => "high",
        Priority::Normal => "normal",
        Priority::Low => "low",
    };
    format!(
        "at once {}; then at most {} wait for {}; priority {priority}",
        at_once.join(", "),
        limits.queue,
        show_duration(limits.queue_timeout)
    )
}

/// What is answered later, if anything is.
fn later_line(policy: &Policy, route: &Route) -> Option<String> {
    let queue = policy.background.as_ref()?;
    let which = match route.background {
        Later::Off => return None,
        Later::Prefer => "with `Prefer: respond-async` it is kept on disk and answered 202",
        Later::Always => "it is kept on disk and answered 202",
    };
    Some(format!(
        "{which}; at most {} at once and {} in all, {} tries, the result kept for {}",
        queue.workers,
        queue.queue,
        queue.attempts,
        show_duration(queue.keep_results)
    ))
}

fn abandoned_line(route: &Route) -> String {
    let limit = show_duration(route.abandoned_limit);
    match route.abandoned {
        Abandoned::Finish => format!("the work is finished, for at most {limit}"),
        Abandoned::Cancel => "the work is cancelled".into(),
        Abandoned::Auto => {
            format!("finished before the response head, for at most {limit}; cancelled once the body streams")
        }
    }
}
