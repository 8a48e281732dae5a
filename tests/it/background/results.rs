use super::{accept, becomes, job, policy, result};
use crate::harness::{Gateway, Recorder, eventually, get, request};

#[test]
fn an_error_of_the_upstream_is_a_failed_job_with_its_answer() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    for status in [400, 404, 409, 422, 500, 501] {
        let path = accept(&gateway, &job("a", &format!("status {status}; echo")));
        let ended = becomes(&gateway, &path, "failed");
        assert_eq!((&ended["attempts"], &ended["error"]), (&1.into(), &format!("status_{status}").into()));
        let answer = result(&gateway, &path);
        assert_eq!((answer.status, answer.text().as_str()), (status, "a"));
    }
    for status in [201, 204, 303] {
        let path = accept(&gateway, &job("a", &format!("status {status}; body 0")));
        becomes(&gateway, &path, "succeeded");
        assert_eq!(result(&gateway, &path).status, status);
    }
}

#[test]
fn fields_and_octets_of_an_answer_are_kept() {
    let upstream = Recorder::doing(|exchange| {
        exchange.read_body();
        exchange.finish(
            b"HTTP/1.1 200 Fine\r\nContent-Type: application/x-y\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: \
              x-hop\r\nX-Hop: gone\r\nTransfer-Encoding: chunked\r\nTrailer: x-late\r\n\r\n3\r\n\x00\xff\r\r\n0\r\nX-Late: \
              1\r\n\r\n",
        );
    });
    let gateway = Gateway::with(&upstream, &policy("", ""));
    let path = accept(&gateway, &job("a", ""));
    becomes(&gateway, &path, "succeeded");
    for _ in 0..2 {
        let answer = result(&gateway, &path);
        assert_eq!(answer.body.bytes, b"\x00\xff\r");
        assert_eq!(answer.head.all("set-cookie"), ["a=1", "b=2"]);
        assert_eq!(answer.header("content-length").as_deref(), Some("3"));
        assert_eq!(answer.header("content-type").as_deref(), Some("application/x-y"));
        assert_eq!([answer.header("x-hop"), answer.header("transfer-encoding")], [None, None]);
    }
    let mut connection = gateway.connect();
    connection.ask(&request("HEAD", &format!("{path}/result")));
    let head = connection.response_to("HEAD").expect("an answer");
    assert_eq!((head.status, head.body.bytes.len()), (200, 0));
    connection.ask(&get(&path));
    connection.response().assert_ok();
}

#[test]
fn an_answer_that_is_longer_than_is_kept_fails_the_job() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("max_result: 1KiB", ""));
    let fits = accept(&gateway, &job("fits", "body 1024"));
    becomes(&gateway, &fits, "succeeded");
    assert_eq!(result(&gateway, &fits).body.bytes.len(), 1024);
    let path = accept(&gateway, &job("long", "body 1025"));
    let ended = becomes(&gateway, &path, "failed");
    assert_eq!((&ended["error"], &ended["attempts"]), (&"result_too_large".into(), &1.into()));
    result(&gateway, &path).assert_problem(404, "no_result");
}

#[test]
fn results_are_kept_for_their_time() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("keep_results: 1s", ""));
    let path = accept(&gateway, &job("a", ""));
    let failed = accept(&gateway, &job("b", "status 500"));
    becomes(&gateway, &failed, "failed");
    eventually("it is forgotten", || gateway.ask(&get(&path)).status == 404);
    result(&gateway, &path).assert_problem(404, "no_job");
    assert_eq!(super::count(&gateway, "succeeded"), 0);
    assert_eq!(super::status(&gateway, &failed)["status"], "failed", "failed ones are kept for the operator");
}
