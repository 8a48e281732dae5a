//! Requests that are answered later, with hours between their tries.

use serde_json::Value;

use crate::harness::{Answer, Door, House, assert_took, later, paused, settle, timed};

fn policy(queue: &str, route: &str) -> String {
    format!(
        "background: {{{queue}}}\nroutes: [{{name: runs, upstream: agents, background: prefer, \
         session: {{key: [{{header: X-Session-Id}}], queue_timeout: 1h}}, timeouts: {{response: 1h, total: 0s}} {route}}}]\n"
    )
}

/// Sends a job, and returns where it is found.
async fn accept(house: &House, session: &str, id: u32, target: &str) -> String {
    let answer = ask(house, session, id, target, "respond-async").await;
    assert_eq!(answer.status, 202, "{}", answer.reason());
    answer.field("location").expect("Location").to_owned()
}

async fn ask(house: &House, session: &str, id: u32, target: &str, prefer: &str) -> Answer {
    let session = if session.is_empty() { String::new() } else { format!("X-Session-Id: {session}\r\n") };
    let fields = format!("{session}X-Id: {id}\r\nPrefer: {prefer}\r\n");
    house.ask_from(1, "POST", target, &fields, "{}").answer().await
}

async fn status(house: &House, path: &str) -> Value {
    let answer = house.get(path, "").answer().await;
    serde_json::from_slice(&answer.body).expect("JSON")
}

async fn word(house: &House, path: &str) -> String {
    status(house, path).await["status"].as_str().expect("a word").to_owned()
}

#[test]
fn tries_follow_one_another_after_delays_that_double() {
    paused(async {
        let house = House::with_one_agent(&policy("attempts: 4, retry_delay: 60s", ""));
        let path = accept(&house, "s", 1, "/?status=503").await;
        later(1.0).await;
        // With a quarter of jitter at most: between 60 and 75 s, 120 and 150 s, 240 and 300 s.
        for (quiet, busy, seen) in [(58.0, 17.0, 2), (104.0, 46.0, 3), (193.0, 107.0, 4)] {
            assert_eq!(word(&house, &path).await, "retrying");
            later(quiet).await;
            assert_eq!(house.agent.seen().len(), seen - 1, "it waits as long as it says");
            later(busy).await;
            assert_eq!(house.agent.seen().len(), seen);
        }
        let ended = status(&house, &path).await;
        assert_eq!((&ended["status"], &ended["attempts"]), (&"failed".into(), &4.into()));
        house.at_rest().await;
    });
}

#[test]
fn a_client_waits_for_as_long_as_it_prefers_and_no_longer() {
    paused(async {
        let house = House::with_one_agent(&policy("", ""));
        let (took, answer) = timed(ask(&house, "a", 1, "/?think=5&status=201", "respond-async, wait=10")).await;
        assert_eq!((answer.status, answer.complete), (201, true));
        assert_took(took, 5.0);
        let (took, answer) = timed(ask(&house, "b", 2, "/?think=60", "wait=10, respond-async")).await;
        assert_eq!(answer.status, 202);
        assert_took(took, 10.0);
        let path = answer.field("location").expect("Location").to_owned();
        later(49.0).await;
        assert_eq!(word(&house, &path).await, "running");
        later(2.0).await;
        assert_eq!(word(&house, &path).await, "succeeded");
        house.at_rest().await;
    });
}

#[test]
fn a_server_that_stalls_is_left_and_tried_again() {
    paused(async {
        let timeouts = ", timeouts: {response: 30s, idle: 20s, total: 5m}, abandoned: cancel";
        let policy =
            policy("attempts: 2, retry_delay: 10s", "").replace(", timeouts: {response: 1h, total: 0s}", timeouts);
        let house = House::with_one_agent(&policy);
        let silent = accept(&house, "a", 1, "/?think=1000").await;
        let hangs = accept(&house, "b", 2, "/?pieces=3&every=1&then=hang").await;
        let breaks = accept(&house, "c", 3, "/?pieces=3&every=1&then=break").await;
        later(15.0).await;
        assert_eq!(status(&house, &breaks).await["error"], "upstream_broken");
        later(10.0).await;
        assert_eq!(status(&house, &hangs).await["error"], "upstream_timeout");
        later(10.0).await;
        assert_eq!(status(&house, &silent).await["error"], "upstream_timeout");
        later(120.0).await;
        for path in [&silent, &hangs, &breaks] {
            let ended = status(&house, path).await;
            assert_eq!((&ended["status"], &ended["attempts"]), (&"failed".into(), &2.into()));
        }
        house.at_rest().await;
    });
}

#[test]
fn an_upstream_that_is_down_is_looked_at_now_and_then_and_everything_is_done_when_it_is_back() {
    paused(async {
        let house = House::with_one_agent(&policy("workers: 5, attempts: 3, retry_delay: 10s", ""));
        house.agent.set_door("agent", Door::Refused);
        let mut paths = Vec::new();
        for id in 0..100 {
            paths.push(accept(&house, "", id, "/").await);
        }
        later(1800.0).await;
        let mut tries = 0;
        for path in &paths {
            let status = status(&house, path).await;
            tries += status["attempts"].as_u64().expect("a number");
            assert_ne!(status["status"], "failed", "nobody has used up all it has");
        }
        // Once a minute one has a look, each time another one; nobody else spends a try.
        assert!((20..=40).contains(&tries), "{tries} tries in half an hour");
        house.agent.set_door("agent", Door::Open);
        later(75.0).await;
        for path in &paths {
            assert_eq!(word(&house, path).await, "succeeded");
        }
        house.at_rest().await;
    });
}

#[test]
fn results_are_forgotten_after_their_time_and_failed_jobs_after_a_week() {
    paused(async {
        let house = House::with_one_agent(&policy("keep_results: 1h", ""));
        let good = accept(&house, "", 1, "/").await;
        let bad = accept(&house, "", 2, "/?status=500").await;
        later(3590.0).await;
        assert_eq!(house.get(&format!("{good}/result"), "").status().await, 200);
        later(20.0).await;
        assert_eq!(house.get(&good, "").status().await, 404);
        assert_eq!(house.get(&format!("{good}/result"), "").status().await, 404);
        later(6.0 * 86_400.0).await;
        assert_eq!(word(&house, &bad).await, "failed");
        later(2.0 * 86_400.0).await;
        assert_eq!(house.get(&bad, "").status().await, 404);
        let jobs = house.control.jobs.get().expect("a queue").census();
        assert_eq!((jobs.counts().map(|(_, count)| count).sum::<usize>(), jobs.bytes), (0, 0));
        house.at_rest().await;
    });
}

#[test]
fn a_drain_lets_finish_what_runs_and_calls_back_what_waits() {
    paused(async {
        let house = House::with_one_agent(&format!("server: {{drain_timeout: 1h}}\n{}", policy("", "")));
        let running = accept(&house, "a", 1, "/?think=50").await;
        let ordinary = house.turn("b", 2, "/?think=100");
        settle().await;
        let waiting = accept(&house, "b", 3, "/").await;
        let second = accept(&house, "a", 4, "/").await;
        settle().await;
        assert_eq!(house.control.admission.sessions.waiting(), 1);
        let control = house.control.clone();
        let (took, _) = timed(async move { control.drain(|| {}).await }).await;
        assert_took(took, 100.0);
        assert_eq!(ordinary.status().await, 200);
        let mut order = house.agent.order();
        order.sort();
        assert_eq!(order, ["1", "2"]);
        let jobs = house.control.jobs.get().expect("a queue");
        let stands = |path: &str| {
            let id = path.rsplit('/').next().and_then(turnwise::background::job::JobId::parse).expect("an id");
            let view = jobs.look(id).expect("it is here");
            (view.status.word(), view.attempts)
        };
        assert_eq!(stands(&running), ("succeeded", 1));
        assert_eq!([stands(&waiting), stands(&second)], [("queued", 0); 2], "as if they had never begun");
        house.at_rest().await;
    });
}

#[test]
fn a_job_that_joins_an_equal_request_has_its_answer_too() {
    paused(async {
        let policy = policy("", "").replace("queue_timeout: 1h", "queue_timeout: 1h, duplicates: join");
        let house = House::with_one_agent(&policy);
        let keyed = "X-Session-Id: s\r\nX-Id: 1\r\nIdempotency-Key: k\r\n";
        let ordinary = house.ask_from(1, "POST", "/?think=10&status=201", keyed, "{}");
        settle().await;
        let fields = format!("{keyed}Prefer: respond-async\r\n");
        let job = house.ask_from(1, "POST", "/?think=10&status=201", &fields, "{}").answer().await;
        let path = job.field("location").expect("Location").to_owned();
        later(11.0).await;
        assert_eq!(ordinary.status().await, 201);
        assert_eq!(word(&house, &path).await, "succeeded");
        let result = house.get(&format!("{path}/result"), "").answer().await;
        assert_eq!((result.status, result.field("turnwise-joined")), (201, Some("true")));
        assert_eq!(house.agent.seen().len(), 1);
        house.at_rest().await;
    });
}

#[test]
fn whatever_is_cancelled_and_whatever_fails_every_job_is_accounted_for() {
    // Seeds of their own, so that what fails can be run again by itself.
    for seed in 1..=8_u64 {
        paused(async move {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut chance = move |below: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % below
            };
            let house = House::with_one_agent(&policy("workers: 3, queue: 40, attempts: 3, retry_delay: 2s", ""));
            house.agent.allow("session:s0", 1);
            house.agent.allow("session:s1", 1);
            house.agent.allow("all", 6);
            let mut paths: Vec<String> = Vec::new();
            let (mut refused, mut ordinary) = (0, Vec::new());
            for id in 0..120 {
                let session = ["s0", "s1", ""][chance(3) as usize];
                let target = [
                    "/?think=1",
                    "/?think=3&status=503",
                    "/?status=500",
                    "/?pieces=2&every=1&then=break",
                    "/",
                    "/?think=8",
                ][chance(6) as usize];
                match chance(10) {
                    0 => ordinary.push(house.turn(if session.is_empty() { "x" } else { session }, id, "/?think=1")),
                    1 if !paths.is_empty() => {
                        let path = &paths[chance(paths.len() as u64) as usize];
                        let answer = house.ask_from(1, "DELETE", path, "", "").answer().await;
                        assert_eq!(answer.status, 200, "seed {seed}");
                    }
                    2 => later(chance(5000) as f64 / 1000.0).await,
                    _ => {
                        let answer = ask(&house, session, id, target, "respond-async").await;
                        match answer.status {
                            202 => paths.push(answer.field("location").expect("Location").to_owned()),
                            503 => {
                                assert_eq!(answer.reason(), "job_queue_full", "seed {seed}");
                                refused += 1;
                            }
                            other => panic!("{other} with seed {seed}"),
                        }
                    }
                }
            }
            later(2000.0).await;
            let mut counts = std::collections::BTreeMap::<String, usize>::new();
            for path in &paths {
                *counts.entry(word(&house, path).await).or_default() += 1;
            }
            let ended = ["succeeded", "failed", "cancelled"].map(|word| counts.get(word).copied().unwrap_or(0));
            assert_eq!(ended.iter().sum::<usize>(), paths.len(), "seed {seed}: {counts:?}, {refused} refused");
            assert!(ended.iter().all(|count| *count > 0), "seed {seed}: {counts:?}");
            for one in ordinary {
                assert_eq!(one.status().await, 200, "seed {seed}");
            }
            assert_eq!(house.agent.verdicts(), [""; 0], "seed {seed}");
            house.at_rest().await;
        });
    }
}
