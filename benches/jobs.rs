//! How many jobs are accepted a second, and how long a client waits until one is on disk: `cargo bench --bench jobs`.
//!
//! The same store, asked by one client that waits each time (a sync for every job) and by many at once (who share one).
//! `TMPDIR` says on which disk. Figures of one machine at one time; compare only what was measured in one run.

#![allow(clippy::print_stdout)] // figures are what it is for

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, Uri, Version};
use turnwise::background::job::{JobId, Owner, Request};
use turnwise::background::{Jobs, New, Place};
use turnwise::policy::Background;
use turnwise::telemetry::metrics::Metrics;

const JOBS: usize = 20_000;

fn new() -> New {
    let headers: HeaderMap = [("content-type", "application/json"), ("authorization", "Bearer 0123456789abcdef")]
        .into_iter()
        .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
        .collect();
    New {
        id: JobId::new(),
        owner: Owner::of(&headers),
        request: Request {
            method: Method::POST,
            uri: Uri::from_static("/api/v1/memories?user=1"),
            version: Version::HTTP_11,
            headers,
            body: vec![b'x'; 2048].into(),
            client: Ipv4Addr::LOCALHOST.into(),
            peer: Ipv4Addr::LOCALHOST.into(),
            peer_trusted: false,
            encrypted: false,
        },
        route: "runs".into(),
        upstream: "agents".into(),
        lane: None,
    }
}

async fn measure(clients: usize, jobs: usize) -> (f64, Vec<Duration>) {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Background {
        store: folder.path().into(),
        store_bytes: 1 << 40,
        workers: 1,
        queue: usize::MAX,
        attempts: 1,
        retry_delay: Duration::from_secs(1),
        keep_results: Duration::from_secs(1),
        max_result: 1,
    };
    let opened = Jobs::open(&settings, Place::Folder(folder.path().into()), Arc::new(Metrics::new()));
    let store = opened.unwrap_or_else(|why| panic!("{why}"));
    let began = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut waits = Vec::new();
                for _ in 0..jobs / clients {
                    let asked = Instant::now();
                    store.accept(new()).await.expect("it is accepted");
                    waits.push(asked.elapsed());
                }
                waits
            })
        })
        .collect();
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await.expect("no panic"));
    }
    let took = began.elapsed().as_secs_f64();
    waits.sort_unstable();
    store.close();
    (waits.len() as f64 / took, waits)
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    println!("{:>8}  {:>10}  {:>9}  {:>9}  {:>9}", "clients", "jobs/s", "mean ms", "50% ms", "99% ms");
    for clients in [1, 10, 100, 1000] {
        let jobs = if clients == 1 { JOBS / 10 } else { JOBS };
        let (rate, waits) = runtime.block_on(measure(clients, jobs));
        let millis = |wait: Duration| wait.as_secs_f64() * 1000.0;
        let mean = waits.iter().map(|wait| millis(*wait)).sum::<f64>() / waits.len() as f64;
        println!(
            "{clients:>8}  {rate:>10.0}  {mean:>9.2}  {:>9.2}  {:>9.2}",
            millis(waits[waits.len() / 2]),
            millis(waits[waits.len() * 99 / 100])
        );
    }
}
