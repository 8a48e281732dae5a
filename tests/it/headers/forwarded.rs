//! `X-Forwarded-*` and `Forwarded` say who asked; only a trusted proxy is believed.

use crate::harness::{Gateway, Recorder, get};

/// The parameters of the last element of `Forwarded`.
fn parameter(forwarded: &str, name: &str) -> Option<String> {
    let last = forwarded.rsplit(',').next()?;
    let found =
        last.split(';').find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('=').map(str::to_owned))?;
    Some(found.trim_matches('"').to_owned())
}

#[test]
fn they_name_the_client_its_protocol_and_its_host() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    gateway.connect_from(9).ask(&get("/").header("Host", "api.example:8080")).response().assert_ok();
    let seen = upstream.only();
    assert_eq!(seen.head.all("x-forwarded-for"), ["127.0.0.9"]);
    assert_eq!(seen.head.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.head.all("x-forwarded-host"), ["api.example:8080"]);
    let forwarded = seen.header("forwarded").expect("Forwarded");
    assert_eq!(parameter(&forwarded, "for").as_deref(), Some("127.0.0.9"), "{forwarded}");
    assert_eq!(parameter(&forwarded, "proto").as_deref(), Some("http"), "{forwarded}");
    assert_eq!(parameter(&forwarded, "host").as_deref(), Some("api.example:8080"), "{forwarded}");
}

#[test]
fn what_an_untrusted_client_says_of_itself_is_dropped() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    let lying = get("/")
        .header("X-Forwarded-For", "1.2.3.4")
        .header("X-Forwarded-For", "5.6.7.8")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "evil.example")
        .header("Forwarded", "for=1.2.3.4;proto=https");
    gateway.ask(&lying).assert_ok();
    let raw = upstream.only().head.raw;
    for lie in ["1.2.3.4", "5.6.7.8", "https", "evil.example"] {
        assert!(!raw.contains(lie), "{raw}");
    }
}

#[test]
fn what_a_trusted_proxy_says_is_extended() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, "server: { trusted_proxies: [\"127.0.0.9/32\"] }\n");
    let told = get("/")
        .header("X-Forwarded-For", "1.2.3.4")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "public.example")
        .header("Forwarded", "for=1.2.3.4;proto=https");
    gateway.connect_from(9).ask(&told).response().assert_ok();
    let seen = upstream.only();
    assert_eq!(seen.header("x-forwarded-for").as_deref(), Some("1.2.3.4, 127.0.0.9"));
    assert_eq!(seen.header("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(seen.header("x-forwarded-host").as_deref(), Some("public.example"));
    let forwarded = seen.header("forwarded").expect("Forwarded");
    assert!(forwarded.starts_with("for=1.2.3.4;proto=https"), "{forwarded}");
    assert_eq!(parameter(&forwarded, "for").as_deref(), Some("127.0.0.9"), "{forwarded}");
}
