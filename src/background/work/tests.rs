//! Jobs on a small disk, and before a gate, run by a service that answers as it is told.

use std::collections::HashMap;
use std::future::Future;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};

use super::super::job::{JobId, Owner};
use super::super::store::tests::Disk;
use super::super::{Census, New, NotAccepted, Place};
use super::*;
use crate::policy::Background;
use crate::sync::Mutex;
use crate::telemetry::metrics::Metrics;

/// What a test waits for comes long before.
const BOUND: Duration = Duration::from_secs(60);

/// Counts its tries by job, in their order, and has `answer` say what comes of them.
struct Service<F> {
    tries: Mutex<Vec<String>>,
    answer: F,
}

impl<F: Fn(&str) -> Attempt + Send + Sync + 'static> Run for Service<F> {
    fn run(&self, request: Request, _: Arc<Stop>) -> Pin<Box<dyn Future<Output = Tried> + Send>> {
        let path = request.uri.path().to_owned();
        let attempt = (self.answer)(&path);
        self.tries.lock().push(path);
        Box::pin(std::future::ready(Tried { attempt, upstream: Some("u".into()) }))
    }
}

fn answers(length: usize) -> Attempt {
    let (status, headers) = (StatusCode::OK, HeaderMap::new());
    Attempt::Answered(Answer { status, headers, body: Bytes::from(vec![b'z'; length]) })
}

fn open(place: Place) -> Arc<Jobs> {
    let settings = Background {
        store: PathBuf::new(),
        store_bytes: 1 << 30,
        workers: 4,
        queue: 5000,
        attempts: 3,
        retry_delay: Duration::from_secs(1),
        keep_results: Duration::from_secs(3600),
        max_result: 1 << 20,
    };
    Jobs::open(&settings, place, Arc::new(Metrics::new())).expect("it opens")
}

fn new(number: usize, body: usize) -> New {
    let request = Request {
        method: Method::POST,
        uri: format!("/{number}").parse().expect("a path"),
        version: Version::HTTP_11,
        headers: HeaderMap::new(),
        body: Bytes::from(vec![b'x'; body]),
        client: Ipv4Addr::LOCALHOST.into(),
        peer: Ipv4Addr::LOCALHOST.into(),
        peer_trusted: false,
        encrypted: false,
    };
    let owner = Owner::of(&HeaderMap::new());
    New { id: JobId::new(), owner, request, route: "r".into(), upstream: "u".into(), lane: None }
}

fn count(census: &Census, of: impl Fn(Status) -> bool) -> usize {
    census.counts().filter(|(status, _)| of(*status)).map(|(_, count)| count).sum()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let bound = time::after(time::now(), BOUND);
    while !done() {
        assert!(time::now() < bound, "not within {BOUND:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Jobs with bodies and answers of such lengths, on a disk of 6 MB, until it takes no more; then they are run.
/// Returns how many of how many have kept their answer.
fn fill_and_run(body: usize, answer: usize) -> (usize, usize) {
    let disk = Disk::of_size(6 << 20);
    let ended = block_on(async {
        let jobs = open(Place::Disk(disk.clone()));
        let mut accepted = Vec::new();
        for number in 0..300 {
            let new = new(number, body);
            let id = new.id;
            match jobs.accept(new).await {
                Ok(()) => accepted.push(id),
                Err(NotAccepted::StoreFull { .. }) => break,
                Err(other) => panic!("{other:?} after {number}"),
            }
        }
        let service = Arc::new(Service { tries: Mutex::default(), answer: move |_: &str| answers(answer) });
        let working = tokio::spawn(jobs.clone().work(service.clone()));
        until("all have ended", || count(&jobs.census(), Status::has_ended) == accepted.len()).await;
        working.abort();
        assert_eq!(service.tries.lock().len(), accepted.len(), "each was run once");
        let mut ended = HashMap::new();
        for id in accepted {
            let view = jobs.look(id).expect("it is here");
            assert_eq!(view.status, Status::Succeeded);
            let kept = jobs.answer(id).await.expect("readable").map(|answer| answer.body.len());
            assert!(kept.is_none_or(|length| length == answer));
            assert_eq!(view.error.as_deref(), if kept.is_some() { None } else { Some("result_not_kept") });
            ended.insert(id, kept);
        }
        jobs.close();
        ended
    });
    // What was told is on disk.
    block_on(async {
        let jobs = open(Place::Disk(disk));
        for (id, kept) in &ended {
            assert_eq!(jobs.look(*id).map(|view| view.status), Some(Status::Succeeded));
            assert_eq!(jobs.answer(*id).await.expect("readable").map(|answer| answer.body.len()), *kept);
        }
    });
    (ended.values().filter(|kept| kept.is_some()).count(), ended.len())
}

#[test]
fn jobs_that_fill_a_disk_leave_room_for_what_comes_of_them() {
    let (kept, all) = fill_and_run(60_000, 2);
    assert!(all >= 20, "only {all} of 60 kB were accepted on a disk of 6 MB");
    assert_eq!(kept, all);
}

#[test]
fn answers_that_a_disk_has_no_room_for_are_left_out_and_their_jobs_end() {
    let (kept, all) = fill_and_run(2_000, 60_000);
    assert!(all >= 100 && kept >= 20 && kept < all, "{kept} of {all}");
}

#[test]
fn a_disk_that_takes_nothing_for_a_moment_costs_no_answer() {
    block_on(async {
        let disk = Disk::of_size(6 << 20);
        let jobs = open(Place::Disk(disk.clone()));
        let new = new(1, 100);
        let id = new.id;
        jobs.accept(new).await.expect("there is room");
        // Others have taken all that was left.
        disk.resize(0);
        let service = Arc::new(Service { tries: Mutex::default(), answer: |_: &str| answers(60_000) });
        let working = tokio::spawn(jobs.clone().work(service.clone()));
        until("it was run", || !service.tries.lock().is_empty()).await;
        assert!(!jobs.look(id).expect("it is here").status.has_ended(), "nobody is told what is not on disk");
        disk.resize(6 << 20);
        until("it has ended", || jobs.look(id).is_some_and(|view| view.status.has_ended())).await;
        working.abort();
        let answer = jobs.answer(id).await.expect("readable").expect("kept");
        assert_eq!((answer.body.len(), service.tries.lock().len()), (60_000, 1));
    });
}

#[test]
fn a_limit_of_the_route_that_rejects_keeps_the_order_of_jobs() {
    block_on(async {
        let jobs = open(Place::Memory);
        for number in 0..40 {
            jobs.accept(new(number, 1)).await.expect("there is room");
        }
        // One token each 20 ms, whoever comes first.
        let token = Mutex::new(time::now());
        let order = Arc::new(Mutex::new(Vec::new()));
        let let_in = order.clone();
        let answer = move |path: &str| {
            let (mut token, now) = (token.lock(), time::now());
            if now < *token {
                return Attempt::RouteShut { asked: *token - now };
            }
            *token = time::after(now, Duration::from_millis(20));
            let_in.lock().push(path.trim_start_matches('/').parse::<usize>().expect("a number"));
            answers(1)
        };
        let service = Arc::new(Service { tries: Mutex::default(), answer });
        let working = tokio::spawn(jobs.clone().work(service.clone()));
        // Those that come meanwhile do not go before those that wait.
        for number in 40..80 {
            jobs.accept(new(number, 1)).await.expect("there is room");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        until("all have ended", || count(&jobs.census(), Status::has_ended) == 80).await;
        working.abort();
        let order = order.lock().clone();
        // Four come to the gate at once, and nobody can say which of them is first; those that it sends back can.
        let apart = order.iter().enumerate().map(|(place, number)| place.abs_diff(*number)).max();
        assert!(apart <= Some(4), "{order:?}");
    });
}
