//! Both directions once more, field by field as the documentation tells it, without regard to what it costs.

use proptest::prelude::*;

use super::*;

const OF_CONNECTION: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-authentication-info",
];

/// The members of all lines that are ASCII.
fn members(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|member| member.trim().to_ascii_lowercase()).collect()
}

fn strip_connection(headers: &mut HeaderMap, keep: impl Fn(&HeaderName) -> bool) {
    let end_to_end = ["content-length", "content-type", "content-encoding", "cache-control", "set-cookie"];
    for name in members(headers, "connection").iter().filter_map(|name| name.parse::<HeaderName>().ok()) {
        if !end_to_end.contains(&name.as_str()) && !keep(&name) {
            headers.remove(name);
        }
    }
    OF_CONNECTION.iter().for_each(|name| drop(headers.remove(*name)));
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    headers.remove(name);
    headers.insert(name, value.parse().expect("a field value"));
}

fn plain_to_upstream(headers: &mut HeaderMap, inbound: &Inbound<'_>) {
    inbound.known.drop_misspelt(headers);
    let trailers = members(headers, "te").iter().any(|member| member == "trailers");
    strip_connection(headers, |name| inbound.known.reads(name));
    for name in ["host", "content-length", "turnwise-turn", "turnwise-session"] {
        headers.remove(name);
    }
    if headers.get("expect").is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        headers.remove("expect");
    }
    if trailers {
        put(headers, "te", "trailers");
    }
    if !inbound.to_http2 {
        headers.insert("host", inbound.host.clone());
        let upgrade = inbound.upgrade.map(|protocol| headers.insert("upgrade", protocol.clone())).map(|_| "upgrade");
        let nominated: Vec<_> = upgrade.into_iter().chain(trailers.then_some("te")).collect();
        if !nominated.is_empty() {
            put(headers, "connection", &nominated.join(", "));
        }
    }
    match inbound.framing {
        Framing::NoBody => {}
        Framing::Length(length) => put(headers, "content-length", &length.to_string()),
        Framing::Chunked if inbound.to_http2 => {}
        Framing::Chunked => put(headers, "transfer-encoding", "chunked"),
    }
    plain_way(headers, inbound);
    let version = if inbound.version == Version::HTTP_2 { "2.0" } else { "1.1" };
    headers.append("via", format!("{version} turnwise").parse().expect("a field value"));
    put(headers, "x-request-id", inbound.request_id.as_str());
    continue_trace(headers);
}

fn plain_way(headers: &mut HeaderMap, inbound: &Inbound<'_>) {
    if !inbound.peer_trusted {
        for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"] {
            headers.remove(name);
        }
    }
    let (peer, client) = (inbound.hop.address(), inbound.client);
    let node = |address: IpAddr| if address.is_ipv6() { format!("\"[{address}]\"") } else { address.to_string() };
    let host = inbound.host.to_str().expect("ASCII");
    let host = if host.contains([':', '[']) { format!("\"{host}\"") } else { host.to_owned() };
    let hop = format!("for={};host={host};proto=http", node(peer));
    for (name, last, first) in
        [("x-forwarded-for", peer.to_string(), client.to_string()), ("forwarded", hop, format!("for={}", node(client)))]
    {
        let told = headers.get_all(name).iter().filter(|line| !line.is_empty());
        let mut list: Vec<_> = told.map(|line| line.as_bytes().to_vec()).collect();
        if list.is_empty() && client != peer {
            list.push(first.into_bytes());
        }
        list.push(last.into_bytes());
        headers.insert(name, HeaderValue::from_bytes(&list.join(&b", "[..])).expect("a field value"));
    }
    headers.entry("x-forwarded-proto").or_insert(HeaderValue::from_static("http"));
    headers.entry("x-forwarded-host").or_insert(inbound.host.clone());
}

fn plain_to_client(headers: &mut HeaderMap, outbound: &Outbound<'_>) {
    let upgrade = headers.get("upgrade").filter(|_| outbound.status == 101).cloned();
    strip_connection(headers, |_| false);
    for name in ["turnwise-turn", "turnwise-joined", "turnwise-session"] {
        headers.remove(name);
    }
    let length = content_length(headers);
    headers.remove("content-length");
    if let (Ok(Some(length)), false) = (length, outbound.status.is_informational() || outbound.status == 204) {
        put(headers, "content-length", &length.to_string());
    }
    if let Some(protocol) = upgrade {
        headers.insert("upgrade", protocol);
        put(headers, "connection", "upgrade");
    }
    headers.append("via", HeaderValue::from_static("1.1 turnwise"));
    put(headers, "x-request-id", outbound.request_id.as_str());
    headers.append("server-timing", HeaderValue::from_static("queue;dur=1.0, upstream;dur=2.0"));
}

/// A message with fields that are treated in some way, a few of them twice, and others.
fn message() -> impl Strategy<Value = HeaderMap> {
    const OTHERS: [&str; 28] = [
        "turnwise-joined",
        "host",
        "content-length",
        "expect",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "traceparent",
        "tracestate",
        "turnwise-turn",
        "turnwise-session",
        "via",
        "x-request-id",
        "server-timing",
        "content-type",
        "set-cookie",
        "authorization",
        "user-agent",
        "x-session-id",
        "x_session_id",
        "my_tenant",
        "content_length",
        "other_field",
        "x-other",
        "close",
        "trailer",
        "x-session_id",
    ];
    const VALUES: [&str; 19] = [
        "",
        "0",
        "7",
        "07",
        "close",
        "keep-alive",
        "Keep-Alive, Upgrade",
        "x-other, content-type, x-session-id, via, x_session_id",
        "via, x-request-id, server-timing, content-length, expect",
        "@@,, host",
        "trailers",
        "gzip, Trailers",
        "100-Continue",
        "chunked",
        "websocket",
        "1.1.1.1",
        "a, b",
        "\u{e4}",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ];
    let names: Vec<_> = OF_CONNECTION.into_iter().chain(OTHERS).chain(["connection", "content-length"]).collect();
    let field = (prop::sample::select(names), prop::sample::select(&VALUES[..]));
    prop::collection::vec(field, 0..14).prop_map(|lines| fields(&lines))
}

fn inbound(
    number: u64,
    hop: &Hop,
    check: impl FnOnce(&Inbound<'_>) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let odd = |bit: u32| number >> bit & 1 == 1;
    let (peer_trusted, to_http2) = (odd(0), odd(1));
    let hosts = ["a.example", "a.example:8080", "[::1]:80"];
    check(&Inbound {
        version: if odd(2) { Version::HTTP_2 } else { Version::HTTP_11 },
        hop,
        peer_trusted,
        client: if peer_trusted && odd(3) { IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]) } else { hop.address() },
        host: &HeaderValue::from_static(hosts[(number >> 8) as usize % 3]),
        request_id: &RequestId::of(&HeaderMap::new()),
        upgrade: (odd(4) && !to_http2).then_some(&WEBSOCKET),
        to_http2,
        framing: [Framing::NoBody, Framing::Chunked, Framing::Length(7), Framing::Length(0)]
            [(number >> 5) as usize % 4],
        known: &known(),
    })
}

/// A trace that was begun has another name each time.
fn forget_new_trace(headers: &mut HeaderMap) {
    if headers.get("traceparent").is_some_and(|own| own.len() == 55 && !own.as_bytes().starts_with(b"00-4bf92f35")) {
        headers.remove("traceparent");
    }
}

proptest! {
    #[test]
    fn a_request_goes_up_as_told_plainly(messages in prop::collection::vec((message(), any::<u64>()), 1..4)) {
        let hop = Hop::new(IpAddr::from([192, 0, 2, 1]), "http");
        for (message, number) in messages {
            inbound(number, &hop, |inbound| {
                let (mut quick, mut plain) = (message.clone(), message);
                to_upstream(&mut quick, inbound);
                plain_to_upstream(&mut plain, inbound);
                prop_assert!(quick.contains_key("traceparent"));
                [&mut quick, &mut plain].into_iter().for_each(forget_new_trace);
                prop_assert_eq!(quick, plain);
                Ok(())
            })?;
        }
    }

    #[test]
    fn an_answer_comes_down_as_told_plainly(message in message(), status in prop::sample::select(&[101_u16, 200, 204, 304][..])) {
        let outbound = Outbound {
            status: status_of(status),
            version: Version::HTTP_11,
            request_id: &RequestId::of(&HeaderMap::new()),
            queued: Duration::from_millis(1),
            upstream: Duration::from_millis(2),
        };
        let (mut quick, mut plain) = (message.clone(), message);
        to_client(&mut quick, &outbound);
        plain_to_client(&mut plain, &outbound);
        prop_assert_eq!(quick, plain);
    }
}
