use crate::harness::{Gateway, Recorder, get, post, request};

#[test]
fn a_get_and_its_answer_pass() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let answer = gateway.ask(&get("/a/b?c=d&e=%20f").header("X-Own", "kept"));
    assert_eq!(answer.assert_ok().text(), "ok\n");
    assert_eq!(answer.header("content-type").as_deref(), Some("text/plain"));
    let seen = upstream.only();
    assert_eq!(seen.head.first, "GET /a/b?c=d&e=%20f HTTP/1.1");
    assert_eq!(seen.header("x-own").as_deref(), Some("kept"));
    assert_eq!(seen.header("host").as_deref(), Some("agents.example"));
}

#[test]
fn a_post_passes_with_its_body() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    assert_eq!(gateway.ask(&post("/", "question").making("echo")).assert_ok().text(), "question");
    assert_eq!(upstream.only().text(), "question");
}

#[test]
fn every_method_passes_as_it_is() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    for method in ["PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
        gateway.ask(&request(method, "/x")).assert_ok();
    }
    let methods: Vec<String> = upstream.seen().iter().map(|seen| seen.head.word(0).to_owned()).collect();
    assert_eq!(methods, ["PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"]);
}

#[test]
fn a_head_has_a_length_and_no_body_and_the_connection_goes_on() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.connect();
    let answer = connection.ask(&request("HEAD", "/").making("body 1234")).response_to("HEAD").expect("an answer");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-length").as_deref(), Some("1234"));
    connection.ask(&get("/")).response().assert_ok();
}

#[test]
fn answers_without_a_body_end_at_once_and_the_connection_goes_on() {
    let upstream = Recorder::doing(|exchange| {
        let status = if exchange.head.word(1) == "/204" { "204 No Content" } else { "304 Not Modified" };
        exchange.finish(format!("HTTP/1.1 {status}\r\nETag: \"x\"\r\n\r\n"));
    });
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.connect();
    for (target, status) in [("/204", 204), ("/304", 304), ("/204", 204)] {
        let answer = connection.ask(&get(target)).response();
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("etag").as_deref(), Some("\"x\""));
    }
}

#[test]
fn every_status_of_the_upstream_passes_unchanged() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    for status in [201, 302, 400, 404, 409, 418, 429, 500, 502, 503, 504, 599] {
        let answer = gateway.ask(&get("/").making(&format!("status {status}")));
        assert_eq!((answer.status, answer.text().as_str()), (status, "ok\n"));
        assert_eq!(answer.header("content-type").as_deref(), Some("text/plain"));
        assert_eq!(answer.header("retry-after"), None, "nothing is added to an upstream's {status}");
    }
}
