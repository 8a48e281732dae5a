//! What pages of other sites can have a browser do here.

use crate::harness::{Connection, Gateway, Recorder, Request, Response, get, post, request};

const FROM_A_BROWSER: (&str, &str) = ("Accept-Language", "en-US,en;q=0.9");

fn changes() -> [Request; 4] {
    [
        post("/-/reload", ""),
        post("/-/drain", ""),
        request("DELETE", "/sessions/a?running=true"),
        request("DELETE", "/session?key=a"),
    ]
}

#[track_caller]
fn refused(answer: &Response, reason: &str) {
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(answer.header("content-type").as_deref(), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!((&problem["status"], &problem["reason"]), (&403.into(), &reason.into()), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 40), "{problem}");
}

/// One session that runs, and that nothing of this has ended.
fn with_one_that_runs(gateway: &Gateway, upstream: &Recorder, act: impl FnOnce()) {
    let mut running = gateway.begin(&get("/a").session("a").making("hold"));
    upstream.wait_seen(1);
    act();
    assert_eq!(gateway.json("/status")["draining"], false);
    assert_eq!(gateway.generation(), 1.0);
    upstream.open();
    running.response().assert_ok();
}

const POLICY: &str = "routes:
  - { name: runs, match: { path_prefix: / }, upstream: agents, session: { key: [{ header: X-Session-Id }] } }
";

#[test]
fn what_another_site_has_a_browser_send_changes_nothing() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, POLICY);
    with_one_that_runs(&gateway, &upstream, || {
        for asked in changes() {
            for fields in [
                &[("Origin", "http://evil.example")][..],
                &[("Origin", "null")],
                &[("Origin", "http://agents.example:1")],
                &[("Origin", "agents.example")],
                &[("Sec-Fetch-Site", "cross-site")],
                &[("Sec-Fetch-Site", "same-site"), ("Origin", "http://agents.example")],
                &[("Sec-Fetch-Site", "none"), ("Origin", "http://evil.example")],
            ] {
                let asked = fields.iter().fold(asked.clone(), |asked, (name, value)| asked.header(name, value));
                refused(&gateway.admin(&asked), "foreign_page");
            }
        }
    });
}

#[test]
fn under_a_name_that_anybody_can_own_a_browser_is_told_nothing() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, POLICY);
    with_one_that_runs(&gateway, &upstream, || {
        let reads = ["/status", "/history", "/sessions", "/sessions/a", "/session?key=a", "/config"].map(get);
        for asked in reads.into_iter().chain(changes()) {
            for (name, value) in [
                FROM_A_BROWSER,
                ("Accept-Language", ""),
                ("Sec-Fetch-Site", "same-origin"),
                ("Referer", "http://evil.com/"),
            ] {
                for host in ["evil.com", "evil.com:9180", "127.0.0.1.nip.io", "localhost.evil.com"] {
                    refused(&gateway.admin(&asked.clone().header("Host", host).header(name, value)), "foreign_name");
                }
            }
            let same = asked.header("Host", "evil.com:9180").header("Origin", "http://evil.com:9180");
            refused(&gateway.admin(&same), "foreign_name");
        }
    });
}

#[test]
fn scripts_probes_and_scrapers_are_answered_under_any_name() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, POLICY);
    for path in ["/status", "/history", "/sessions", "/config", "/metrics", "/health", "/-/healthy", "/-/ready", "/"] {
        assert_eq!(gateway.admin(&get(path).header("Host", "gateway.corp.com:9180")).status, 200, "{path}");
    }
    assert_eq!(gateway.admin(&post("/-/reload", "").header("Host", "gateway.corp.com:9180")).status, 200);
    let ended = gateway.admin(&request("DELETE", "/sessions/nobody").header("Host", "gateway.corp.com:9180"));
    assert_eq!(ended.status, 404, "nobody is there: {}", ended.text());
    // What needs no token is open to browsers as well.
    for path in ["/metrics", "/health", "/-/healthy", "/-/ready", "/"] {
        let asked = get(path).header("Host", "gateway.corp.com:9180").header(FROM_A_BROWSER.0, FROM_A_BROWSER.1);
        assert_eq!(gateway.admin(&asked).status, 200, "{path}");
    }
}

#[test]
fn its_own_page_may() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, POLICY);
    for (host, origin) in [
        ("localhost:9180", "http://localhost:9180"),
        ("127.0.0.1:9180", "http://127.0.0.1:9180"),
        ("[::1]:9180", "http://[::1]:9180"),
        ("turnwise:9180", "http://turnwise:9180"),
        ("turnwise.agents.svc.cluster.local:9180", "http://turnwise.agents.svc.cluster.local:9180"),
        // A proxy before us that ends TLS and says another name; the browser itself vouches for the page.
        ("10.0.0.7:9180", "https://ops.corp.com"),
    ] {
        for asked in [get("/status"), post("/-/reload", "")] {
            let asked = asked.header("Host", host).header("Origin", origin).header("Sec-Fetch-Site", "same-origin");
            let answer = gateway.admin(&asked.header(FROM_A_BROWSER.0, FROM_A_BROWSER.1));
            assert_eq!(answer.status, 200, "{host}: {}", answer.text());
        }
    }
}

#[test]
fn with_a_token_the_name_does_not_matter_but_the_page_does() {
    let upstream = Recorder::start();
    let mut gateway =
        Gateway::laid_out(&upstream.url(), "admin: { listen: \"{admin}\", token_file: token }\n", |folder, text| {
            std::fs::write(folder.join("token"), "s3cret\n").expect("a file");
            std::fs::write(folder.join("gateway.yaml"), text).expect("a file");
        });
    let ask = |asked: Request| Connection::open(gateway.admin).ask(&asked).response();
    let named = |asked: Request| asked.header("Host", "ops.corp.com").header(FROM_A_BROWSER.0, FROM_A_BROWSER.1);
    let with_token = |asked: Request| named(asked).header("Authorization", "Bearer s3cret");
    assert_eq!(ask(named(get("/status"))).status, 401);
    assert_eq!(ask(named(get("/history"))).status, 401);
    assert_eq!(ask(named(get("/"))).status, 200, "the page asks for the token itself");
    assert_eq!(ask(with_token(get("/status"))).status, 200);
    assert_eq!(ask(with_token(post("/-/reload", "")).header("Origin", "https://ops.corp.com")).status, 200);
    refused(&ask(with_token(post("/-/reload", "")).header("Origin", "https://evil.com")), "foreign_page");
    refused(&ask(with_token(post("/-/drain", "")).header("Sec-Fetch-Site", "same-site")), "foreign_page");
    gateway.use_token("s3cret");
}
