//! The octets of a client through the whole gateway, in memory. What reaches the agent is exactly the requests that a strict
//! reader finds in those octets, up to the first that is refused, each soundly framed anew; and afterwards the gateway is at
//! rest. An octet for the policy, one for the pieces, then the octets of the connection.

use std::sync::LazyLock;
use std::time::Duration;

use crate::house::{House, paused, policy};
use crate::reference::{self, Answer, Framing, Read, Request, origin_form};
use turnwise::policy::compile::Compiled;

/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

static POLICIES: LazyLock<[Compiled; 4]> = LazyLock::new(|| {
    [
        "routes: [{name: all}]",
        "routes: [{name: all, session: {key: [{header: X-Session-Id}, {json: /s}, {form: s}, {query: s}, {cookie: s}],
          within: [{header: X-Api-Key}], reentrant: true, when_busy_choices: [reject, replace]}}]",
        "server: {max_header_bytes: 1KiB}
routes:
  - {name: some, match: {path: '/a/{x}', methods: [GET, POST]}, body_limit: 100, session: {key: [{path: x}], anonymous: reject}}
  - {name: all, body_limit: 200, rate_limits: [{per: client_ip, rate: 1/s, burst: 2}]}",
        "routes: [{name: all, session: {key: [{json: /s}], assign: {header: X-Session-Id}, while_waiting: comments},
          rate_limits: [{per: session, rate: 10/s, burst: 1, when_exceeded: wait}]}]",
    ]
    .map(policy)
});

/// Of the gateway itself.
fn is_own(answer: &Answer) -> bool {
    answer.values("x-agent").next().is_none()
}

/// Whether a request goes on as it came.
fn is_same(sent: &Request, seen: &Request) -> bool {
    sent.line.method == seen.line.method
        && origin_form(&sent.line.target) == seen.line.target
        && sent.body == seen.body
        && (sent.field("host") == seen.field("host")
            || sent.field("host").is_none()
            || !sent.line.target.starts_with('/'))
}

/// As the module says.
pub fn check(input: &[u8]) {
    let [which, pieces, octets @ ..] = input else { return };
    paused(async {
        let house = House::new(&POLICIES[usize::from(which % 4)]);
        let size = if *pieces == 0 { usize::MAX } else { usize::from(*pieces) };
        let pause = Duration::from_millis(if which & 4 == 0 { 0 } else { 1 });
        let said = house.converse(octets.chunks(size), pause).await;
        // Time for what was given up.
        tokio::time::sleep(Duration::from_secs(100)).await;
        framing_at_the_agent(&house);
        // Another protocol is not for this reader.
        if !octets.starts_with(b"PRI * HTTP/2.0") {
            answers(&house, octets, &said);
        }
        house.at_rest().await;
    });
}

/// All that comes to the agent is sound.
fn framing_at_the_agent(house: &House) {
    for octets in house.agent.connections() {
        let found = reference::requests(&octets);
        assert!(!found.last_closes, "{}", octets.escape_ascii());
        let partial = match &found.rest {
            Read::Partial(partial) => partial.as_ref(),
            other => panic!("{other:?} of {}", octets.escape_ascii()),
        };
        for request in found.whole.iter().chain(partial) {
            assert!(request.is_11 && request.values("host").count() == 1);
            let target = &request.line.target;
            assert!(target.starts_with('/') || target == "*", "{}", octets.escape_ascii());
            match request.framing {
                Framing::Length(_) | Framing::None => {}
                Framing::Chunked => assert!(request.values("transfer-encoding").eq([b"chunked"])),
                Framing::ToTheEnd => unreachable!("requests have no such framing"),
            }
        }
    }
}

fn answers(house: &House, octets: &[u8], said: &[u8]) {
    let show = || format!("\nclient: {}\ngateway: {}", octets.escape_ascii(), said.escape_ascii());
    let sent = reference::requests(octets);
    let seen = house.agent.seen();
    let partial = match &sent.rest {
        Read::Bad(_, partial) | Read::Partial(partial) => partial.as_ref(),
        Read::Whole(_) => unreachable!("it is among the others"),
    };
    // Where what is no whole request begins.
    let mut from = sent.whole.last().map_or(0, |last| last.end);
    while let Some(b'\r' | b'\n') = octets.get(from) {
        from += 1;
    }
    let (mut at, mut number, mut taken, mut closed) = (0, 0, 0, false);
    while at < said.len() {
        let request = sent.whole.get(number).or(partial.filter(|_| number == sent.whole.len()));
        let method = request.map_or("GET", |request| &request.line.method);
        let answer = match reference::answer(said, at, method, true) {
            Read::Whole(answer) => answer,
            // To a bad head, of which the gateway knew the method nevertheless.
            Read::Partial(Some(head)) if request.is_none() && octets[from..].starts_with(b"HEAD ") => head,
            other => panic!("answer {number} is {other:?}{}", show()),
        };
        at = answer.end;
        if answer.line.status < 200 {
            assert_eq!(answer.line.status, 100, "nobody has said it{}", show());
            continue;
        }
        // A request whose body is whole and whose trailers are bad may be served; then it is the last.
        let spoilt = partial.filter(|request| request.in_trailers && matches!(sent.rest, Read::Bad(..)));
        let served = sent.whole.get(number).or(spoilt.filter(|_| number == sent.whole.len()));
        assert!(number <= sent.whole.len() + usize::from(spoilt.is_some()), "more answers than requests{}", show());
        if served.is_none() || (number == sent.whole.len() && is_own(&answer)) {
            assert!(!sent.last_closes, "an answer after the last request{}", show());
            assert!(is_own(&answer) && answer.line.status >= 400, "a request that is none is answered{}", show());
            // Whoever is refused by his head may not be known to send a bad body yet.
            assert!(at == said.len(), "the connection goes on after a bad request{}", show());
            assert!(!answer.keeps() || partial.is_some(), "the connection seems to go on{}", show());
        } else if let Some(served) = served.filter(|_| !is_own(&answer)) {
            let as_seen = seen.get(taken).unwrap_or_else(|| panic!("nobody has made this answer{}", show()));
            assert_eq!(answer.field("x-agent"), Some(taken.to_string()), "{}", show());
            assert!(as_seen.whole, "{}", show());
            assert!(is_same(served, &as_seen.request), "{:?}{}", as_seen.request, show());
            taken += 1;
        } else {
            assert!(answer.line.status >= 400, "{}", show());
            // The agent has seen no more than a part of what was refused.
            if let Some(as_seen) = seen.get(taken)
                && !as_seen.whole
            {
                taken += 1;
            }
        }
        number += 1;
        closed = !answer.keeps();
    }
    // What the agent has seen besides is the beginning of a request that never became whole.
    for as_seen in &seen[taken..] {
        assert!(!as_seen.whole, "nobody has sent {:?}{}", as_seen.request, show());
    }
    assert!(seen.len() - taken <= 1, "{:?}{}", &seen[taken..], show());
    // hyper closes without a word where the preface of HTTP/2 stands behind a head that it cannot take.
    let is_told_nothing = octets.windows(PREFACE.len()).any(|window| window == PREFACE);
    assert!(closed || number >= sent.whole.len() || is_told_nothing, "a request without an answer{}", show());
}
