//! Which endpoint is asked for.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::answer::{self, Answer};
use super::asker::{self, Wish};
use super::query;
use super::{Admin, history, jobs, page, sessions, status};
use crate::control::Control;

/// What is asked for.
enum Endpoint<'a> {
    Page,
    Metrics,
    Healthy,
    Ready,
    Health,
    Status,
    History,
    Sessions,
    /// By its key; `None`: the key stands in the query.
    Session(Option<&'a str>),
    Jobs,
    Job(&'a str),
    RunAgain(&'a str),
    Reload,
    Config,
    Drain,
}

impl<'a> Endpoint<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/" => Self::Page,
            "/metrics" => Self::Metrics,
            "/-/healthy" => Self::Healthy,
            "/-/ready" => Self::Ready,
            "/health" => Self::Health,
            "/status" => Self::Status,
            "/history" => Self::History,
            "/sessions" => Self::Sessions,
            "/jobs" => Self::Jobs,
            "/session" => Self::Session(None),
            "/-/reload" => Self::Reload,
            "/config" => Self::Config,
            "/-/drain" => Self::Drain,
            _ => match path.strip_prefix("/jobs/") {
                Some(job) => job.strip_suffix("/retry").map_or(Self::Job(job), Self::RunAgain),
                None => Self::Session(Some(path.strip_prefix("/sessions/").filter(|key| !key.is_empty())?)),
            },
        })
    }

    fn methods(&self) -> &'static [Method] {
        match self {
            Self::Reload | Self::Drain | Self::RunAgain(_) => &[Method::POST],
            Self::Session(_) | Self::Job(_) => &[Method::GET, Method::HEAD, Method::DELETE],
            _ => &[Method::GET, Method::HEAD],
        }
    }

    /// Whether it shows what not everybody may see, or changes something.
    fn is_guarded(&self) -> bool {
        !matches!(self, Self::Page | Self::Metrics | Self::Healthy | Self::Ready | Self::Health)
    }
}

pub(super) async fn route(admin: &Admin, request: Request<Incoming>) -> Answer {
    let control = &admin.control;
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
    let wish = Wish { guarded: endpoint.is_guarded(), changes: !request.method().is_safe() };
    if let Some(refused) = asker::refusal(wish, control.loaded().token.as_deref(), request.headers()) {
        return refused;
    }
    let query = request.uri().query().unwrap_or("");
    match endpoint {
        Endpoint::Page => page::show(),
        Endpoint::Metrics => metrics(control),
        Endpoint::Healthy => answer::text(StatusCode::OK, "healthy\n"),
        Endpoint::Ready if control.drain.is_asked() => answer::text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        Endpoint::Ready => answer::text(StatusCode::OK, "ready\n"),
        Endpoint::Health => answer::json(StatusCode::OK, &status::health(control)),
        Endpoint::Status => answer::json(StatusCode::OK, &status::status(control)),
        Endpoint::Config => answer::json(StatusCode::OK, &control.policy_in_force().shown()),
        Endpoint::History => history::show(&admin.past, query),
        Endpoint::Sessions => sessions::list(control, query),
        Endpoint::Jobs => jobs::list(control, query),
        Endpoint::Job(id) if request.method() == Method::DELETE => jobs::remove(control, id).await,
        Endpoint::Job(id) => jobs::show(control, id),
        Endpoint::RunAgain(id) => jobs::run_again(control, id).await,
        Endpoint::Session(key) => {
            let key = match key {
                Some(key) => percent_decode_str(key).decode_utf8().ok().map(Into::into),
                None => query::value(query, "key"),
            };
            let Some(key) = key else {
                return answer::problem(StatusCode::BAD_REQUEST, "There is no session key, or it is not UTF-8.");
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
