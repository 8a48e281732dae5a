//! What the mechanisms cost, each on its own: `cargo bench`.
//!
//! Figures of one machine at one time; compare only what was measured in one run.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use turnwise::limit::gate::Gate;
use turnwise::limit::keys::KeyBudget;
use turnwise::limit::lanes::Lanes;
use turnwise::limit::places::{FairKey, QueueLimits, Wish};
use turnwise::limit::rate::RateTable;
use turnwise::policy::{NormalPath, Policy, Target, compile::compile};
use turnwise::request::json_pointer;

fn lanes(c: &mut Criterion) {
    let mut group = c.benchmark_group("turn");
    for live in [10, 100_000, 1_000_000] {
        let lanes = Arc::new(Lanes::<u64, ()>::new(Arc::new(KeyBudget::new(usize::MAX))));
        let _held: Vec<_> = (0..live).map(|key| lanes.arrive(key, 1, 1, ())).collect();
        let mut key = live;
        group.bench_function(BenchmarkId::new("arrive and leave a lane of one's own, live sessions", live), |b| {
            b.iter(|| {
                key += 1;
                black_box(lanes.arrive(key, 1, 1, ()).is_ok())
            });
        });
    }
    for waiting in [10, 5_000] {
        let lanes = Arc::new(Lanes::<u64, ()>::new(Arc::new(KeyBudget::new(usize::MAX))));
        let _line: Vec<_> = (0..waiting).map(|_| lanes.arrive(1, 1, usize::MAX, ())).collect();
        group.bench_function(BenchmarkId::new("join and leave the end of a line, waiting", waiting), |b| {
            b.iter(|| black_box(lanes.arrive(1, 1, usize::MAX, ()).is_ok()));
        });
    }
    group.finish();
}

fn places(c: &mut Criterion) {
    let mut group = c.benchmark_group("place");
    for waiting in [0usize, 10, 5_000] {
        let limit = if waiting == 0 { 100 } else { 1 };
        let gate = Arc::new(Gate::new(limit, QueueLimits { all: usize::MAX, share: usize::MAX }));
        let (route, upstream) = (gate.add_scope(None), gate.add_scope(None));
        let wish = |key: usize| Wish { route, upstream, class: 1, key: FairKey(key as u64 % 16) };
        let _holder = (waiting > 0).then(|| gate.arrive(wish(0)));
        let _line: Vec<_> = (0..waiting).map(|key| gate.arrive(wish(key))).collect();
        group.bench_function(BenchmarkId::new("arrive and leave, waiting", waiting), |b| {
            b.iter(|| black_box(gate.arrive(wish(3)).is_ok()));
        });
    }
    group.finish();
}

fn rates(c: &mut Criterion) {
    let mut group = c.benchmark_group("rate");
    let burst = NonZeroU32::new(1_000_000).expect("not zero");
    for keys in [10u64, 1_000_000] {
        let table = RateTable::<u64>::new(Duration::from_nanos(1), burst, Arc::new(KeyBudget::new(usize::MAX)));
        for key in 0..keys {
            let _ = table.take(&key);
        }
        let mut key = 0;
        group.bench_function(BenchmarkId::new("take a token, keys", keys), |b| {
            b.iter(|| {
                key = (key + 7919) % keys;
                black_box(table.take(&key).is_ok())
            });
        });
    }
    group.finish();
}

fn session_keys(c: &mut Criterion) {
    let mut group = c.benchmark_group("JSON key");
    let pointer = ["session_id".to_owned()];
    let texts = [
        ("prose", "Lorem ipsum dolor sit amet, consectetur adipiscing elit.\\n\\n"),
        ("escapes", "lorem ipsum \\\"dolor\\\" "),
        ("escaped Chinese", "\\u8bf7\\u95ee\\u4eca\\u5929"),
        ("Chinese", "请问今天北京的天气怎么样？"),
        ("short messages", "\"},{\"role\":\"user\",\"content\":\"What is the weather in Paris today?"),
        ("numbers", "\",-0.0123456789,17,\""),
    ];
    for (what, text) in texts {
        for size in [1024, 64 * 1024] {
            let text = text.repeat(size / text.len());
            let body = format!(r#"{{"messages":[{{"content":"{text}"}}],"session_id":"abc"}}"#);
            let body = if what == "numbers" { body.replace(r#"{"content":"#, "[").replace("}]", "]]") } else { body };
            assert!(json_pointer::scalar(body.as_bytes(), &pointer).is_some(), "{what}: {body}");
            group.throughput(Throughput::Bytes(body.len() as u64));
            group.bench_function(BenchmarkId::new(what, size), |b| {
                b.iter(|| black_box(json_pointer::scalar(body.as_bytes(), &pointer)));
            });
        }
    }
    group.finish();
}

fn routes(c: &mut Criterion) {
    let mut group = c.benchmark_group("route");
    for routes in [1, 10, 100] {
        let policy = policy_of(routes);
        let text = format!("/api/v{}/agent/simple/run", routes - 1);
        group.bench_function(BenchmarkId::new("the last of", routes), |b| {
            b.iter_batched(
                HeaderMap::new,
                |headers| {
                    let path = NormalPath::parse(&text).expect("a path");
                    let target = Target { method: &Method::POST, host: None, path: &path, headers: &headers };
                    black_box(policy.route(&target))
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn policy_of(routes: usize) -> Policy {
    let mut text = "upstreams: { a: { servers: ['http://127.0.0.1:1'] } }\nroutes:\n".to_owned();
    for route in 0..routes {
        text.push_str(&format!("  - {{ name: r{route}, match: {{ path: '/api/v{route}/agent/{{agent}}/run' }} }}\n"));
    }
    compile("bench", text.as_bytes(), &|_| None).expect("a good policy").policy
}

criterion_group!(benches, lanes, places, rates, session_keys, routes);
criterion_main!(benches);
