use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Gateway, Recorder, get};

const CLIENTS: usize = 8;

fn policy(round: usize) -> String {
    format!(
        "limits: {{ concurrency: {} }}
routes:
  - {{ name: runs{}, match: {{ path_prefix: / }}, upstream: agents, concurrency: {}, session: {{ key: [{{ header: X-Session-Id }}], lane: all, queue: {} }} }}
",
        4 + round % 3,
        round % 2,
        4 + round % 4,
        20 + round % 5
    )
}

#[test]
fn two_hundred_reloads_lose_no_request() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy(0));
    let done = AtomicBool::new(false);
    let asked: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (gateway, done) = (&gateway, &done);
                scope.spawn(move || {
                    let mut connection = gateway.connect();
                    let session = format!("s{}", client / 2);
                    let mut asked = 0;
                    while !done.load(Ordering::SeqCst) {
                        let request = get(&format!("/{client}/{asked}")).session(&session);
                        connection.ask(&request.making("sleep 1")).response().assert_ok();
                        asked += 1;
                    }
                    asked
                })
            })
            .collect();
        for round in 1..=200 {
            gateway.reload(&upstream, &policy(round));
        }
        done.store(true, Ordering::SeqCst);
        clients.into_iter().map(|client| client.join().expect("no request was lost")).sum()
    });
    assert_eq!(upstream.count(), asked, "each exactly once");
    assert!(gateway.generation() >= 200.0);
    for session in 0..CLIENTS / 2 {
        let session = format!("s{session}");
        assert_eq!(upstream.peak_of(|seen| seen.session() == session), 1, "turns overlapped in {session}");
    }
    assert!(upstream.peak() <= 7);
}
