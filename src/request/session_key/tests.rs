use std::num::NonZeroU32;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::policy::{Anonymous, KeySource, Segment};

/// One request in words that tests can say.
#[derive(Default)]
struct Said {
    fields: Vec<(&'static str, Vec<u8>)>,
    query: Option<&'static str>,
    path: &'static str,
    body: Vec<u8>,
}

impl Said {
    fn header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name, value.as_ref().to_vec()));
        self
    }

    fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    fn ask<T>(&self, then: impl FnOnce(&PathMatch, &HeadView<'_>, &Bytes) -> T) -> T {
        let values = self.fields.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value).expect("a field value"))
        });
        let headers = values.collect();
        let pattern = ["x", "{agent}"].map(|part| match part {
            "x" => Segment::Literal("x".to_owned()),
            _ => Segment::Variable("agent".to_owned()),
        });
        let path = NormalPath::parse(self.path).expect("a good path");
        let head = HeadView { headers: &headers, query: self.query, path: &path };
        then(&PathMatch::Pattern(pattern.to_vec()), &head, &Bytes::from(self.body.clone()))
    }

    fn head(&self, session: &Session) -> Result<HeadLookup, BadKey> {
        self.ask(|route, head, _| SessionKey::from_head(session, route, head))
    }

    fn whole(&self, session: &Session) -> Result<KeyLookup, BadKey> {
        self.ask(|route, head, body| SessionKey::from_whole(session, route, head, body))
    }

    /// The key's text; `None` when it is absent.
    fn key(&self, session: &Session) -> Option<String> {
        match self.whole(session).expect("a good key") {
            KeyLookup::Found(key) => Some(key.as_str().to_owned()),
            KeyLookup::Absent(_) => None,
        }
    }
}

fn said() -> Said {
    Said::default()
}

fn header(name: &'static str) -> KeySource {
    KeySource::Header(HeaderName::from_static(name))
}

fn json() -> KeySource {
    KeySource::Json(vec!["s".to_owned()])
}

fn form() -> KeySource {
    KeySource::Form("s".to_owned())
}

fn query() -> KeySource {
    KeySource::Query("s".to_owned())
}

fn cookie() -> KeySource {
    KeySource::Cookie("s".to_owned())
}

fn session(key: &[KeySource], within: &[KeySource]) -> Session {
    Session {
        key: key.to_vec(),
        within: within.to_vec(),
        lane: "lane".into(),
        anonymous: Anonymous::Separate,
        assign: None,
        concurrency: NonZeroU32::MIN,
        queue: 1,
        queue_timeout: Duration::from_secs(1),
        when_busy: crate::policy::WhenBusy::Wait,
        when_busy_choices: Vec::new(),
        reentrant: false,
        waits_aloud: false,
        join: None,
    }
}

#[test]
fn the_first_source_that_is_present_wins() {
    let session = session(&[header("x-s"), json(), query(), cookie(), KeySource::Path("agent".to_owned())], &[]);
    let mut request = Said { path: "/x/p%20q", ..said() };
    assert_eq!(request.key(&session).as_deref(), Some("p q"));
    request = request.header("cookie", "a=b; s=\"c\";x").header("cookie", "s=c");
    assert_eq!(request.key(&session).as_deref(), Some("c"));
    request.query = Some("a=b&s=q+r");
    assert_eq!(request.key(&session).as_deref(), Some("q r"));
    request = request.body(r#"{"s":1.0}"#);
    assert_eq!(request.key(&session).as_deref(), Some("1.0"));
    request = request.header("x-s", " h ");
    assert_eq!(request.key(&session).as_deref(), Some("h"));
}

#[test]
fn a_body_is_only_waited_for_when_its_key_would_count() {
    let session = session(&[header("x-s"), json(), query()], &[]);
    let with_query = || Said { query: Some("s=q"), ..said() };
    assert_eq!(with_query().head(&session), Ok(HeadLookup::NeedsBody));
    let found = |name| Ok(HeadLookup::Known(KeyLookup::Found(SessionKey::named(name, &Tenant::default()))));
    assert_eq!(with_query().header("x-s", "h").head(&session), found("h"));
    for (name, value) in
        [("content-type", "text/html"), ("content-type", "multipart/form-data"), ("content-encoding", "gzip")]
    {
        assert_eq!(with_query().header(name, value).head(&session), found("q"), "{value}");
    }
    let of_clients_told_nothing = ["application/x-www-form-urlencoded", "text/plain;charset=UTF-8"];
    for value in
        ["application/json; charset=utf-8", "Application/Problem+JSON"].into_iter().chain(of_clients_told_nothing)
    {
        assert_eq!(with_query().header("content-type", value).head(&session), Ok(HeadLookup::NeedsBody), "{value}");
    }
}

#[test]
fn a_tenant_in_the_body_is_waited_for() {
    let session = session(&[header("x-s")], &[json()]);
    assert_eq!(said().header("x-s", "h").head(&session), Ok(HeadLookup::NeedsBody));
    assert_eq!(said().head(&session), Ok(HeadLookup::NeedsBody));
}

#[test]
fn empty_and_structured_values_count_as_absent() {
    let session = session(&[header("x-s"), json(), query(), form()], &[]);
    for body in ["", "{}", r#"{"s":null}"#, r#"{"s":""}"#, r#"{"s":{}}"#, r#"{"s":["a"]}"#, r#"{"s":"a"} x"#, "s=a"] {
        let request = Said { query: Some("s=&t=1"), ..said() };
        assert_eq!(request.header("x-s", "").body(body).key(&session), None, "{body}");
    }
    assert_eq!(said().body(r#"{"s":false}"#).key(&session).as_deref(), Some("false"));
    assert_eq!(said().body(r#"{"s":"a","s":"b"}"#).key(&session).as_deref(), Some("b"));
    assert_eq!(said().body("{\"s\":\"a\\nb\"}").key(&session).as_deref(), Some("a\nb"));
}

#[test]
fn a_form_counts_by_its_content_type() {
    let session = session(&[form()], &[]);
    let urlencoded = || said().header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(urlencoded().head(&session), Ok(HeadLookup::NeedsBody));
    assert_eq!(urlencoded().body("t=1&s=%C3%A4").key(&session).as_deref(), Some("\u{e4}"));
    let part = "--X\r\nContent-Disposition: form-data; name=\"s\"\r\n\r\na\r\n";
    let multipart = said().header("content-type", "multipart/form-data; boundary=X");
    assert_eq!(multipart.body(format!("{part}--X--\r\n")).key(&session).as_deref(), Some("a"));
    assert_eq!(said().header("content-type", "application/json").body("s=a").key(&session), None);
    assert_eq!(said().header("content-encoding", "gzip").body("s=a").key(&session), None);
}

#[test]
fn two_different_keys_at_one_place_are_refused() {
    let form_type = ("content-type", "application/x-www-form-urlencoded");
    let two_parts = ["a", "b"].map(|v| format!("--X\r\nContent-Disposition: form-data; name=\"s\"\r\n\r\n{v}\r\n"));
    for (source, request) in [
        (header("x-s"), said().header("x-s", "a").header("x-s", "b")),
        (header("x-s"), said().header("x-s", "").header("x-s", "b")),
        (cookie(), said().header("cookie", "s=a; s=b")),
        (cookie(), said().header("cookie", "s=a").header("cookie", "s=b")),
        (query(), Said { query: Some("s=a&%73=b"), ..said() }),
        (query(), Said { query: Some("s&s=b"), ..said() }),
        (form(), said().header(form_type.0, form_type.1).body("s=a&s=b")),
        (
            form(),
            said().header("content-type", "multipart/form-data; boundary=X").body(two_parts.concat() + "--X--\r\n"),
        ),
        (json(), said().header("content-type", "application/json").header("content-type", "text/plain").body("{}")),
    ] {
        let refused = request.whole(&session(std::slice::from_ref(&source), &[]));
        assert!(matches!(refused, Err(BadKey::Ambiguous(_))), "{source:?}: {refused:?}");
        let refused = request.whole(&session(&[header("x-other")], std::slice::from_ref(&source)));
        assert!(matches!(refused, Err(BadKey::Ambiguous(_))), "within {source:?}: {refused:?}");
    }
}

#[test]
fn equal_keys_at_one_place_are_one() {
    assert_eq!(said().header("x-s", "a").header("x-s", "a").key(&session(&[header("x-s")], &[])).as_deref(), Some("a"));
    let twice = Said { query: Some("s=a&s=%61"), ..said() };
    assert_eq!(twice.key(&session(&[query()], &[])).as_deref(), Some("a"));
}

#[test]
fn a_key_that_is_no_text_is_refused() {
    for (source, request) in [
        (header("x-s"), said().header("x-s", b"a\xff")),
        (header("x-s"), said().header("x-s", "a\tb")),
        (cookie(), said().header("cookie", b"s=\xff")),
        (query(), Said { query: Some("s=%ff"), ..said() }),
        (query(), Said { query: Some("s=a%0Ab"), ..said() }),
        (KeySource::Path("agent".to_owned()), Said { path: "/x/%00", ..said() }),
        (KeySource::Path("agent".to_owned()), Said { path: "/x/%FF", ..said() }),
        (form(), said().header("content-type", "application/x-www-form-urlencoded").body("s=%ff")),
    ] {
        let refused = request.whole(&session(std::slice::from_ref(&source), &[]));
        assert!(matches!(refused, Err(BadKey::NotText(_))), "{source:?}: {refused:?}");
    }
}

#[test]
fn problems_do_not_tell_secrets() {
    let refused = said().header("x-s", "secret").header("x-s", "b").whole(&session(&[header("x-s")], &[]));
    let problem = refused.expect_err("two keys").to_string();
    assert_eq!(problem, "the header `x-s` is given several times with different values");
}

#[test]
fn equal_names_of_two_tenants_do_not_meet() {
    let session = session(&[header("x-s")], &[header("x-api-key"), header("x-team")]);
    let of = |key: &'static str, team: &'static str| {
        let request = said().header("x-s", "a").header("x-api-key", key);
        let request = if team.is_empty() { request } else { request.header("x-team", team) };
        request.key(&session).expect("a key")
    };
    let keys = [of("k", "t"), of("kt", ""), of("", "kt"), of("t", "k"), of("", "")];
    for (at, key) in keys.iter().enumerate() {
        assert!(!keys[..at].contains(key), "{keys:?}");
        assert!(key.len() == 34 && key.ends_with(":a") && !key.contains("kt"), "{key}");
    }
    assert_eq!(of("k", "t"), of("k", "t"));
}

#[test]
fn a_long_name_is_hashed_whole() {
    let session = session(&[header("x-s")], &[]);
    let key = |name: String| said().header("x-s", name).key(&session).expect("a key");
    assert_eq!(key("a".repeat(256)), "a".repeat(256));
    let long = key("a".repeat(257));
    assert!(long.starts_with("sha256:") && long.len() == 71, "{long}");
    assert_ne!(long, key("a".repeat(256) + "b"));
    assert_ne!(long, key(long.clone()));
}

#[test]
fn a_name_cannot_pass_for_another_kind_of_key() {
    let session = session(&[header("x-s")], &[]);
    let nobody = Tenant::default();
    let somebody = Tenant::of([Some("k")].into_iter());
    for other in [SessionKey::anonymous(&nobody), SessionKey::anonymous(&somebody), SessionKey::made_up(&somebody).0] {
        assert_ne!(said().header("x-s", other.as_str()).key(&session).as_deref(), Some(other.as_str()));
    }
}

#[test]
fn a_made_up_name_leads_back_to_its_session() {
    let session = session(&[header("x-s")], &[header("x-api-key")]);
    let Ok(KeyLookup::Absent(tenant)) = said().header("x-api-key", "k").whole(&session) else {
        panic!("no key was given")
    };
    let (key, name) = SessionKey::made_up(&tenant);
    assert_ne!(SessionKey::made_up(&tenant).0, key);
    let back = said().header("x-api-key", "k").header("x-s", &*name).key(&session);
    assert_eq!(back.as_deref(), Some(key.as_str()));
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{1,8}",
        "={0,2}(anonymous|sha256:[0-9a-f]{64}|[0-9a-f]{32}:[a=]{0,2})",
        "a{255,258}",
        prop_oneof![Just("a"), Just("b")].prop_map(|name| text::within(
            Tenant::of([Some("k")].into_iter()).digest(),
            name
        )
        .into_owned()),
        Just(text::of_name(&"a".repeat(257)).into_owned()),
    ]
}

fn tenants() -> impl Strategy<Value = Option<Vec<Option<String>>>> {
    prop::option::of(prop::collection::vec(prop::option::of("[k\u{0}]{1,2}"), 1..3))
}

fn named(name: &str, tenant: Option<&Vec<Option<String>>>) -> SessionKey {
    let parts = tenant.into_iter().flatten().map(Option::as_deref);
    SessionKey::named(name, &Tenant::of(parts))
}

proptest! {
    #[test]
    fn keys_are_equal_only_for_equal_sessions(one in (names(), tenants()), other in (names(), tenants())) {
        let keys = [&one, &other].map(|(name, tenant)| named(name, tenant.as_ref()));
        prop_assert_eq!(keys[0] == keys[1], one == other);
        let shared = SessionKey::anonymous(&Tenant::default());
        prop_assert!(keys.iter().all(|key| *key != shared && key.as_str().len() <= 290));
    }

    #[test]
    fn any_request_is_read_without_panic(value in "[ -~\u{e4}]*", body: Vec<u8>, kind in "(multipart/form-data; boundary=[a-]?|application/x-www-form-urlencoded|a/b\\+json|[ -~]*)") {
        let all = session(&[header("x-s"), cookie(), form(), json()], &[header("x-s")]);
        let request = said().header("x-s", &value).header("cookie", &value).header("content-type", &kind).body(&body);
        let _ = request.head(&all);
        let _ = request.whole(&all);
    }
}
