//! Listing jobs, running them again, and ending them.

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::query;
use crate::background::job::{JobId, Status, View};
use crate::background::{Jobs, NotDone, Removed};
use crate::control::Control;
use crate::response::job::shown;

/// The longest list.
const MOST: usize = 1000;
const USUALLY: usize = 50;

/// For `GET /status`; null without a queue.
pub(super) fn summary(control: &Control) -> Value {
    let Some(jobs) = control.jobs.get() else { return Value::Null };
    let census = jobs.census();
    let mut summary: serde_json::Map<_, _> =
        census.counts().map(|(status, count)| (status.word().to_owned(), json!(count))).collect();
    summary.insert("oldest_age_seconds".into(), json!(census.oldest_age.as_secs_f64()));
    Value::Object(summary)
}

/// `GET /jobs?status=…&limit=…`.
pub(super) fn list(control: &Control, query: &str) -> Answer {
    let Some(jobs) = control.jobs.get() else { return no_queue() };
    let status = match query::value(query, "status").filter(|word| !word.is_empty()) {
        None => None,
        Some(word) => match Status::of_word(&word) {
            Some(status) => Some(status),
            None => {
                let words: Vec<&str> = Status::ALL.iter().map(|status| status.word()).collect();
                return answer::problem(StatusCode::BAD_REQUEST, &format!("status is one of {}.", words.join(", ")));
            }
        },
    };
    let limit = match query::value(query, "limit").map(|text| text.parse::<usize>()) {
        None => USUALLY,
        Some(Ok(limit)) if (1..=MOST).contains(&limit) => limit,
        Some(_) => return answer::problem(StatusCode::BAD_REQUEST, &format!("limit is from 1 to {MOST}.")),
    };
    let listed: Vec<Value> = jobs.list(status, limit).iter().map(for_operators).collect();
    answer::json(StatusCode::OK, &Value::Array(listed))
}

/// What operators see of a job: where it goes, but nothing of what is in it, and not whose it is.
fn for_operators(view: &View) -> Value {
    let mut job = shown(view);
    job["route"] = json!(&*view.route);
    job["upstream"] = json!(&*view.upstream);
    job["method"] = json!(view.method.as_str());
    job["result_bytes"] = json!(view.result_bytes);
    job["next_attempt_seconds"] = json!(view.next_attempt_in.map(|wait| wait.as_secs_f64()));
    job
}

/// `POST /jobs/{id}/retry`.
pub(super) async fn run_again(control: &Control, id: &str) -> Answer {
    let Some((jobs, id)) = named(control, id) else { return refused(NotDone::Unknown) };
    match jobs.run_again(id).await {
        Ok(view) => {
            tracing::info!(job = %id, "an operator runs a job again");
            answer::json(StatusCode::OK, &for_operators(&view))
        }
        Err(not_done) => refused(not_done),
    }
}

/// `DELETE /jobs/{id}`.
pub(super) async fn remove(control: &Control, id: &str) -> Answer {
    let Some((jobs, id)) = named(control, id) else { return refused(NotDone::Unknown) };
    let (view, forgotten) = match jobs.remove(id).await {
        Ok(Removed::Cancelled(view)) => (view, false),
        Ok(Removed::Forgotten(view)) => (view, true),
        Err(not_done) => return refused(not_done),
    };
    tracing::info!(job = %id, forgotten, "an operator ended a job");
    let mut job = for_operators(&view);
    job["forgotten"] = json!(forgotten);
    answer::json(StatusCode::OK, &job)
}

/// `GET /jobs/{id}`.
pub(super) fn show(control: &Control, id: &str) -> Answer {
    match named(control, id).and_then(|(jobs, id)| jobs.look(id)) {
        Some(view) => answer::json(StatusCode::OK, &for_operators(&view)),
        None => refused(NotDone::Unknown),
    }
}

fn named<'c>(control: &'c Control, id: &str) -> Option<(&'c Arc<Jobs>, JobId)> {
    control.jobs.get().zip(JobId::parse(id))
}

fn no_queue() -> Answer {
    answer::problem(StatusCode::NOT_FOUND, "The policy has no `background`, so there are no jobs.")
}

fn refused(not_done: NotDone) -> Answer {
    match not_done {
        NotDone::Unknown => answer::problem(StatusCode::NOT_FOUND, "There is no such job."),
        NotDone::Stands(status) => {
            let detail =
                format!("The job is {}; only one that has failed or was cancelled can be run again.", status.word());
            answer::problem(StatusCode::CONFLICT, &detail)
        }
        NotDone::Full => later("background.queue jobs have not ended."),
        NotDone::NotWritten => later("The job store cannot be written to at the moment."),
    }
}

fn later(detail: &str) -> Answer {
    let mut answer = answer::problem(StatusCode::SERVICE_UNAVAILABLE, detail);
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// Brings the gauges up to date.
pub(super) fn update_gauges(control: &Control) {
    let Some(jobs) = control.jobs.get() else { return };
    let census = jobs.census();
    for (status, count) in census.counts() {
        let gauge = control.metrics.jobs.with_label_values(&[status.word()]);
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    control.metrics.oldest_job.set(census.oldest_age.as_secs_f64());
    control.metrics.job_bytes.set(i64::try_from(census.bytes).unwrap_or(i64::MAX));
}
