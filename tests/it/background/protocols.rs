use super::{becomes, policy};
use crate::harness::{Gateway, Recorder, http2};

#[test]
fn jobs_of_http_2_clients_are_the_same() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    let location = http2::run(async {
        let mut sender = http2::connect(gateway.address).await;
        let request = http2::post("/a?b", &[("prefer", "respond-async"), ("x-do", "echo")], "body");
        let answer = sender.send_request(request).await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 202);
        answer.headers()["location"].to_str().expect("text").to_owned()
    });
    becomes(&gateway, &location, "succeeded");
    let seen = upstream.only();
    assert_eq!((seen.target(), seen.text().as_str()), ("/a?b", "body"));
    assert_eq!(seen.header("host").as_deref(), Some("agents.example"));
    assert_eq!(seen.header("via").as_deref(), Some("2.0 turnwise"));
    http2::run(async {
        let mut sender = http2::connect(gateway.address).await;
        let get = |path: String| {
            let request = http::Request::get(format!("http://agents.example{path}"));
            request.body(http_body_util::Full::new(bytes::Bytes::new())).expect("a request")
        };
        let (status, body) =
            http2::whole(sender.send_request(get(format!("{location}/result"))).await.expect("an answer")).await;
        assert_eq!((status.as_u16(), &body[..]), (200, &b"body"[..]));
        let (status, _) = http2::whole(sender.send_request(get("/_turnwise/jobs".into())).await.expect("one")).await;
        assert_eq!(status.as_u16(), 404);
        let wait = http2::post("/w", &[("prefer", "respond-async, wait=20"), ("x-do", "status 418")], "");
        let (status, _) = http2::whole(sender.send_request(wait).await.expect("an answer")).await;
        assert_eq!(status.as_u16(), 418);
    });
}

#[test]
fn an_http_1_0_client_is_answered_too() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    let text = "POST /a HTTP/1.0\r\nHost: h\r\nPrefer: respond-async\r\nContent-Length: 1\r\n\r\nx";
    let answer = gateway.say(text).response();
    let path = super::accepted(&answer);
    becomes(&gateway, &path, "succeeded");
    assert_eq!(upstream.only().header("via").as_deref(), Some("1.0 turnwise"));
}
