//! The octets of a server through the whole gateway, in memory. What the client gets is sound; a broken answer never becomes a
//! complete one; and a connection is used again only after an answer that has clearly ended. An octet for how requests are
//! made, and then for each request: an octet for how its answer comes, its octets, and `\n===\n`.

use std::sync::LazyLock;
use std::time::Duration;

use crate::house::{House, Script, paused, policy};
use crate::reference::{self, Answer, Framing, Read};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turnwise::policy::compile::Compiled;

static POLICIES: LazyLock<[Compiled; 2]> = LazyLock::new(|| {
    [
        "routes: [{name: all}]",
        "routes: [{name: all, session: {key: [{header: X-Session-Id}], duplicates: join}, abandoned: finish}]",
    ]
    .map(policy)
});

const SEPARATOR: &[u8] = b"\n===\n";

/// The requests: HEAD and bodies have their own rules of framing.
const REQUESTS: [(&str, &str); 4] = [
    ("GET", "GET /a HTTP/1.1\r\nHost: a\r\nX-Session-Id: s\r\nTE: trailers\r\nConnection: TE\r\n\r\n"),
    ("POST", "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
    ("HEAD", "HEAD /c HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("GET", "GET /d HTTP/1.1\r\nHost: a\r\nX-Session-Id: s\r\n\r\n"),
];

fn scripts(mut input: &[u8]) -> Vec<Script> {
    let mut scripts = Vec::new();
    while let Some((how, rest)) = input.split_first() {
        let end = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        scripts.push(Script {
            octets: rest[..end.unwrap_or(rest.len())].to_vec(),
            piece: usize::from(how / 4) % 32,
            closes: how & 1 != 0,
            early: how & 2 != 0,
        });
        input = end.map_or(&[][..], |end| &rest[end + SEPARATOR.len()..]);
    }
    scripts
}

/// As the module says.
pub fn check(input: &[u8]) {
    let Some((how, rest)) = input.split_first() else { return };
    let mut scripts = scripts(rest);
    scripts.truncate(4);
    paused(async {
        let house = House::new(&POLICIES[usize::from(how % 2)]);
        house.agent.will_say(scripts.clone());
        for round in 0..scripts.len() + 1 {
            let (method, request) = REQUESTS[(usize::from(how / 2) + round) % REQUESTS.len()];
            let before = house.agent.seen().len();
            let said = ask(&house, method, request).await;
            let seen = house.agent.seen();
            // Retries are for connections that could not be made, which here they all can; a join for those at once.
            assert!(seen.len() <= before + 1, "{:?}", &seen[before..]);
            let script = seen.get(before).and(scripts.get(before));
            if let Some(script) = script {
                compare(method, script, &said);
            } else if seen.len() > before {
                let answer = whole(method, &said);
                assert_eq!(answer.field("x-agent"), Some(before.to_string()));
            }
            used_again(&house, before, &scripts);
        }
        tokio::time::sleep(Duration::from_secs(100)).await;
        house.at_rest().await;
    });
}

/// What comes back on a connection of its own, and some time to see what the server says after it.
async fn ask(house: &House, method: &str, request: &str) -> Vec<u8> {
    let mut stream = house.stream();
    stream.write_all(request.as_bytes()).await.expect("it is taken");
    let mut said = Vec::new();
    loop {
        let answered = matches!(last(method, &said), Some(Read::Whole(_)));
        // The shorter is more than all pieces take, and less than an idle connection is kept.
        let patience = Duration::from_secs(if answered { 10 } else { 24 * 3600 });
        let mut piece = [0; 4096];
        match tokio::time::timeout(patience, stream.read(&mut piece)).await {
            Err(_) => {
                assert!(answered, "nobody answers, nor closes: {}", said.escape_ascii());
                return said;
            }
            Ok(read) => match read.expect("it is in memory") {
                0 => return said,
                length => said.extend_from_slice(&piece[..length]),
            },
        }
    }
}

fn whole(method: &str, said: &[u8]) -> Answer {
    match last(method, said) {
        Some(Read::Whole(answer)) => answer,
        other => panic!("{other:?} of {}", said.escape_ascii()),
    }
}

/// The final answer among what was said.
fn last(method: &str, said: &[u8]) -> Option<Read<Answer>> {
    let mut at = 0;
    while at < said.len() {
        match reference::answer(said, at, method, true) {
            Read::Whole(interim) if interim.line.status < 200 => at = interim.end,
            Read::Whole(answer) => {
                assert_eq!(answer.end, said.len(), "octets after an answer: {}", said.escape_ascii());
                assert_ne!(answer.framing, Framing::ToTheEnd, "its end cannot be told: {}", said.escape_ascii());
                return Some(Read::Whole(answer));
            }
            Read::Bad(why, _) => panic!("{why}: {}", said.escape_ascii()),
            partial => return Some(partial),
        }
    }
    None
}

/// The final answer of a server, and whether the octets end with it.
fn of_server(method: &str, script: &Script) -> (Read<Answer>, bool) {
    let mut at = 0;
    loop {
        match reference::answer_of_server(&script.octets, at, method, script.closes) {
            Read::Whole(interim) if interim.line.status < 200 && interim.line.status != 101 => at = interim.end,
            Read::Whole(answer) => {
                let is_all = answer.end == script.octets.len();
                return (Read::Whole(answer), is_all);
            }
            other => return (other, false),
        }
    }
}

fn compare(method: &str, script: &Script, said: &[u8]) {
    let show = || format!("\nserver: {}\ngateway: {}", script.octets.escape_ascii(), said.escape_ascii());
    let (told, _) = of_server(method, script);
    let got = last(method, said);
    // Of the gateway itself: what a server says never comes without this.
    let is_own = |answer: &Answer| answer.values("via").next().is_none();
    match (got, told) {
        (None, _) | (Some(Read::Partial(None)), _) => panic!("no answer at all{}", show()),
        (Some(Read::Whole(own)), _) if is_own(&own) => assert!(matches!(own.line.status, 502 | 504), "{}", show()),
        (Some(Read::Whole(got)), Read::Whole(told)) => {
            assert_eq!((got.line.status, &got.body), (told.line.status, &told.body), "{}", show());
            assert_ne!(told.line.status, 101, "{}", show());
        }
        (Some(Read::Whole(_)), told) => panic!("{told:?} has become a complete answer{}", show()),
        (Some(Read::Partial(Some(got))), told) => {
            let told = match told {
                Read::Partial(Some(told)) | Read::Bad(_, Some(told)) => told,
                other => panic!("{other:?} was cut{}", show()),
            };
            assert_eq!(got.line.status, told.line.status, "{}", show());
            assert!(told.body.starts_with(&got.body), "{}", show());
        }
        (Some(Read::Bad(..)), _) => unreachable!("it has been told"),
    }
}

/// A request that comes over a connection on which another came before comes after a clean end of that one's answer.
fn used_again(house: &House, number: usize, scripts: &[Script]) {
    let seen = house.agent.seen();
    let Some(this) = seen.get(number) else { return };
    let Some(earlier) = seen[..number].iter().rposition(|other| other.connection == this.connection) else { return };
    let Some(script) = scripts.get(earlier) else { return };
    let (told, is_all) = of_server(&seen[earlier].request.line.method, script);
    let clean = matches!(&told, Read::Whole(answer) if answer.keeps() && answer.framing != Framing::ToTheEnd);
    assert!(clean && is_all && seen[earlier].whole && !script.closes, "used again after {told:?}");
}
