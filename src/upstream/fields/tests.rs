use bytes::Bytes;
use http_body_util::{Empty, Full};
use proptest::prelude::*;

use super::*;

mod plain;

static WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_str(value).expect("a field value"));
    }
    headers
}

/// All lines of one field, as the upstream would see them.
fn lines(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|line| line.to_str().expect("ASCII").to_owned()).collect()
}

fn known() -> KnownFields {
    let names = ["x-session-id", "my_tenant"].map(HeaderName::from_static);
    KnownFields::reading(names.into_iter())
}

/// Sends fields up from 192.0.2.1, with what a test wants to be different.
fn sent(lines: &[(&'static str, &str)], change: impl for<'r> FnOnce(Inbound<'r>) -> Inbound<'r>) -> HeaderMap {
    let mut headers = fields(lines);
    let inbound = Inbound {
        version: Version::HTTP_11,
        hop: &Hop::new(IpAddr::from([192, 0, 2, 1]), "http"),
        peer_trusted: false,
        client: IpAddr::from([192, 0, 2, 1]),
        host: &HeaderValue::from_static("a.example:8080"),
        request_id: &RequestId::of(&fields(&[("x-request-id", "r1")])),
        upgrade: None,
        to_http2: false,
        framing: Framing::NoBody,
        known: &known(),
    };
    to_upstream(&mut headers, &change(inbound));
    headers
}

fn plainly(lines: &[(&'static str, &str)]) -> HeaderMap {
    sent(lines, |inbound| inbound)
}

fn status_of(code: u16) -> StatusCode {
    StatusCode::from_u16(code).expect("a status")
}

fn answered(lines: &[(&'static str, &str)], status: u16) -> HeaderMap {
    let mut headers = fields(lines);
    let outbound = Outbound {
        status: status_of(status),
        version: Version::HTTP_2,
        request_id: &RequestId::of(&fields(&[("x-request-id", "r1")])),
        queued: Duration::from_micros(1234),
        upstream: Duration::from_millis(20),
    };
    to_client(&mut headers, &outbound);
    headers
}

#[test]
fn fields_of_the_connection_end_at_it() {
    let headers = plainly(&[
        ("connection", "close, X-Mine, @@, keep-alive"),
        ("x-mine", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("te", "gzip"),
        ("upgrade", "h2c"),
        ("http2-settings", "x"),
        ("proxy-authorization", "Basic x"),
        ("expect", "100-Continue"),
        ("x-other", "2"),
    ]);
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    let made = ["forwarded", "host", "traceparent", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
    assert_eq!(names, [&made[..], &["x-other", "x-request-id"]].concat());
}

#[test]
fn connection_cannot_take_away_what_is_read() {
    let named =
        "host, authorization, x-session-id, my_tenant, x-request-id, x-forwarded-for, content-length, traceparent";
    let headers =
        sent(&[("connection", named), ("authorization", "a"), ("x-session-id", "s"), ("my_tenant", "t")], |inbound| {
            Inbound { framing: Framing::Length(3), ..inbound }
        });
    for name in named.split(", ") {
        assert!(headers.contains_key(name), "{name}");
    }
    assert!(!headers.contains_key("connection"));
}

#[test]
fn trailers_and_upgrades_are_asked_for_anew() {
    let lines_of = |headers: &HeaderMap| ["te", "connection", "upgrade"].map(|name| lines(headers, name).concat());
    let asked = [("te", "gzip, Trailers"), ("connection", "te, upgrade"), ("upgrade", "websocket")];
    assert_eq!(lines_of(&plainly(&asked)), ["trailers", "te", ""]);
    let upgraded = sent(&asked[1..], |inbound| Inbound { upgrade: Some(&WEBSOCKET), ..inbound });
    assert_eq!(lines_of(&upgraded), ["", "upgrade", "websocket"]);
    let over_http2 = sent(&asked, |inbound| Inbound { to_http2: true, framing: Framing::Chunked, ..inbound });
    assert_eq!(lines_of(&over_http2), ["trailers", "", ""]);
    assert!(!over_http2.contains_key("host") && !over_http2.contains_key("transfer-encoding"));
}

#[test]
fn framing_and_host_are_made_anew() {
    let client = [("host", "b"), ("content-length", "9"), ("transfer-encoding", "chunked")];
    for (framing, length, coding) in [
        (Framing::NoBody, vec![], vec![]),
        (Framing::Length(0), vec!["0"], vec![]),
        (Framing::Chunked, vec![], vec!["chunked"]),
    ] {
        let headers = sent(&client, |inbound| Inbound { framing, ..inbound });
        assert_eq!(lines(&headers, "content-length"), length);
        assert_eq!(lines(&headers, "transfer-encoding"), coding);
        assert_eq!(lines(&headers, "host"), ["a.example:8080"]);
    }
}

#[test]
fn the_framing_is_that_of_the_body() {
    let (none, zero) = (HeaderMap::new(), fields(&[("content-length", "0")]));
    assert_eq!(Framing::of(&none, &Empty::<Bytes>::new()), Framing::NoBody);
    assert_eq!(Framing::of(&zero, &Empty::<Bytes>::new()), Framing::Length(0));
    assert_eq!(Framing::of(&none, &Full::new(Bytes::from_static(b"abc"))), Framing::Length(3));
    let streamed =
        http_body_util::StreamBody::new(futures_util::stream::empty::<Result<http_body::Frame<Bytes>, ()>>());
    assert_eq!(Framing::of(&none, &streamed), Framing::Chunked);
}

#[test]
fn what_an_untrusted_peer_says_about_the_way_is_dropped() {
    let told = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("forwarded", "for=6.6.6.6"),
    ];
    let headers = plainly(&told);
    assert_eq!(lines(&headers, "x-forwarded-for"), ["192.0.2.1"]);
    assert_eq!(lines(&headers, "x-forwarded-proto"), ["http"]);
    assert_eq!(lines(&headers, "x-forwarded-host"), ["a.example:8080"]);
    assert_eq!(lines(&headers, "forwarded"), ["for=192.0.2.1;host=\"a.example:8080\";proto=http"]);
}

fn trusted(inbound: Inbound<'_>) -> Inbound<'_> {
    let client = "2001:db8::1".parse().expect("an address");
    Inbound { peer_trusted: true, client, ..inbound }
}

#[test]
fn what_a_trusted_peer_says_about_the_way_is_extended() {
    let told = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "2001:db8::1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "b"),
    ];
    let headers = sent(&told, trusted);
    assert_eq!(lines(&headers, "x-forwarded-for"), ["6.6.6.6, 2001:db8::1, 192.0.2.1"]);
    assert_eq!(lines(&headers, "x-forwarded-proto"), ["https"]);
    assert_eq!(lines(&headers, "x-forwarded-host"), ["b"]);
    let begun = "for=\"[2001:db8::1]\", for=192.0.2.1;host=\"a.example:8080\";proto=http";
    assert_eq!(lines(&headers, "forwarded"), [begun]);
    let headers = sent(&[("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "")], trusted);
    assert_eq!(lines(&headers, "x-forwarded-for"), ["2001:db8::1, 192.0.2.1"]);
    assert_eq!(lines(&headers, "forwarded"), ["for=6.6.6.6, for=192.0.2.1;host=\"a.example:8080\";proto=http"]);
}

#[test]
fn a_field_that_is_read_is_dropped_when_spelt_with_underscores() {
    for name in ["content_length", "transfer_encoding", "x_session-id", "x_forwarded_for", "turnwise_turn", "x_api_key"]
    {
        assert!(!plainly(&[(name, "1")]).contains_key(name), "{name}");
    }
    let headers = plainly(&[("my_tenant", "1"), ("other_field", "2"), ("x-session-id", "3")]);
    assert!(["my_tenant", "other_field", "x-session-id"].iter().all(|name| headers.contains_key(*name)));
}

#[test]
fn a_length_that_stands_as_it_would_be_written_stays() {
    let length = Framing::Length(10);
    for client in [&["10"][..], &["010"], &["10", "10"], &["9"], &[]] {
        let client: Vec<_> = client.iter().map(|&line| ("content-length", line)).collect();
        let headers = sent(&client, |inbound| Inbound { framing: length, ..inbound });
        assert_eq!(lines(&headers, "content-length"), ["10"], "{client:?}");
    }
}

#[test]
fn turns_and_sessions_of_clients_are_not_forwarded() {
    let headers = plainly(&[("turnwise-turn", "t"), ("turnwise-session", "s")]);
    assert!(!headers.contains_key(TURNWISE_TURN) && !headers.contains_key(TURNWISE_SESSION));
}

#[test]
fn the_way_and_the_ids_are_told() {
    let headers = sent(&[("via", "1.0 other"), ("x-request-id", "a b")], |inbound| Inbound {
        version: Version::HTTP_2,
        ..inbound
    });
    assert_eq!(lines(&headers, "via"), ["1.0 other", "2.0 turnwise"]);
    assert_eq!(lines(&headers, "x-request-id"), ["r1"]);
    assert_eq!(lines(&headers, "traceparent").len(), 1);
}

#[test]
fn an_answer_loses_what_is_of_the_connection_and_keeps_the_rest() {
    let headers = answered(
        &[
            ("connection", "close, x-hop, content-type"),
            ("x-hop", "1"),
            ("keep-alive", "x"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("content-type", "text/plain"),
            ("server-timing", "db;dur=1"),
            ("x-request-id", "other"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ],
        200,
    );
    for name in ["connection", "x-hop", "keep-alive", "upgrade", "transfer-encoding"] {
        assert!(!headers.contains_key(name), "{name}");
    }
    assert_eq!(lines(&headers, "content-type"), ["text/plain"]);
    assert_eq!(lines(&headers, "server-timing"), ["db;dur=1", "queue;dur=1.2, upstream;dur=20.0"]);
    assert_eq!(lines(&headers, "x-request-id"), ["r1"]);
    assert_eq!(lines(&headers, "set-cookie"), ["a=1", "b=2"]);
    assert_eq!(lines(&headers, "via"), ["2.0 turnwise"]);
}

#[test]
fn the_length_of_an_answer_is_one_number() {
    let twice = [("content-length", "5"), ("content-length", "05")];
    assert_eq!(lines(&answered(&twice, 200), "content-length"), ["5"]);
    assert_eq!(lines(&answered(&twice, 304), "content-length"), ["5"]);
    assert!(!answered(&twice, 204).contains_key("content-length"));
}

#[test]
fn an_upgrade_is_only_told_by_a_101() {
    let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket")];
    let headers = answered(&upgrade, 101);
    assert_eq!([lines(&headers, "connection"), lines(&headers, "upgrade")], [["upgrade"], ["websocket"]]);
    assert!(!answered(&upgrade, 200).contains_key("upgrade"));
}

#[test]
fn an_answer_has_one_end() {
    for (good, end) in [
        (&[][..], BodyEnd::Connection),
        (&[("content-length", "5"), ("content-length", "5")], BodyEnd::Length(5)),
        (&[("transfer-encoding", "chunked")], BodyEnd::Chunked),
    ] {
        assert_eq!(response_framing(&fields(good)), Ok(end), "{good:?}");
    }
    for bad in [
        &[("content-length", "5"), ("transfer-encoding", "chunked")][..],
        &[("content-length", "5"), ("content-length", "6")],
        &[("content-length", "-5")],
        &[("content-length", "5, 5")],
        &[("transfer-encoding", "gzip, chunked")],
    ] {
        assert_eq!(response_framing(&fields(bad)), Err(BadFraming), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn any_fields_pass_without_panic(values in prop::collection::vec("[ -~\u{e4}]{0,20}", 8)) {
        let names = ["connection", "te", "x-forwarded-for", "forwarded", "content-length", "expect", "upgrade", "traceparent"];
        let told: Vec<_> = names.into_iter().zip(values.iter().map(String::as_str)).collect();
        sent(&told, |inbound| Inbound { peer_trusted: true, client: IpAddr::from([1, 1, 1, 1]), ..inbound });
        answered(&told, 200);
    }
}
