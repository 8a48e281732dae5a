//! The file as a whole: defaults, merging, and what is said of policies that do not hold. What concerns one part of it
//! stands beside that.

use std::net::SocketAddr;

use super::*;
use crate::policy::{Abandoned, Balance, FairBy, KeySource, Listener, PathMatch, Priority};

pub(super) const SMALLEST: &str = "upstreams: {agents: {servers: ['http://127.0.0.1:8000']}}";

pub(super) fn compiled(text: &str) -> Compiled {
    let env = |name: &str| (name == "KEY").then(|| "s3cret".to_owned());
    compile("f.yaml", text.as_bytes(), &env).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

pub(super) fn policy(text: &str) -> Policy {
    compiled(text).policy
}

/// What is said, without the name of the file.
pub(super) fn refused(text: &str) -> String {
    let env = |name: &str| (name == "KEY").then(|| "s3cret".to_owned());
    let problems = compile("f.yaml", text.as_bytes(), &env).expect_err(text);
    problems.to_string().replace("f.yaml:", "")
}

/// A policy with one route, which has these lines.
pub(super) fn with_route(route: &str) -> String {
    format!("{SMALLEST}\nroutes:\n- name: r\n  {}\n", route.replace('\n', "\n  "))
}

pub(super) fn warnings(text: &str) -> Vec<String> {
    compiled(text).warnings.iter().map(ToString::to_string).collect()
}

#[track_caller]
pub(super) fn says(text: &str, expected: &str) {
    let said = refused(text);
    assert!(said.contains(expected), "{text}\nsaid: {said}\nnot:  {expected}");
    assert!(!said.contains("s3cret"), "{said}");
}

#[test]
fn the_smallest_file_has_every_default() {
    let policy = policy(SMALLEST);
    let seconds = Duration::from_secs;
    let address = "127.0.0.1:8080".parse::<SocketAddr>().expect("an address");
    assert_eq!(policy.listen, [Listener { address, tls: None, proxy_protocol: false }]);
    assert_eq!((policy.admin.listen.to_string(), policy.admin.token_file), ("127.0.0.1:9180".to_owned(), None));
    let server = &policy.server;
    assert!(server.workers >= 1 && server.trusted_proxies.is_empty());
    assert_eq!((server.max_connections, server.max_header_bytes), (10_000, 65_536));
    assert_eq!((server.header_timeout, server.keep_alive_timeout), (seconds(10), seconds(75)));
    assert_eq!((server.drain_delay, server.drain_timeout), (Duration::ZERO, seconds(30)));
    let limits = &policy.limits;
    assert_eq!((limits.concurrency, limits.queue, limits.queue_bytes), (100, 1000, 256 << 20));
    assert_eq!((limits.queue_timeout, limits.queue_share, limits.keys), (seconds(30), 100, 1_000_000));
    assert_eq!(limits.fair_by, Some(FairBy::ClientIp));
    let upstream = &policy.upstreams[0];
    assert_eq!((&*upstream.name, upstream.concurrency, upstream.http2), ("agents", None, false));
    assert_eq!((upstream.balance, upstream.connect_timeout), (Balance::LeastInflight, seconds(2)));
    assert_eq!((upstream.pool.max_idle, upstream.pool.idle_timeout, &upstream.health), (64, seconds(60), &None));
    assert_eq!((upstream.eject.after_failures, upstream.eject.duration), (5, seconds(10)));
    let retry = upstream.retry;
    assert_eq!((retry.attempts, retry.on_connect, retry.on_429, retry.on_503), (2, true, false, false));
    let server = &upstream.servers[0];
    assert_eq!((&*server.url, &*server.host, server.port), ("http://127.0.0.1:8000", "127.0.0.1", 8000));
    assert_eq!((server.weight, server.concurrency), (1, None));
    let route = &policy.routes[0];
    assert_eq!((&*route.name, &route.matching.path, route.upstream), ("default", &PathMatch::Any, 0));
    assert_eq!((route.priority, route.exempt, route.concurrency), (Priority::Normal, false, None));
    assert_eq!((route.body_limit, &route.session, route.rate_limits.len()), (16 << 20, &None, 0));
    let timeouts = route.timeouts;
    assert_eq!((timeouts.request, timeouts.response), (seconds(60), seconds(30)));
    assert_eq!((timeouts.idle, timeouts.total), (seconds(60), seconds(600)));
    assert_eq!((route.abandoned, route.abandoned_limit), (Abandoned::Auto, seconds(60)));
}

#[test]
fn defaults_merge_mapping_by_mapping_and_null_and_lists_replace() {
    let policy = policy(&format!(
        "{SMALLEST}\n\
         defaults:\n  timeouts: {{idle: 5s, total: 0s}}\n  session: {{key: [{{header: A}}], queue: 5}}\n  concurrency: 9\n\
         routes:\n- match: {{path: /a}}\n  timeouts: {{idle: 7s}}\n  session: {{key: [{{query: q}}]}}\n\
         - match: {{path: /b}}\n  session: null\n  concurrency: null\n\
         - match: {{path: /c}}\n  exempt: true\n"
    ));
    let [a, b, c] = policy.routes.as_slice() else { panic!("three routes") };
    assert_eq!((a.timeouts.idle, a.timeouts.total), (Duration::from_secs(7), Duration::ZERO));
    let session = a.session.as_ref().expect("a session");
    assert_eq!((session.key.as_slice(), session.queue), ([KeySource::Query("q".to_owned())].as_slice(), 5));
    assert_eq!((&b.session, b.concurrency, b.timeouts.idle), (&None, None, Duration::from_secs(5)));
    assert_eq!((&c.session, c.concurrency, &*c.name), (&None, None, "route-3"));
}

#[test]
fn a_problem_in_defaults_is_told_once_and_where_it_was_written() {
    let text = format!(
        "{SMALLEST}\ndefaults:\n  session: {{queue: 0}}\n  timeouts: {{idle: 5}}\nroutes: [{{}}, {{session: null}}]"
    );
    assert_eq!(
        refused(&text),
        "3:3: defaults.session: `key` is missing\n\
         3:13: defaults.session.queue: must be at least 1: with 0 nothing would ever pass\n\
         4:14: defaults.timeouts.idle: must be a duration such as `250ms`, `30s`, `10m` or `1h`, not `5`; \
         write the unit, as in `5s`"
    );
}

#[test]
fn what_belongs_to_one_route_is_not_for_defaults() {
    says(&format!("{SMALLEST}\ndefaults: {{name: a, match: {{}}}}"), "defaults.match: belongs to one route");
}

#[test]
fn misspelt_keys_are_told_with_what_was_meant() {
    says(&format!("{SMALLEST}\nlimts: {{}}"), "2:1: limts: unknown key; did you mean `limits`?");
    says(&format!("{SMALLEST}\nlimits: {{colour: 1}}"), "limits.colour: unknown key; known here: `concurrency`, ");
    says(&with_route("mtach: {path: /a}"), "4:3: routes[0].mtach: unknown key; did you mean `match`?");
    says(&with_route("match: {pth: /a}"), "routes[0].match.pth: unknown key; did you mean `path`?");
    says(
        &with_route("session: {key: [{haeder: X}]}"),
        "routes[0].session.key[0].haeder: unknown key; did you mean `header`?",
    );
}

#[test]
fn limits_of_zero_are_refused() {
    for key in ["concurrency", "queue", "queue_bytes", "queue_timeout", "keys"] {
        let unit = if key == "queue_timeout" { "s" } else { "" };
        says(&format!("{SMALLEST}\nlimits: {{{key}: 0{unit}}}"), &format!("limits.{key}: must be "));
    }
    for route in [
        "concurrency: 0",
        "body_limit: 0B",
        "session: {key: [{query: q}], concurrency: 0}",
        "timeouts: {idle: 0s}",
        "rate_limits: [{per: route, rate: 0/s}]",
        "rate_limits: [{per: route, rate: 1/s, burst: 0}]",
    ] {
        says(&with_route(route), "must be ");
    }
}

#[test]
fn addresses_must_not_meet() {
    let admin = |public: &str| format!("{SMALLEST}\nlisten: {public}\nadmin: {{listen: '127.0.0.1:80'}}");
    says(&admin("':80'"), "admin.listen: the admin address `127.0.0.1:80` shares its port");
    says(&admin("[':81', ':81']"), "listen[1]: `0.0.0.0:81` is listened on already");
    says(&admin("[]"), "listen: must name at least one address");
    says(&admin("81"), "write `127.0.0.1:81`");
    says(&format!("{SMALLEST}\nlisten: ':9180'"), "the admin address `127.0.0.1:9180` shares its port");
    assert_eq!(policy(&admin("[':81', {address: '[::1]:0', tls: null, proxy_protocol: false}]")).listen.len(), 2);
}

#[test]
fn an_admin_port_for_everyone_without_a_token_is_a_warning() {
    let open = format!("{SMALLEST}\nadmin: {{listen: ':9180'}}");
    assert!(warnings(&open)[0].contains("set `admin.token_file`"), "{:?}", warnings(&open));
    assert!(warnings(&format!("{SMALLEST}\nadmin: {{listen: ':9180', token_file: /run/token}}")).is_empty());
}

#[test]
fn an_exempt_route_has_no_turns_and_places() {
    for key in ["session: {key: [{query: q}]}", "concurrency: 1", "priority: low"] {
        says(&with_route(&format!("exempt: true\n{key}")), "has no effect on an exempt route");
    }
}

#[test]
fn names_of_routes_are_labels_and_unique() {
    says(
        &format!("{SMALLEST}\nroutes: [{{name: a, match: {{path: /a}}}}, {{name: a}}]"),
        "routes[1].name: the name `a` is taken",
    );
    says(&format!("{SMALLEST}\nroutes: [{{name: 'a b'}}]"), "routes[0].name: a name has 1 to 64 letters");
    says(&format!("{SMALLEST}\nroutes: [{{name: {}}}]", "x".repeat(65)), "a name has 1 to 64 letters");
    says(&format!("{SMALLEST}\nroutes:\n"), "routes: must be a list, not nothing");
}

#[test]
fn routes_of_one_lane_agree() {
    let two = |a: &str, b: &str| {
        format!(
            "{SMALLEST}\nroutes:\n- name: a\n  match: {{path: /a}}\n  session: {{key: [{{query: q}}], {a}}}\n\
                 - name: b\n  match: {{path: /b}}\n  session: {{key: [{{query: q}}], lane: a, {b}}}\n"
        )
    };
    says(
        &two("concurrency: 2", "concurrency: 3"),
        "routes[1].session.concurrency: routes that share the lane `a` must agree",
    );
    says(&two("concurrency: 2", "queue: 1"), "8:3: routes[1].session: routes that share the lane `a` must agree");
    assert!(warnings(&two("queue: 1", "queue: 2")).is_empty());
    assert!(warnings(&two("queue: 1", "within: [{header: A}]"))[0].contains("never meet in the lane `a`"));
}

#[test]
fn a_route_that_nothing_reaches_is_a_warning() {
    let found = warnings(&format!("{SMALLEST}\nroutes: [{{name: all}}, {{name: late, match: {{path: /a}}}}]"));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("no request can reach the route `late`: the earlier route `all`"), "{found:?}");
}

#[test]
fn times_are_bounded() {
    says(&with_route("timeouts: {total: 721h}"), "must be at most 720h");
    assert_eq!(policy(&with_route("timeouts: {total: 720h}")).routes[0].timeouts.total, MAX_DURATION);
}

#[test]
fn all_problems_of_all_parts_are_told_at_once_and_in_order() {
    let said =
        refused("listen: x\nlimits: {queue: 0}\nupstreams: {a: {servers: [b]}}\nroutes:\n- {upstream: c, exempt: 1}\n");
    let lines: Vec<&str> = said.lines().filter_map(|line| line.split(": ").nth(1)).collect();
    assert_eq!(lines, ["listen", "limits.queue", "upstreams.a.servers[0]", "routes[0].upstream", "routes[0].exempt"]);
}

#[test]
fn values_of_the_environment_are_not_told() {
    for route in [
        "session: {key: [{query: q}], lane: '${KEY} x'}",
        "match: {path: 'a${KEY}'}",
        "match: {headers: {a: \"${KEY}\\u0001\"}}",
        "match: {methods: ['${KEY}']}",
        "session: {key: [{json: '${KEY}'}]}",
        "session: {key: [{path: '${KEY}'}]}",
        "upstream: ${KEY}",
        "body_limit: ${KEY}",
        "rate_limits: [{per: '${KEY}', rate: '${KEY}'}]",
    ] {
        says(&with_route(route), "${KEY}");
    }
}

#[test]
fn addresses_that_are_wrong_do_not_bring_others_into_doubt() {
    let said = refused(&format!("{SMALLEST}\nlisten: x\nadmin: {{listen: '127.0.0.1:8080'}}"));
    assert_eq!(said.lines().count(), 1, "{said}");
    let both = format!("{SMALLEST}\nlisten: ['0.0.0.0:80', '[::]:80']");
    assert_eq!(policy(&both).listen.len(), 2);
}

#[test]
fn line_ends_of_other_systems_and_a_byte_order_mark_are_read() {
    let text = format!("\u{feff}listen: ':80'\r\n{SMALLEST}\r\nlimits:\r\n  queue: 0\r\n");
    says(&text, "4:3: limits.queue: must be at least 1");
}

#[test]
fn what_is_no_file_is_told_and_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let said = |path: &Path| load(path).expect_err("no file").to_string();
    let missing = folder.path().join("none.yaml");
    assert_eq!(
        said(&missing),
        format!("{}:1:1: cannot be read: No such file or directory (os error 2)", missing.display())
    );
    assert!(said(folder.path()).contains("directory"));
    assert!(said(Path::new("/dev/zero")).contains("no regular file"));
    let link = folder.path().join("link.yaml");
    std::fs::write(folder.path().join("real.yaml"), SMALLEST).expect("written");
    std::os::unix::fs::symlink("real.yaml", &link).expect("linked");
    load(&link).expect("links are followed");
}

#[test]
fn the_shipped_policy_holds_without_a_warning() {
    let text = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.yaml")).expect("the file is there");
    let compiled = compile("gateway.yaml", &text, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(compiled.warnings, []);
    let runs = compiled.policy.routes.iter().find(|route| &*route.name == "runs").expect("the route of runs");
    assert!(runs.session.as_ref().is_some_and(|session| session.key.len() == 5 && session.queue >= 100));
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = compile("f", &bytes, &|_| None);
    }

    #[test]
    fn any_value_in_any_place_never_panics(
        key in proptest::sample::select(vec!["listen", "admin", "server", "limits", "upstreams", "defaults", "routes"]),
        inner in "(listen|servers|session|key|match|path|rate_limits|per|rate|timeouts|name|assign|header|a)",
        value in "(\\[\\]|\\{\\}|null|1|-1|1\\.5|true|x|\\[x\\]|\\{header: x\\}|\\[\\{path: /a\\}\\]|'\\$\\{A\\}'|5/s|1s)",
    ) {
        let text = format!("{key}: {{{inner}: {value}}}\nupstreams: {{a: {{servers: ['http://a']}}}}\n");
        let list = format!("{SMALLEST}\nroutes: [{{{inner}: {value}, session: {{{inner}: {value}}}}}]\n");
        let alone = format!("{SMALLEST}\ndefaults: {value}\nroutes: [{value}]\nlisten: {value}\n");
        for text in [text, list, alone] {
            let _ = compile("f", text.as_bytes(), &|_| Some("1".to_owned()));
        }
    }
}

#[test]
fn a_variable_that_is_not_set_hides_no_other_problem() {
    let text =
        "listen: ${NOPE}\nlimits: {qeue: 1, concurrency: ${NADA}}\nupstreams: {a: {servers: ['http://${NOPE}']}}";
    let text = text.replace("${NADA}", "'${NADA}'");
    let said = refused(&text);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 4, "{said}");
    for (line, words) in
        lines.iter().zip(["1:1: listen: the env", "2:10: limits.qeue: unknown key", "`NADA`", "`NOPE`"])
    {
        assert!(line.contains(words), "{line}");
    }
}

#[test]
fn words_of_other_yaml_are_answered_with_ours() {
    says(
        &with_route("exempt: 'true'"),
        "must be `true` or `false`, not the text `true`; write `true`, without quotation",
    );
    says(&with_route("exempt: yes"), "not the text `yes`; write `true`");
    says(&with_route("background: false"), "did you mean `off`?");
}

#[test]
fn an_admin_port_that_is_the_public_one_is_told_where_one_of_them_stands() {
    says(&format!("listen: ':9180'\n{SMALLEST}"), "1:1: listen: the admin address");
    says(&format!("{SMALLEST}\nadmin: {{token_file: t}}\nlisten: ':9180'"), "2:1: admin: the admin address");
}
