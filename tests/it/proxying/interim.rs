use crate::harness::{Gateway, Recorder, get};

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";

#[test]
fn an_early_hint_passes_before_the_answer() {
    let upstream = Recorder::doing(|exchange| {
        exchange.write(HINTS);
        exchange.finish("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal");
    });
    let gateway = Gateway::before(&upstream);
    let answer = gateway.ask(&get("/"));
    assert_eq!(answer.assert_ok().text(), "final");
    let hints: Vec<_> = answer.interim.iter().filter(|head| head.word(1) == "103").collect();
    assert_eq!(hints.len(), 1, "RFC 9110 section 15.2: a proxy forwards 1xx responses");
    assert_eq!(hints[0].get("link").as_deref(), Some("</style.css>; rel=preload"));
}

#[test]
fn interim_answers_do_not_disturb_the_final_one() {
    let upstream = Recorder::doing(|exchange| {
        exchange.write(HINTS.repeat(3));
        exchange.write("HTTP/1.1 102 Processing\r\n\r\n");
        exchange.finish("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal");
    });
    let gateway = Gateway::before(&upstream);
    let mut connection = gateway.connect();
    for _ in 0..3 {
        assert_eq!(connection.ask(&get("/")).response().assert_ok().text(), "final");
    }
}
