use crate::harness::{Gateway, Recorder, get, request};

#[test]
fn trailers_pass_upstream() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let asked = request("POST", "/").header("Trailer", "X-Sum").chunked(&["body"], &[("X-Sum", "42")]);
    gateway.ask(&asked).assert_ok();
    let trailers = upstream.only().body.trailers;
    assert!(trailers.iter().any(|(name, value)| name.eq_ignore_ascii_case("x-sum") && value == "42"), "{trailers:?}");
}

#[test]
fn trailers_pass_to_the_client() {
    let upstream = Recorder::saying(
        "HTTP/1.1 200 OK\r\nTrailer: X-Tokens\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Tokens: 7\r\n\r\n",
    );
    let gateway = Gateway::before(&upstream);
    let answer = gateway.ask(&get("/").header("TE", "trailers"));
    assert_eq!(answer.assert_ok().text(), "body");
    let trailers = &answer.body.trailers;
    assert!(trailers.iter().any(|(name, value)| name.eq_ignore_ascii_case("x-tokens") && value == "7"), "{trailers:?}");
}
