use crate::harness::{Gateway, Recorder, get};

#[test]
fn an_answer_that_ends_with_its_connection_passes_whole() {
    let upstream = Recorder::saying("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold manners");
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.connect();
    for _ in 0..2 {
        assert_eq!(connection.ask(&get("/")).response().assert_ok().text(), "old manners");
    }
}

#[test]
fn a_client_of_http_1_0_gets_an_answer_that_it_can_read() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.say("GET / HTTP/1.0\r\nHost: a\r\nX-Do: stream 3 5\r\n\r\n");
    let answer = connection.response();
    assert_eq!(answer.assert_ok().text(), "piece 0\npiece 1\npiece 2\n");
    assert_eq!(answer.header("transfer-encoding"), None, "1.0 knows no chunks");
    connection.assert_closed();
}
