//! Which endpoint is asked for, and whether the asker may.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::answer::{self, Answer};
use super::{sessions, status};
use crate::control::Control;

/// What is asked for.
enum Endpoint<'a> {
    Metrics,
    Healthy,
    Ready,
    Health,
    Status,
    Sessions,
    Session(&'a str),
    Reload,
    Config,
    Drain,
}

impl<'a> Endpoint<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/metrics" => Self::Metrics,
            "/-/healthy" => Self::Healthy,
            "/-/ready" => Self::Ready,
            "/health" => Self::Health,
            "/status" => Self::Status,
            "/sessions" => Self::Sessions,
            "/-/reload" => Self::Reload,
            "/config" => Self::Config,
            "/-/drain" => Self::Drain,
            _ => Self::Session(path.strip_prefix("/sessions/").filter(|key| !key.is_empty())?),
        })
    }

    fn methods(&self) -> &'static [Method] {
        match self {
            Self::Reload | Self::Drain => &[Method::POST],
            Self::Session(_) => &[Method::GET, Method::HEAD, Method::DELETE],
            _ => &[Method::GET, Method::HEAD],
        }
    }

    /// Whether it shows what not everybody may see, or changes something.
    fn is_guarded(&self) -> bool {
        !matches!(self, Self::Metrics | Self::Healthy | Self::Ready | Self::Health)
    }
}

pub async fn route(control: &Arc<Control>, request: Request<Incoming>) -> Answer {
    let Some(endpoint) = Endpoint::of(request.uri().path()) else {
        return answer::problem(StatusCode::NOT_FOUND, "There is no such endpoint.");
    };
    if !endpoint.methods().contains(request.method()) {
        let mut refused = answer::problem(StatusCode::METHOD_NOT_ALLOWED, "This endpoint has other methods.");
        let allowed: Vec<&str> = endpoint.methods().iter().map(Method::as_str).collect();
        if let Ok(allowed) = HeaderValue::from_str(&allowed.join(", ")) {
            refused.headers_mut().insert(header::ALLOW, allowed);
        }
        return refused;
    }
    if endpoint.is_guarded() && !may_pass(control.loaded().token.as_deref(), request.headers()) {
        let mut refused = answer::problem(StatusCode::UNAUTHORIZED, "Send `Authorization: Bearer <token>`.");
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return refused;
    }
    if !request.method().is_safe() && is_cross_site(request.headers()) {
        return answer::problem(StatusCode::FORBIDDEN, "A page of another site may not change anything here.");
    }
    let query = request.uri().query().unwrap_or("");
    match endpoint {
        Endpoint::Metrics => metrics(control),
        Endpoint::Healthy => answer::text(StatusCode::OK, "healthy\n"),
        Endpoint::Ready if control.drain.is_asked() => answer::text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        Endpoint::Ready => answer::text(StatusCode::OK, "ready\n"),
        Endpoint::Health => answer::json(StatusCode::OK, &status::health(control)),
        Endpoint::Status => answer::json(StatusCode::OK, &status::status(control)),
        Endpoint::Config => answer::json(StatusCode::OK, &control.edition.load().policy.shown()),
        Endpoint::Sessions => sessions::list(control, query),
        Endpoint::Session(key) => {
            let Ok(key) = percent_decode_str(key).decode_utf8() else {
                return answer::problem(StatusCode::BAD_REQUEST, "The session key is not UTF-8.");
            };
            if request.method() == Method::DELETE {
                sessions::end(control, &key, query)
            } else {
                sessions::show(control, &key)
            }
        }
        Endpoint::Reload => reload(control.clone()).await,
        Endpoint::Drain => {
            control.ask_to_drain();
            answer::json(StatusCode::OK, &json!({ "draining": true }))
        }
    }
}

fn metrics(control: &Control) -> Answer {
    status::update_gauges(control);
    answer::with(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", control.metrics.text().into())
}

async fn reload(control: Arc<Control>) -> Answer {
    // Reading a file may block.
    let reloaded = tokio::task::spawn_blocking(move || {
        let reloaded = control.reload();
        (reloaded, control.edition.load().generation)
    });
    match reloaded.await {
        Ok((Ok(restart_needed), generation)) => answer::json(
            StatusCode::OK,
            &json!({ "reloaded": true, "generation": generation, "restart_needed": restart_needed }),
        ),
        Ok((Err(problems), generation)) => answer::json(
            StatusCode::UNPROCESSABLE_ENTITY,
            &json!({ "reloaded": false, "generation": generation, "valid": false, "problems": problems }),
        ),
        Err(_) => answer::problem(StatusCode::INTERNAL_SERVER_ERROR, "The reload failed; the log has the details."),
    }
}

/// Whether the asker has the token, if one is needed. The time it takes does not tell how much of it was right.
fn may_pass(token: Option<&str>, headers: &HeaderMap) -> bool {
    let Some(token) = token else { return true };
    let given = headers.get(header::AUTHORIZATION).map_or(&[][..], |value| value.as_bytes());
    let Some((scheme, given)) = given.split_at_checked("Bearer ".len()) else {
        return false;
    };
    let digest = |bytes: &[u8]| <sha2::Sha256 as sha2::Digest>::digest(bytes);
    let differing = digest(given).iter().zip(digest(token.as_bytes())).fold(0, |all, (a, b)| all | (a ^ b));
    scheme.eq_ignore_ascii_case(b"Bearer ") && differing == 0
}

/// Whether a browser sends this for a page of another origin.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or("")) else {
        return false;
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    origin.split_once("://").is_none_or(|(_, authority)| authority != host)
}
