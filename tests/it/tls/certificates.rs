//! Which certificate, and what becomes of one whose files change.

use super::House;
use crate::harness::tls::{Authority, Client, der};
use crate::harness::{Connection, Gateway, Recorder, eventually, get, post};

#[test]
fn the_host_that_a_client_names_chooses_the_certificate() {
    let upstream = Recorder::start();
    let house = House::with(&upstream, "");
    let greet = |host| Client::trusting(&house.authority, host, None).greet(house.gateway.address);
    let (own, other) = (greet("agents.example").expect("its own"), greet("b.example").expect("another"));
    assert_eq!(own, der(&house.identity));
    assert_ne!(own, other);
    assert_eq!(greet("B.EXAMPLE").expect("another"), other);
    assert_eq!(greet("x.c.example").expect("one of a domain"), other);
    // Whoever names nobody it knows gets the first, and finds that it is not meant.
    for host in ["d.example", "x.y.c.example", "c.example"] {
        let refused = greet(host).expect_err("not valid for it");
        assert!(refused.contains("NotValidForName") || refused.contains("not valid for name"), "{refused}");
    }
}

#[test]
fn new_connections_get_the_new_certificate_and_open_ones_go_on() {
    let upstream = Recorder::start();
    let house = House::with(&upstream, "");
    let mut open = Connection::open(house.relay());
    open.ask(&get("/")).response().assert_ok();
    let before = house.client().greet(house.gateway.address).expect("a certificate");

    let renewed = house.authority.issue(&["agents.example"]);
    renewed.write(house.gateway.folder(), "own");
    eventually("the new certificate is shown", || house.client().greet(house.gateway.address) == Ok(der(&renewed)));
    assert_ne!(before, der(&renewed));
    open.ask(&get("/")).response().assert_ok();

    // A key that is not its certificate's changes nothing, and is told.
    let stranger = Authority::new().issue(&["agents.example"]);
    std::fs::write(house.gateway.folder().join("own.key"), &stranger.key).expect("a file");
    eventually("the log tells", || house.gateway.log().contains("is not the key of the certificate"));
    assert_eq!(house.client().greet(house.gateway.address), Ok(der(&renewed)));
    let answer = house.gateway.admin(&post("/-/reload", ""));
    assert_eq!(answer.status, 422);
    assert!(answer.text().contains("listen.tls.key"), "{}", answer.text());
    open.ask(&get("/")).response().assert_ok();
    renewed.write(house.gateway.folder(), "own");
    assert_eq!(house.gateway.admin(&post("/-/reload", "")).status, 200);
}

#[test]
fn files_that_cannot_be_used_keep_the_gateway_from_starting() {
    use crate::harness::command::turnwise_in;
    let folder = tempfile::TempDir::new().expect("a folder");
    let authority = Authority::new();
    authority.issue(&["a"]).write(folder.path(), "a");
    authority.issue(&["b"]).write(folder.path(), "b");
    std::fs::write(folder.path().join("none.pem"), "hello").expect("a file");
    let policy = |tls: &str| {
        let text = format!(
            "upstreams: {{ a: {{ servers: [\"http://127.0.0.1:9\"] }} }}\nadmin: {{ listen: \"127.0.0.1:0\" }}\n\
             listen: {{ address: \"127.0.0.1:0\", tls: {{ {tls} }} }}\n"
        );
        std::fs::write(folder.path().join("gateway.yaml"), text).expect("a file");
        let of = |command| turnwise_in(folder.path(), &[command, "-c", "gateway.yaml"], &[]);
        (of("serve"), of("check"))
    };
    for (tls, why) in [
        ("cert: a.pem, key: b.key", "3:55: listen.tls.key: `b.key`: is not the key of the certificate in `a.pem`"),
        ("cert: none.pem, key: a.key", "listen.tls.cert: `none.pem`: has no certificate in it"),
        ("cert: a.pem, key: none.pem", "listen.tls.key: `none.pem`: has no private key in it"),
        ("cert: a.pem, key: a.key, client_ca: none.pem", "listen.tls.client_ca: `none.pem`: has no certificate in it"),
    ] {
        let (serve, check) = policy(tls);
        assert_eq!((serve.code, check.code), (1, 1), "{}", serve.all());
        assert!(serve.stderr.contains(why) && check.all().contains(why), "{why}: {}", serve.all());
    }
    // Where a policy is checked, its secrets may be missing.
    let (serve, check) = policy("cert: a.pem, key: missing.key");
    let why = "listen.tls.key: `missing.key`: No such file";
    assert_eq!((serve.code, check.code), (1, 0), "{}", check.all());
    assert!(
        serve.stderr.contains(why) && check.all().contains(&format!("warning: gateway.yaml:3:55: {why}")),
        "{}",
        check.all()
    );
}

#[test]
fn another_address_may_stay_plain() {
    let upstream = Recorder::start();
    let authority = Authority::new();
    let plain = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let listen = format!("listen: [{{ address: \"{{listen}}\", tls: {{ cert: a.pem, key: a.key }} }}, \"{plain}\"]\n");
    let gateway = Gateway::laid_out(&upstream.url(), &listen, |folder, text| {
        authority.issue(&["a.example"]).write(folder, "a");
        std::fs::write(folder.join("gateway.yaml"), text).expect("a file");
    });
    Connection::open(plain).ask(&get("/")).response().assert_ok();
    let relay = Client::trusting(&authority, "a.example", None).relay(gateway.address, b"");
    Connection::open(relay).ask(&get("/")).response().assert_ok();
    let schemes: Vec<_> = upstream.seen().iter().map(|seen| seen.header("x-forwarded-proto").unwrap()).collect();
    assert_eq!(schemes, ["http", "https"]);
}
