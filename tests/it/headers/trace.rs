use crate::harness::{Gateway, Recorder, get};

#[test]
fn a_trace_is_begun_when_there_is_none() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    gateway.ask(&get("/")).assert_ok();
    let parent = upstream.only().header("traceparent").expect("traceparent");
    let lengths: Vec<usize> = parent.split('-').map(str::len).collect();
    assert_eq!(lengths, [2, 32, 16, 2], "{parent}");
    assert!(
        parent.starts_with("00-") && parent.chars().all(|sign| sign == '-' || sign.is_ascii_hexdigit()),
        "{parent}"
    );
    assert!(!parent.contains(&"0".repeat(16)), "{parent}");
}

#[test]
fn a_trace_that_is_there_passes() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    gateway.ask(&get("/").header("traceparent", parent).header("tracestate", "a=1,b=2")).assert_ok();
    let seen = upstream.only();
    assert_eq!(seen.head.all("traceparent"), [parent]);
    assert_eq!(seen.header("tracestate").as_deref(), Some("a=1,b=2"));
}
