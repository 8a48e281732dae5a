//! Traces, as a collector gets them that speaks OTLP.

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;

use crate::harness::command::turnwise_in;
use crate::harness::gateway::Started;
use crate::harness::{Gateway, Recorder, eventually, get, post};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// Both stand in requests, and in no span.
const SECRETS: [&str; 3] = ["my-secret-session", "my-secret-path", "my-secret-field"];

const POLICY: &str = "limits: { concurrency: 5 }
routes:
  - name: runs
    match: { path_prefix: / }
    session: { key: [{ header: X-Session-Id }] }
";

/// Something that takes spans and says so.
fn collector() -> Recorder {
    Recorder::doing(|exchange| {
        exchange.read_body();
        exchange.finish("HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n");
    })
}

fn traced(agent: &Recorder, policy: &str, collector: &str, more: &[(&str, &str)]) -> Gateway {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
    let variables = [&[endpoint, ("OTEL_BSP_SCHEDULE_DELAY", "50")], more].concat();
    Gateway::started(agent, policy, &Started::with(&["--log-requests", "all"], &variables))
}

/// Ends the gateway, which sends what is left, and reads what the collector got.
fn exported(mut gateway: Gateway, collector: &Recorder) -> (Vec<Resource>, Vec<Span>) {
    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), 0);
    let (mut resources, mut spans) = (Vec::new(), Vec::new());
    for seen in collector.seen() {
        assert_eq!(seen.target(), "/v1/traces");
        assert_eq!(seen.header("content-type").as_deref(), Some("application/x-protobuf"));
        let read = ExportTraceServiceRequest::decode(&seen.body.bytes[..]).expect("it is OTLP");
        for of_resource in read.resource_spans {
            resources.extend(of_resource.resource);
            spans.extend(of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans));
        }
    }
    (resources, spans)
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let value = span.attributes.iter().find(|it| it.key == name)?.value.clone()?.value?;
    Some(match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    })
}

fn of_kind(spans: &[Span], kind: SpanKind) -> Vec<&Span> {
    let mut found: Vec<_> = spans.iter().filter(|span| span.kind == kind as i32).collect();
    found.sort_by_key(|span| span.start_time_unix_nano);
    found
}

#[test]
fn a_request_is_one_trace_from_its_client_to_its_server() {
    let (agent, collector) = (Recorder::start(), collector());
    let gateway = traced(&agent, POLICY, &collector.url(), &[("OTEL_RESOURCE_ATTRIBUTES", "deployment=test")]);
    let ask = |what: &str| {
        post("/my-secret-path", "my-secret-field")
            .session("my-secret-session")
            .making(what)
            .header("traceparent", &format!("00-{TRACE}-{PARENT}-01"))
            .header("tracestate", "vendor=opaque")
            .header("authorization", "my-secret-field")
    };
    let mut first = gateway.begin(&ask("hold"));
    agent.wait_running(1);
    let mut second = gateway.begin(&ask("body 5"));
    gateway.wait_for_turn(1);
    agent.release();
    first.response().assert_ok();
    second.response().assert_ok();
    let (resources, spans) = exported(gateway, &collector);

    for resource in &resources {
        let text = format!("{resource:?}");
        assert!(text.contains("\"turnwise\"") && text.contains("deployment"), "{text}");
    }
    assert!(!spans.is_empty() && spans.iter().all(|span| hex(&span.trace_id) == TRACE), "{spans:?}");
    let servers = of_kind(&spans, SpanKind::Server);
    let calls = of_kind(&spans, SpanKind::Client);
    let waits = of_kind(&spans, SpanKind::Internal);
    assert_eq!((servers.len(), calls.len(), waits.len()), (2, 2, 1), "{spans:?}");
    let seen = agent.seen();
    for ((server, call), seen) in servers.iter().zip(&calls).zip(&seen) {
        assert_eq!((server.name.as_str(), hex(&server.parent_span_id)), ("POST runs", PARENT.to_owned()));
        assert_eq!(attribute(server, "http.response.status_code").as_deref(), Some("200"));
        assert_eq!(attribute(server, "turnwise.ended_by").as_deref(), Some("upstream"));
        assert_eq!(call.parent_span_id, server.span_id);
        assert_eq!(attribute(call, "server.port"), Some(agent.address().port().to_string()));
        assert_eq!(call.events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(), ["response head"]);
        assert!(call.status.is_none() || call.status.as_ref().is_some_and(|status| status.code == 0), "{call:?}");
        // What the agent does stands below the call, and goes on with the vendor's state.
        assert_eq!(seen.header("traceparent"), Some(format!("00-{TRACE}-{}-01", hex(&call.span_id))));
        assert_eq!(seen.header("tracestate").as_deref(), Some("vendor=opaque"));
        assert!(server.start_time_unix_nano <= call.start_time_unix_nano, "{server:?} {call:?}");
        assert!(call.start_time_unix_nano <= call.end_time_unix_nano, "{call:?}");
    }
    let wait = waits[0];
    assert_eq!((wait.name.as_str(), &wait.parent_span_id), ("wait for a turn", &servers[1].span_id));
    assert!(wait.end_time_unix_nano > wait.start_time_unix_nano, "{wait:?}");
    assert!(wait.end_time_unix_nano <= calls[1].end_time_unix_nano, "{wait:?} {calls:?}");
    let all = format!("{spans:?}");
    assert!(SECRETS.iter().all(|secret| !all.contains(secret)), "{all}");
}

#[test]
fn each_try_and_each_refusal_is_told() {
    let (agent, collector) = (Recorder::start(), collector());
    let policy = format!(
        "upstreams: {{ agents: {{ servers: [\"{{upstream}}\"], retry: {{ attempts: 2, on: [status_503] }} }} }}
{POLICY}    body_limit: 10B
"
    );
    let gateway = traced(&agent, &policy, &collector.url(), &[]);
    assert_eq!(gateway.ask(&get("/").making("status 503")).status, 503);
    gateway.ask(&post("/", "more than ten bytes")).assert_problem(413, "body_too_large");
    let (_, spans) = exported(gateway, &collector);

    let calls = of_kind(&spans, SpanKind::Client);
    let tries: Vec<_> = calls.iter().map(|call| attribute(call, "http.request.resend_count")).collect();
    assert_eq!(tries, [None, Some("1".to_owned())], "{calls:?}");
    let seen: Vec<_> = agent.seen().iter().filter_map(|seen| seen.header("traceparent")).collect();
    for (call, seen) in calls.iter().zip(seen) {
        assert_eq!(attribute(call, "error.type").as_deref(), Some("503"));
        assert!(call.status.as_ref().is_some_and(|status| status.code == 2), "{call:?}");
        assert!(seen.contains(&hex(&call.span_id)), "{seen}");
    }
    let servers = of_kind(&spans, SpanKind::Server);
    let refused = servers.iter().find(|span| attribute(span, "turnwise.reason").is_some()).expect("one was refused");
    assert_eq!(attribute(refused, "turnwise.reason").as_deref(), Some("body_too_large"));
    // A client's mistake is no error of the server's.
    assert_eq!(attribute(refused, "error.type"), None);
    assert!(servers.iter().all(|span| span.parent_span_id.is_empty()), "each began a trace: {servers:?}");
}

#[test]
fn what_is_not_sampled_is_not_told_and_the_agent_hears_so() {
    let (agent, collector) = (Recorder::start(), collector());
    let gateway = traced(&agent, POLICY, &collector.url(), &[]);
    gateway.ask(&get("/").header("traceparent", &format!("00-{TRACE}-{PARENT}-00"))).assert_ok();
    let (_, spans) = exported(gateway, &collector);
    assert!(spans.is_empty(), "{spans:?}");
    let seen = agent.only().header("traceparent").expect("it goes on");
    assert!(seen.starts_with(&format!("00-{TRACE}-")) && seen.ends_with("-00"), "{seen}");

    let (agent, collector) = (Recorder::start(), self::collector());
    let gateway = traced(&agent, POLICY, &collector.url(), &[("OTEL_TRACES_SAMPLER", "always_off")]);
    gateway.ask(&get("/").header("traceparent", &format!("00-{TRACE}-{PARENT}-01"))).assert_ok();
    gateway.ask(&get("/")).assert_ok();
    let (_, spans) = exported(gateway, &collector);
    assert!(spans.is_empty(), "{spans:?}");
    assert!(agent.seen().iter().all(|seen| seen.header("traceparent").is_some_and(|it| it.ends_with("-00"))));
}

#[test]
fn who_leaves_and_what_breaks_is_told() {
    let agent = Recorder::doing(|exchange| {
        exchange.read_body();
        if exchange.head.word(1) == "/breaks" {
            exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfour");
            exchange.close();
        } else {
            exchange.obey();
        }
    });
    let collector = collector();
    let gateway = traced(&agent, POLICY, &collector.url(), &[]);
    let mut broken = gateway.begin(&get("/breaks"));
    assert!(broken.rest().ends_with(b"four"));
    let left = gateway.begin(&get("/left").making("hold"));
    agent.wait_running(1);
    left.leave();
    eventually("its end is told", || gateway.log().contains("\"status\":499"));
    agent.release();
    let (_, spans) = exported(gateway, &collector);

    let servers = of_kind(&spans, SpanKind::Server);
    let ends: Vec<_> = servers.iter().filter_map(|span| attribute(span, "turnwise.ended_by")).collect();
    assert_eq!(ends, ["upstream_broke", "client"], "{servers:?}");
    let calls = of_kind(&spans, SpanKind::Client);
    let errors: Vec<_> = calls.iter().map(|span| attribute(span, "error.type")).collect();
    // The agent finished its work for nobody, and is told so.
    assert_eq!(errors, [Some("cut".to_owned()), None], "{calls:?}");
}

#[test]
fn requests_that_share_an_answer_share_the_call() {
    let (agent, collector) = (Recorder::start(), collector());
    let policy = POLICY.replace("}] }", "}], duplicates: join }");
    let gateway = traced(&agent, &policy, &collector.url(), &[]);
    let equal = || post("/", "the same").session("s").making("hold");
    let mut first = gateway.begin(&equal());
    agent.wait_running(1);
    let mut second = gateway.begin(&equal());
    eventually("it joins", || gateway.json("/sessions/s").to_string().matches("joined").count() > 0);
    agent.release();
    first.response().assert_ok();
    second.response().assert_ok();
    let (_, spans) = exported(gateway, &collector);

    let (servers, calls) = (of_kind(&spans, SpanKind::Server), of_kind(&spans, SpanKind::Client));
    assert_eq!((servers.len(), calls.len()), (2, 1), "{spans:?}");
    assert_eq!(calls[0].parent_span_id, servers[0].span_id);
    let links: Vec<_> =
        servers.iter().map(|span| span.links.iter().map(|it| &it.span_id).collect::<Vec<_>>()).collect();
    assert_eq!(links, [vec![], vec![&servers[0].span_id]]);
}

#[test]
fn trace_context_is_read_as_without_traces() {
    let (agent, collector) = (Recorder::start(), collector());
    let gateway = traced(&agent, POLICY, &collector.url(), &[]);
    // Several lines are one list, also where a member is more than the library takes.
    let long = format!("b={}", "x".repeat(400));
    gateway
        .ask(
            &get("/")
                .header("traceparent", &format!("00-{TRACE}-{PARENT}-01"))
                .header("tracestate", "a=1")
                .header("tracestate", &long),
        )
        .assert_ok();
    let bad = ["00-1-1-01", &format!("00-{TRACE}-{PARENT}-1"), &format!("00-{TRACE}-{PARENT}-01-"), "0", ""];
    for bad in bad {
        gateway.ask(&get("/").header("traceparent", bad).header("tracestate", "a=1")).assert_ok();
    }
    gateway.ask(&crate::harness::request("SOMETHING-OF-A-CLIENT", "/")).assert_ok();
    let (_, spans) = exported(gateway, &collector);

    let seen = agent.seen();
    let state = seen[0].head.all("tracestate").join(",");
    assert_eq!(state, format!("a=1,{long}"));
    let servers = of_kind(&spans, SpanKind::Server);
    assert_eq!(servers.len(), 2 + bad.len());
    for (seen, server) in seen.iter().zip(&servers).skip(1) {
        assert!(server.parent_span_id.is_empty() && hex(&server.trace_id) != TRACE, "{server:?}");
        assert_eq!(seen.header("tracestate"), None);
        assert!(seen.header("traceparent").is_some_and(|it| it.contains(&hex(&server.trace_id))));
    }
    let last = servers[servers.len() - 1];
    assert_eq!((last.name.as_str(), attribute(last, "http.request.method")), ("HTTP runs", Some("_OTHER".to_owned())));
    assert!(!format!("{spans:?}").contains("OF-A-CLIENT"));
}

#[test]
fn spans_that_the_collector_does_not_take_are_counted_and_told_with_its_reason() {
    let agent = Recorder::start();
    let answer = ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess { rejected_spans: 1, error_message: "too old".to_owned() }),
    }
    .encode_to_vec();
    let collector = Recorder::doing(move |exchange| {
        exchange.read_body();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
        exchange.finish([head.as_bytes(), &answer].concat());
    });
    let gateway = traced(&agent, POLICY, &collector.url(), &[]);
    gateway.ask(&get("/")).assert_ok();
    let lost = |gateway: &Gateway| gateway.metrics().sum("turnwise_trace_spans_total", &[("outcome", "failed")]);
    eventually("one is lost", || lost(&gateway).is_some_and(|lost| lost >= 1.0));
    assert!(gateway.log().contains("too old"), "{}", gateway.log());
}

#[test]
fn a_second_signal_does_not_wait_for_the_collector() {
    let agent = Recorder::start();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = format!("http://{}", silent.local_addr().unwrap());
    let mut gateway = traced(&agent, POLICY, &collector, &[]);
    let running = gateway.begin(&get("/").making("hold"));
    agent.wait_running(1);
    gateway.signal("TERM");
    eventually("it drains", || gateway.admin(&get("/-/ready")).status == 503);
    let told = std::time::Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.exit_code(), 130);
    // The last spans have five seconds after a drain.
    assert!(told.elapsed() < std::time::Duration::from_secs(4), "{:?}", told.elapsed());
    running.leave();
    agent.open();
}

#[test]
fn a_collector_that_is_away_delays_nobody_and_is_told_of() {
    let agent = Recorder::start();
    // Nobody listens there any more.
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let short = ("OTEL_EXPORTER_OTLP_TIMEOUT", "200");
    let gateway = traced(&agent, POLICY, &format!("http://{away}"), &[short]);
    for _ in 0..20 {
        gateway.ask(&get("/")).assert_ok();
    }
    eventually("spans are lost", || {
        gateway.metrics().sum("turnwise_trace_spans_total", &[("outcome", "failed")]).is_some_and(|lost| lost >= 40.0)
    });
    let told = gateway.log().matches("spans could not be sent to the collector").count();
    assert_eq!(told, 1, "{}", gateway.log());
}

#[test]
fn an_environment_that_is_not_understood_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.yaml"), "upstreams: {a: {servers: ['http://127.0.0.1:1']}}").unwrap();
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "nowhere.pem"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
    ] {
        let here = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:4318");
        let output = turnwise_in(folder.path(), &["serve"], &[here, (name, value)]);
        assert_eq!(output.code, 1, "{name}: {}", output.all());
        assert!(output.stderr.starts_with("turnwise: ") && output.stderr.contains(value), "{}", output.stderr);
    }
}
