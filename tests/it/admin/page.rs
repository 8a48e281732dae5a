use crate::harness::{Gateway, Recorder, get, request};

#[test]
fn the_page_has_nothing_to_load_and_comes_with_a_strict_policy() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let page = gateway.admin(&get("/"));
    let html = page.assert_ok().text();
    assert_eq!(page.header("content-type").as_deref(), Some("text/html; charset=utf-8"));
    assert!(html.starts_with("<!doctype html>"), "{html}");
    for word in ["http://", "https://", "src=", "@import", "url(", " style=\"", " onclick", "/*style*/", "/*script*/"] {
        let allowed = html.matches("http://www.w3.org/2000/svg").count();
        let found = html.matches(word).count() - if word == "http://" { allowed } else { 0 };
        assert_eq!(found, 0, "{word} is in the page");
    }
    let policy = page.header("content-security-policy").expect("a policy");
    for rule in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ] {
        assert!(policy.contains(rule), "{rule}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(gateway.admin(&request("POST", "/")).status, 405);
}

#[test]
fn every_answer_keeps_browsers_from_misreading_framing_and_telling() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    for path in [
        "/",
        "/status",
        "/history",
        "/sessions",
        "/config",
        "/metrics",
        "/health",
        "/-/ready",
        "/nothing",
        "/sessions/nobody",
    ] {
        let answer = gateway.admin(&get(path));
        for (name, value) in [
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name).as_deref(), Some(value), "{name} of {path}");
        }
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{path}");
    }
}
