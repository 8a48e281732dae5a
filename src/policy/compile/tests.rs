//! The file as a whole: defaults, merging, and what is said of policies that do not hold.

use std::net::SocketAddr;

use super::*;
use crate::policy::{
    Abandoned, Anonymous, Assign, Balance, FairBy, Join, KeySource, Listener, NamedFile, PathMatch, Priority, RatePer,
    Segment, UpstreamTls, WhenBusy, WhenExceeded,
};

const SMALLEST: &str = "upstreams: {agents: {servers: ['http://127.0.0.1:8000']}}";

fn compiled(text: &str) -> Compiled {
    let env = |name: &str| (name == "KEY").then(|| "s3cret".to_owned());
    compile("f.yaml", text.as_bytes(), &env).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

fn policy(text: &str) -> Policy {
    compiled(text).policy
}

/// What is said, without the name of the file.
fn refused(text: &str) -> String {
    let env = |name: &str| (name == "KEY").then(|| "s3cret".to_owned());
    let problems = compile("f.yaml", text.as_bytes(), &env).expect_err(text);
    problems.to_string().replace("f.yaml:", "")
}

/// A policy with one route, which has these lines.
fn with_route(route: &str) -> String {
    format!("{SMALLEST}\nroutes:\n- name: r\n  {}\n", route.replace('\n', "\n  "))
}

fn warnings(text: &str) -> Vec<String> {
    compiled(text).warnings.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn says(text: &str, expected: &str) {
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
fn a_session_has_every_default() {
    let policy = policy(&with_route("session: {key: [{header: X-Session-Id}]}"));
    let session = policy.routes[0].session.as_ref().expect("a session");
    assert_eq!((&*session.lane, session.anonymous, &session.assign), ("r", Anonymous::Separate, &None));
    assert_eq!((session.concurrency.get(), session.queue), (1, 32));
    assert_eq!((session.queue_timeout, session.within.len()), (Duration::from_secs(60), 0));
}

#[test]
fn every_place_of_a_key_is_read() {
    let policy = policy(&with_route(
        "match: {path: '/a/{agent}/run'}\nsession:\n  key: [{header: X-Session-Id}, {json: /a~1b/c}, {form: f}, \
         {query: q}, {cookie: sid}, {path: agent}]\n  assign: {json: /a~1b/c}\n  lane: shared",
    ));
    let session = policy.routes[0].session.as_ref().expect("a session");
    let tokens = vec!["a/b".to_owned(), "c".to_owned()];
    assert_eq!(session.key[0], KeySource::Header(http::HeaderName::from_static("x-session-id")));
    assert_eq!(session.key[1], KeySource::Json(tokens.clone()));
    assert_eq!(session.key[5], KeySource::Path("agent".to_owned()));
    assert_eq!((session.key.len(), &session.assign, &*session.lane), (6, &Some(Assign::Json(tokens)), "shared"));
}

#[test]
fn rate_limits_have_their_defaults() {
    let policy = policy(&with_route(
        "rate_limits:\n- {per: client_ip, rate: 5/s}\n- {per: {header: X-Api-Key}, rate: 1000/h, when_exceeded: wait}\n\
         - {per: route, rate: 600/min, burst: 7, name: all}",
    ));
    let [ip, header, route] = policy.routes[0].rate_limits.as_slice() else { panic!("three limits") };
    assert_eq!((&*ip.name, ip.burst.get(), ip.when_exceeded), ("client_ip", 5, WhenExceeded::Reject));
    let wait = WhenExceeded::Wait { queue: 1000, queue_timeout: Duration::from_secs(30) };
    assert_eq!((&*header.name, header.burst.get(), header.when_exceeded), ("x-api-key", 100, wait));
    assert_eq!((&*route.name, route.burst.get(), &route.per), ("all", 7, &RatePer::Route));
    assert_eq!(route.rate.interval(), Duration::from_millis(100));
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
fn upstreams_are_needed_and_named() {
    says("listen: ':80'", "1:1: `upstreams` is missing");
    says("upstreams: {}", "upstreams: must name at least one upstream");
    says("upstreams:\n", "upstreams: must be a mapping, not nothing");
    says("upstreams: {a: {servers: []}}", "upstreams.a.servers: must name at least one server");
    says("upstreams: {a: {}}", "upstreams.a: `servers` is missing");
    says("upstreams: {a b: {servers: ['http://a']}}", "a name has 1 to 64 letters");
    let two = "upstreams: {a: {servers: ['http://a']}, b: {servers: ['http://b']}}";
    says(two, "`routes` is missing: with several upstreams");
    says(&format!("{two}\nroutes: [{{name: x}}]"), "routes[0]: `upstream` is missing, and there are several");
    says(&with_route("upstream: agnets"), "routes[0].upstream: there is no upstream `agnets`; did you mean `agents`?");
    assert_eq!(
        warnings(&format!("{two}\nroutes: [{{upstream: b}}]")),
        ["f.yaml:1:13: upstreams.a: no route leads to this upstream"]
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
fn matches_are_checked() {
    says(&with_route("match: {path: /a, path_prefix: /b}"), "`path` and `path_prefix` exclude each other");
    says(&with_route("match: {path: a}"), "routes[0].match.path: must begin with `/`");
    says(
        &with_route("match: {methods: [get]}"),
        "routes[0].match.methods[0]: must be a method such as `POST`, not `get`; did you mean `GET`?",
    );
    says(&with_route("match: {methods: []}"), "must not be an empty list");
    says(&with_route("match: {hosts: [a, 'A:80']}"), "stands here twice");
    says(&with_route("match: {headers: {a: 1}}"), "write it in quotation marks: `\"1\"`");
    says(&with_route("match: {headers: {a_b: x}}"), "did you mean `a-b`?");
    says(&with_route("match:"), "routes[0].match: must be a mapping, not nothing");
    let matching =
        &policy(&with_route("match: {hosts: ['A.b:80'], headers: {X-A: '1'}, methods: [GET]}")).routes[0].matching;
    assert_eq!((matching.hosts.as_slice(), matching.headers.len()), (["a.b".to_owned()].as_slice(), 1));
}

#[test]
fn sessions_are_checked() {
    let session = |text: &str| with_route(&format!("match: {{path: '/a/{{agent}}'}}\nsession: {{{text}}}"));
    says(&session(""), "routes[0].session: `key` is missing");
    says(&session("key: []"), "must name at least one place");
    says(&session("key: {header: X}"), "routes[0].session.key: must be a list, not a mapping");
    says(&session("key: [{path: agnt}]"), "there is no variable of the route's path `agnt`; did you mean `agent`?");
    says(&session("key: [{json: session_id}]"), "did you mean `/session_id`?");
    says(&session("key: [{header: X, query: q}]"), "must have one key only");
    says(&session("key: [header]"), "must be `{header: …}` or `{json: …}`");
    says(&session("key: [{query: q}, {query: q}]"), "this place stands in the list already");
    says(
        &session("key: [{query: q}], anonymous: shared, assign: {header: X}"),
        "`assign` is for `anonymous: separate`",
    );
    says(&session("key: [{header: Host}], assign: {header: Host}"), "frames the request");
    says(&with_route("session: {key: [{path: a}]}"), "there is no variable `a`; give the route a `match.path`");
    let found = warnings(&session("key: [{query: q}], assign: {header: X}"));
    assert!(found[0].contains("is not found here again"), "{found:?}");
}

#[test]
fn a_path_that_is_wrong_is_told_without_its_variables() {
    let said = refused(&with_route("match: {path: 'a/{agent}'}\nsession: {key: [{path: agent}]}"));
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn rate_limits_are_checked() {
    let limits = |text: &str| with_route(&format!("rate_limits: [{text}]"));
    says(&limits("{per: route}"), "routes[0].rate_limits[0]: `rate` is missing");
    says(&limits("{rate: 1/s}"), "`per` is missing");
    says(&limits("{per: header, rate: 1/s}"), "write `{header: X-Api-Key}`");
    says(&limits("{per: route, rate: 1/s}, {per: route, rate: 9/h}"), "two limits of this route are named `route`");
    says(&limits("{per: route, rate: 1/s, queue: 5}"), "nothing waits for a limit that rejects");
    says(&limits("{per: route, rate: 1/s, name: 'a\"b'}"), "is no name");
    says(&limits("{per: route, rate: 1/m}"), "write `1/min`");
    assert!(warnings(&limits("{per: session, rate: 1/s}"))[0].contains("this route has no session"));
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
fn the_durable_queue_has_every_default_and_bounds() {
    let of = |text: &str| policy(&format!("{SMALLEST}\nbackground: {text}")).background;
    assert_eq!(policy(SMALLEST).background, None);
    assert_eq!(of("null"), None);
    let queue = of("{}").expect("a queue");
    assert_eq!((queue.store.as_path(), queue.store_bytes), (Path::new("turnwise-jobs"), 1 << 30));
    assert_eq!((queue.workers, queue.queue, queue.attempts, queue.max_result), (5, 1000, 3, 1 << 20));
    assert_eq!((queue.retry_delay, queue.keep_results), (Duration::from_secs(5), Duration::from_secs(3600)));
    for key in ["workers", "queue", "attempts", "max_result", "store_bytes"] {
        says(&format!("{SMALLEST}\nbackground: {{{key}: 0}}"), &format!("background.{key}: must be "));
    }
    says(&format!("{SMALLEST}\nbackground: {{retry_delay: 0s}}"), "background.retry_delay: must be ");
    says(&format!("{SMALLEST}\nbackground: {{worker: 1}}"), "did you mean `workers`?");
    says(&format!("{SMALLEST}\nbackground: {{store: ''}}"), "background.store: must not be empty");
    says(&format!("{SMALLEST}\nbackground: 5"), "background: must be a mapping");
}

#[test]
fn a_route_that_answers_later_needs_the_durable_queue() {
    for word in ["prefer", "always"] {
        let route = with_route(&format!("background: {word}"));
        says(&route, &format!("routes[0].background: `{word}` needs the durable queue"));
        assert_eq!(policy(&format!("{route}background: {{}}")).routes[0].background.word(), word);
    }
    says(&format!("{SMALLEST}\ndefaults: {{background: prefer}}"), "defaults.background: `prefer` needs");
    policy(&with_route("background: off"));
    says(&with_route("background: false"), "must be `off` or `prefer` or `always`, not `false`");
}

#[test]
fn tls_of_listeners_names_its_files_where_they_are_named() {
    let listener = |text: &str| format!("{SMALLEST}\nlisten: [{{address: ':80', {text}}}]");
    let both = policy(&listener(
        "proxy_protocol: true, tls: {cert: c, key: k, client_ca: a, certificates: [{cert: d, key: l}]}",
    ));
    let tls = both.listen[0].tls.as_deref().expect("TLS");
    assert!(both.listen[0].proxy_protocol);
    let named = |file: &NamedFile| format!("{} {}", file.key, file.path.display());
    assert_eq!(named(&tls.identity.cert), "listen[0].tls.cert c");
    assert_eq!(named(tls.client_ca.as_ref().expect("one")), "listen[0].tls.client_ca a");
    assert_eq!(named(&tls.others[0].key), "listen[0].tls.certificates[0].key l");
    assert_eq!(policy(&listener("tls: null")).listen[0].tls, None);
    says(&listener("tls: {cert: c}"), "listen[0].tls: `key` is missing");
    says(&listener("tls: {cert: '', key: k}"), "listen[0].tls.cert: must not be empty");
    says(&listener("tls: {cert: c, key: k, clientca: x}"), "did you mean `client_ca`?");
    says(&listener("proxy_protocol: 1"), "listen[0].proxy_protocol: must be `true` or `false`");
}

#[test]
fn tls_with_servers_is_for_https_servers() {
    let upstream = |servers: &str, text: &str| format!("upstreams: {{a: {{servers: [{servers}], {text}}}}}");
    let of = |servers: &str, text: &str| policy(&upstream(servers, text)).upstreams[0].clone();
    let plain = of("'https://a'", "http2: true");
    assert!(plain.servers[0].https && plain.servers[0].port == 443 && plain.tls == UpstreamTls::default());
    let tls = of("'https://a:1'", "tls: {ca: a, cert: c, key: k, server_name: Agent.Example}").tls.clone();
    assert!(tls.ca.is_some() && tls.identity.is_some());
    assert_eq!(tls.server_name.as_deref(), Some("agent.example"));
    says(&upstream("'http://a'", "tls: {ca: a}"), "upstreams.a.tls: none of the servers speaks TLS");
    says(&upstream("'https://a'", "tls: {cert: a}"), "upstreams.a.tls.cert: needs `key` beside it");
    says(&upstream("'https://a'", "tls: {key: a}"), "upstreams.a.tls.key: needs `cert` beside it");
    says(&upstream("'https://a'", "tls: {server_name: 'a b'}"), "must be a name such as");
    says(&upstream("'https://a', 'http://b'", "http2: true"), "either all servers are `https` or none");
}

#[test]
fn what_a_busy_session_does_is_checked() {
    let session = |text: &str| with_route(&format!("session: {{key: [{{query: q}}], {text}}}"));
    let of = |text: &str| policy(&session(text)).routes[0].session.clone().expect("a session");
    let silent = of("queue: 1");
    assert_eq!(
        (silent.when_busy, silent.reentrant, silent.waits_aloud, silent.join),
        (WhenBusy::Wait, false, false, None)
    );
    let all = of("when_busy: interrupt, when_busy_choices: [reject, wait], reentrant: true, while_waiting: comments, \
                  duplicates: join, replay_for: 5s");
    assert_eq!((all.when_busy, all.reentrant, all.waits_aloud), (WhenBusy::Interrupt, true, true));
    assert_eq!(all.when_busy_choices, [WhenBusy::Reject, WhenBusy::Wait]);
    assert_eq!(all.join, Some(Join { replay_for: Duration::from_secs(5) }));
    says(&session("when_busy: rejct"), "did you mean `reject`?");
    says(&session("when_busy_choices: [wait, wait]"), "stands in the list already");
    says(&session("when_busy_choices: [leave]"), "must be `wait` or `reject`");
    says(&session("while_waiting: coments"), "did you mean `comments`?");
    assert!(warnings(&session("replay_for: 5s"))[0].contains("is for `duplicates: join`"));
}

#[test]
fn upstreams_are_checked() {
    let upstream = |text: &str| format!("upstreams: {{a: {{servers: ['http://a'], {text}}}}}");
    says(&upstream("balance: random"), "must be `least_inflight` or `round_robin` or `session`");
    says(&upstream("retry: {on: [status_500]}"), "upstreams.a.retry.on[0]: must be ");
    says(&upstream("retry: {attempts: 0}"), "must be at least 1");
    says(&upstream("health: {path: health}"), "must be a path such as `/health`");
    says("upstreams: {a: {servers: ['http://a', 'http://a:80']}}", "this server is in the list already");
    says("upstreams: {a: {servers: [{url: 'http://a', weight: 1001}]}}", "must be from 1 to 1000");
    says("upstreams: {a: {servers: ['http://me:${KEY}@a']}}", "must be an address such as");
    let policy = policy(&upstream("retry: {on: [connect, status_503]}, health: {interval: 1s}, eject: {for: 1m}"));
    let upstream = &policy.upstreams[0];
    let health = upstream.health.as_ref().expect("a health check");
    assert_eq!((upstream.retry.on_503, upstream.retry.on_429, &*health.path), (true, false, "/health"));
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
fn a_variable_of_a_path_is_a_segment() {
    let policy = policy(&with_route("match: {path: '/a/{x}'}"));
    let segments = vec![Segment::Literal("a".to_owned()), Segment::Variable("x".to_owned())];
    assert_eq!(policy.routes[0].matching.path, PathMatch::Pattern(segments));
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
