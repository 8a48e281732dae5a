//! The promise of the whole product, at once: 200 sessions of 50 turns from concurrent clients, and the upstream's own
//! record of them. No turn overlaps with another of its session, none is out of order, none lost, none run twice.

use std::collections::HashMap;

use super::by_header;
use crate::harness::recorder::Seen;
use crate::harness::{Connection, Gateway, Recorder, http2, post};

const SESSIONS: usize = 200;
const TURNS: usize = 50;

fn policy() -> String {
    format!("limits: {{ queue_timeout: 120s }}\n{}", by_header(", queue: 64, queue_timeout: 120s"))
}

#[track_caller]
fn judge(upstream: &Recorder) {
    let mut sessions: HashMap<String, Vec<Seen>> = HashMap::new();
    for seen in upstream.seen() {
        sessions.entry(seen.session()).or_default().push(seen);
    }
    assert_eq!(sessions.len(), SESSIONS);
    let expected: Vec<String> = (0..TURNS).map(|turn| format!("turn {turn}")).collect();
    for (session, turns) in sessions {
        let said: Vec<String> = turns.iter().map(Seen::text).collect();
        assert_eq!(said, expected, "{session}: lost, repeated or out of order");
        for pair in turns.windows(2) {
            assert!(pair[0].ended < Some(pair[1].started), "{session}: {:?} overlaps the next", pair[0].text());
        }
    }
    assert!(upstream.peak() <= 100, "over the global limit");
    assert!(upstream.peak() > 1, "sessions did not run side by side");
}

/// All 50 turns of a session at once, in order, as streams of one connection.
#[test]
fn over_http_2_all_turns_of_a_session_at_once() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy());
    let turns: Vec<&'static str> = (0..TURNS).map(|turn| &*format!("turn {turn}").leak()).collect();
    http2::run(async {
        let clients: Vec<_> = (0..SESSIONS)
            .map(|session| {
                let (address, turns) = (gateway.address, turns.clone());
                tokio::spawn(async move {
                    let mut sender = http2::connect(address).await;
                    let session = format!("session-{session}");
                    let fields = [("x-session-id", session.as_str()), ("x-do", "sleep 1; echo")];
                    let answers: Vec<_> =
                        turns.iter().map(|turn| sender.send_request(http2::post("/run", &fields, turn))).collect();
                    for (turn, answer) in turns.iter().zip(answers) {
                        let (status, body) = http2::whole(answer.await.expect("an answer")).await;
                        assert_eq!((status.as_u16(), &body[..]), (200, turn.as_bytes()));
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.expect("a client");
        }
    });
    judge(&upstream);
}

/// Each turn on another connection than the one before, sent as soon as the upstream has begun that one, so that there
/// is always a turn that runs and one that waits.
#[test]
fn over_http_1_from_connections_of_their_own() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy());
    std::thread::scope(|scope| {
        for session in 0..SESSIONS {
            let (upstream, address) = (&upstream, gateway.address);
            scope.spawn(move || {
                let mut connections = [Connection::open(address), Connection::open(address)];
                let session = format!("session-{session}");
                let mut asked = 0;
                for turn in 0..TURNS {
                    let tag = format!("{session}/{turn}");
                    let request = post("/run", format!("turn {turn}")).session(&session).header("X-Tag", &tag);
                    let connection = &mut connections[turn % 2];
                    if turn >= 2 {
                        connection.response().assert_ok();
                        asked -= 1;
                    }
                    connection.ask(&request.making("sleep 1"));
                    asked += 1;
                    if turn + 1 < TURNS {
                        upstream.wait_tag(&tag);
                    }
                }
                for turn in TURNS - asked..TURNS {
                    connections[turn % 2].response().assert_ok();
                }
            });
        }
    });
    judge(&upstream);
}
