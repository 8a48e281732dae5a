use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{accept, becomes, count, job, policy, result, status};
use crate::harness::{Gateway, Recorder, eventually};

/// Answers these statuses in turn, and 200 from then on.
fn answering(statuses: &'static [u16], field: &'static str) -> Recorder {
    let next = AtomicUsize::new(0);
    Recorder::doing(move |exchange| {
        exchange.read_body();
        let status = statuses.get(next.fetch_add(1, Ordering::SeqCst)).copied().unwrap_or(200);
        exchange.finish(format!("HTTP/1.1 {status} Said\r\n{field}Content-Length: 2\r\n\r\nno"));
    })
}

#[test]
fn answers_that_say_not_now_are_retried_and_others_are_not() {
    let upstream = answering(&[429, 502, 503, 504], "");
    let gateway = Gateway::with(&upstream, &policy("attempts: 5, retry_delay: 10ms", ""));
    let path = accept(&gateway, &job("a", ""));
    let ended = becomes(&gateway, &path, "succeeded");
    assert_eq!((&ended["attempts"], &ended["error"]), (&5.into(), &().into()));
    assert_eq!(upstream.count(), 5);
    let keys: Vec<_> = upstream.seen().iter().map(|seen| seen.header("idempotency-key")).collect();
    assert!(keys.iter().all(|key| key.is_some() && *key == keys[0]), "{keys:?}");
    let ids: Vec<_> = upstream.seen().iter().map(|seen| seen.header("x-request-id")).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    gateway.wait_metric("turnwise_job_attempts_total", &[("result", "retried")], 4.0);
}

#[test]
fn the_last_answer_is_kept_when_no_tries_are_left() {
    let upstream = answering(&[503, 503], "");
    let gateway = Gateway::with(&upstream, &policy("attempts: 2, retry_delay: 10ms", ""));
    let path = accept(&gateway, &job("a", ""));
    assert_eq!(becomes(&gateway, &path, "failed")["error"], "status_503");
    let answer = result(&gateway, &path);
    assert_eq!((answer.status, answer.text().as_str()), (503, "no"));
}

#[test]
fn delays_double() {
    let upstream = answering(&[503, 503, 503], "");
    let gateway = Gateway::with(&upstream, &policy("attempts: 4, retry_delay: 100ms", ""));
    let path = accept(&gateway, &job("a", ""));
    becomes(&gateway, &path, "succeeded");
    let began: Vec<Instant> = upstream.seen().iter().map(|seen| seen.started_at).collect();
    let waits: Vec<Duration> = began.windows(2).map(|two| two[1] - two[0]).collect();
    for (wait, least) in waits.iter().zip([100, 200, 400]) {
        assert!(*wait >= Duration::from_millis(least), "{waits:?}");
    }
}

#[test]
fn retry_after_is_obeyed() {
    let upstream = answering(&[429], "Retry-After: 2\r\n");
    let gateway = Gateway::with(&upstream, &policy("retry_delay: 10ms", ""));
    let path = accept(&gateway, &job("a", ""));
    becomes(&gateway, &path, "succeeded");
    let seen = upstream.seen();
    assert!(seen[1].started_at - seen[0].started_at >= Duration::from_secs(2));
}

#[test]
fn broken_answers_and_timeouts_are_retried() {
    for (route, error) in [("", "upstream_broken"), (", timeouts: { response: 200ms }", "upstream_timeout")] {
        let next = AtomicUsize::new(0);
        let breaks = route.is_empty();
        let upstream = Recorder::doing(move |exchange| {
            exchange.read_body();
            match next.fetch_add(1, Ordering::SeqCst) {
                0 if breaks => exchange.close(),
                1 if breaks => {
                    exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
                    exchange.close();
                }
                0 => {
                    exchange.sleep(1000);
                    exchange.finish("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate");
                }
                _ => exchange.finish("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"),
            }
        });
        let gateway = Gateway::with(&upstream, &policy("attempts: 5, retry_delay: 400ms", route));
        let path = accept(&gateway, &job("a", ""));
        eventually("it is to be tried again", || status(&gateway, &path)["error"] == error);
        becomes(&gateway, &path, "succeeded");
        assert_eq!(result(&gateway, &path).text(), "good");
    }
}

#[test]
fn an_upstream_that_is_not_there_fails_the_job_when_its_tries_are_used_up() {
    let upstream = Recorder::start();
    upstream.stop_listening();
    let gateway = Gateway::with(&upstream, &policy("attempts: 3, retry_delay: 20ms", ""));
    let path = accept(&gateway, &job("a", ""));
    let ended = becomes(&gateway, &path, "failed");
    assert_eq!((&ended["attempts"], &ended["error"]), (&3.into(), &"upstream_connect".into()));
    result(&gateway, &path).assert_problem(502, "upstream_connect");
}

#[test]
fn an_outage_does_not_use_up_the_tries_of_the_whole_queue() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let gateway =
        Gateway::start(&format!("http://{address}"), &policy("workers: 2, attempts: 3, retry_delay: 300ms", ""));
    let paths: Vec<String> = (0..20).map(|number| accept(&gateway, &job(&number.to_string(), ""))).collect();
    let tries = || paths.iter().map(|path| status(&gateway, path)["attempts"].as_u64().expect("a number")).sum::<u64>();
    // Long enough for the two that had begun to have used up what they have, if nobody paused.
    eventually("some have looked", || tries() >= 5);
    assert!(tries() <= 8, "{} tries", tries());
    assert_eq!(count(&gateway, "failed"), 0, "nobody has used up all it has");
    let upstream = Recorder::on(TcpListener::bind(address).expect("the port is free"), |exchange| exchange.obey());
    eventually("all are done", || count(&gateway, "succeeded") == 20);
    drop(gateway);
    drop(upstream);
}

#[test]
fn a_few_jobs_that_always_fail_do_not_stop_those_of_other_sessions() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &super::in_sessions("attempts: 20, retry_delay: 200ms"));
    let bad: Vec<String> = (0..10)
        .map(|number| accept(&gateway, &job(&format!("bad{number}"), "status 503").session(&format!("bad{number}"))))
        .collect();
    for number in 0..10 {
        accept(&gateway, &job(&format!("good{number}"), "").session(&format!("good{number}")));
    }
    eventually("the good ones are done", || count(&gateway, "succeeded") == 10);
    assert_eq!(count(&gateway, "failed"), 0);
    for path in bad {
        gateway.ask(&super::cancel(&path)).assert_ok();
    }
}
