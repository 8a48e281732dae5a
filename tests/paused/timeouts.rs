//! Every wait has an end with its own reason.

use crate::harness::{Door, House, assert_took, later, paused, settle, timed};

const HEAD_AND_KEEP_ALIVE: &str = "server: {header_timeout: 10s, keep_alive_timeout: 75s}\n";

fn timeouts(words: &str) -> String {
    format!("routes: [{{name: all, upstream: agents, timeouts: {{{words}}}}}]\n")
}

#[test]
fn a_head_that_does_not_end_in_time_is_a_408() {
    paused(async {
        let house = House::with_one_agent(HEAD_AND_KEEP_ALIVE);
        let mut client = house.client();
        client.write("GET / HTTP/1.1\r\nHost: te").await;
        let (took, said) = timed(client.until_closed()).await;
        assert_took(took, 10.0);
        assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
        assert!(said.to_lowercase().contains("connection: close"), "{said}");
        house.at_rest().await;
    });
}

#[test]
fn a_head_that_trickles_does_not_put_its_end_off() {
    paused(async {
        let house = House::with_one_agent(HEAD_AND_KEEP_ALIVE);
        let mut client = house.client();
        client.write("GET / HTTP/1.1\r\nHost: test\r\n").await;
        let (took, said) = timed(async {
            for _ in 0..4 {
                later(4.0).await;
                client.write("X-A: b\r\n").await;
            }
            client.until_closed().await
        })
        .await;
        assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
        assert_took(took, 16.0); // four writes; the answer was there at 10
        house.at_rest().await;
    });
}

#[test]
fn a_second_head_on_a_connection_has_the_same_time_as_the_first() {
    paused(async {
        let house = House::with_one_agent(HEAD_AND_KEEP_ALIVE);
        let mut client = house.client();
        client.request("GET", "/", "", "").await;
        assert_eq!(client.answer().await.status, 200);
        later(60.0).await;
        client.write("GET / HT").await;
        let (took, said) = timed(client.until_closed()).await;
        assert_took(took, 10.0);
        assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
        house.at_rest().await;
    });
}

#[test]
fn a_connection_without_a_request_is_closed_without_a_word() {
    paused(async {
        let house = House::with_one_agent(HEAD_AND_KEEP_ALIVE);
        let (took, said) = timed(house.client().until_closed()).await;
        assert_took(took, 10.0);
        assert_eq!(said, "", "who says nothing is owed nothing");
        let mut client = house.client();
        client.request("GET", "/", "", "").await;
        assert_eq!(client.answer().await.status, 200);
        let (took, said) = timed(client.until_closed()).await;
        assert_took(took, 75.0);
        assert_eq!(said, "");
        house.at_rest().await;
    });
}

#[test]
fn half_a_preface_of_http2_has_no_more_time_than_a_head() {
    paused(async {
        let house = House::with_one_agent(HEAD_AND_KEEP_ALIVE);
        let mut client = house.client();
        client.write("PRI * HTTP/2.0\r\n").await;
        let (took, _) = timed(client.until_closed()).await;
        assert_took(took, 10.0);
        house.at_rest().await;
    });
}

#[test]
fn a_body_that_does_not_end_in_time_is_a_408_and_blames_no_server() {
    paused(async {
        let house = House::with_one_agent(&timeouts("request: 60s, response: 20s"));
        let mut client = house.client();
        client.write("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n1234").await;
        let (took, answer) = timed(client.answer()).await;
        assert_took(took, 60.0);
        assert_eq!((answer.status, answer.reason()), (408, "request_timeout".into()));
        assert_eq!(house.metric("turnwise_upstream_errors_total", ""), 0.0);
        drop(client);
        house.at_rest().await;
    });
}

#[test]
fn a_body_that_is_read_for_its_key_has_the_same_time() {
    paused(async {
        let house = House::with_one_agent(
            "routes: [{name: all, upstream: agents, session: {key: [{json: /id}]}, timeouts: {request: 60s}}]\n",
        );
        let mut client = house.client();
        client.write("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n{\"id\"").await;
        settle().await;
        assert_eq!(house.control.admission.held.total(), 5);
        let (took, answer) = timed(client.answer()).await;
        assert_took(took, 60.0);
        assert_eq!((answer.status, answer.reason()), (408, "request_timeout".into()));
        assert_eq!(house.agent.seen().len(), 0);
        drop(client);
        house.at_rest().await;
    });
}

#[test]
fn no_response_head_in_time_is_a_504_and_the_place_is_kept_while_the_agent_works() {
    paused(async {
        let house = House::with_one_agent(
            "limits: {concurrency: 1, queue_timeout: 1h}\nroutes: [{name: all, upstream: agents, abandoned: finish, timeouts: {response: 30s}}]\n",
        );
        let first = house.get("/?think=50", "");
        settle().await;
        let second = house.get("/", "");
        let (took, answer) = timed(first.answer()).await;
        assert_took(took, 30.0);
        assert_eq!((answer.status, answer.reason()), (504, "upstream_timeout".into()));
        assert_eq!(house.control.admission.gate.in_use(), 1, "the agent still works");
        let (took, status) = timed(second.status()).await;
        assert_took(took, 20.0);
        assert_eq!((status, house.agent.most("all")), (200, 1));
        assert_eq!(house.metric("turnwise_abandoned_total", "result=\"finished\""), 1.0);
        house.at_rest().await;
    });
}

#[test]
fn waiting_in_the_gateway_is_no_part_of_the_time_for_the_head() {
    paused(async {
        let house = House::with_one_agent(&format!(
            "limits: {{concurrency: 1, queue_timeout: 1h}}\n{}",
            timeouts("response: 6s")
        ));
        let running = house.get("/?think=5", "");
        settle().await;
        let (took, status) = timed(house.get("/?think=5", "").status()).await;
        assert_eq!((running.status().await, status), (200, 200));
        assert_took(took, 10.0);
        house.at_rest().await;
    });
}

#[test]
fn work_after_a_504_is_cut_at_the_abandoned_limit() {
    paused(async {
        let house = House::with_one_agent(
            "limits: {concurrency: 1, queue_timeout: 1h}\n\
             routes: [{name: all, upstream: agents, abandoned_limit: 60s, timeouts: {response: 30s}}]\n",
        );
        let first = house.get("/?think=5000", "");
        settle().await;
        let second = house.get("/", "");
        assert_eq!(first.status().await, 504);
        let (took, status) = timed(second.status()).await;
        assert_took(took, 60.0);
        assert_eq!((status, house.agent.most("all")), (200, 1));
        assert!(house.agent.seen()[0].hung_up);
        assert_eq!(house.metric("turnwise_abandoned_total", "result=\"cut\""), 1.0);
        house.at_rest().await;
    });
}

#[test]
fn work_after_a_504_is_cancelled_where_the_policy_says_so() {
    paused(async {
        let house = House::with_one_agent(
            "routes: [{name: all, upstream: agents, abandoned: cancel, timeouts: {response: 30s}}]\n",
        );
        assert_eq!(house.get("/?think=5000", "").status().await, 504);
        settle().await;
        assert_eq!((house.agent.running(), house.control.admission.gate.in_use()), (0, 0));
        house.at_rest().await;
    });
}

#[test]
fn total_ends_a_request_before_its_head_with_a_504() {
    paused(async {
        let house = House::with_one_agent(&timeouts("response: 1h, total: 10m"));
        let (took, answer) = timed(house.get("/?think=650", "").answer()).await;
        assert_took(took, 600.0);
        assert_eq!((answer.status, answer.reason()), (504, "upstream_timeout".into()));
        later(60.0).await;
        house.at_rest().await;
    });
}

#[test]
fn total_cuts_a_body_visibly() {
    paused(async {
        let house = House::with_one_agent(&timeouts("idle: 1m, total: 10m"));
        let (took, answer) = timed(house.get("/?pieces=1000&every=30", "").answer()).await;
        assert_took(took, 600.0);
        assert_eq!((answer.status, answer.complete), (200, false));
        house.at_rest().await;
    });
}

#[test]
fn total_counts_from_admission_and_not_from_arrival() {
    paused(async {
        let house = House::with_one_agent(
            "limits: {concurrency: 1, queue_timeout: 10m}\n\
             routes: [{name: all, upstream: agents, timeouts: {idle: 10m, total: 100s}}]\n",
        );
        let first = house.get("/?think=25&pieces=1&every=60", "");
        settle().await;
        let second = house.get("/?think=25&pieces=1&every=60", "");
        assert!(first.answer().await.complete);
        assert!(second.answer().await.complete, "85 s after its admission, 170 s after its arrival");
        house.at_rest().await;
    });
}

#[test]
fn total_also_ends_an_answer_that_never_pauses() {
    paused(async {
        let house = House::with_one_agent(&timeouts("idle: 1h, total: 60s"));
        // The client takes a little every second, and there is always more for it.
        let mut client = house.client_with(1, 256);
        client.request("GET", "/?pieces=1000000&size=1024", "", "").await;
        let (took, ()) = timed(async {
            while client.take(256).await > 0 {
                later(1.0).await;
            }
        })
        .await;
        assert!(took < 120.0, "it lasted {took} s");
        drop(client);
        house.at_rest().await;
    });
}

#[test]
fn total_also_ends_a_wait_for_a_server() {
    paused(async {
        // Two servers with room for one each: a session that belongs to a busy one waits for it, with a place.
        let house = House::new(
            "limits: {queue_timeout: 10m}\n\
             upstreams: {agents: {balance: session, servers: [{url: 'http://a:80', concurrency: 1}, {url: 'http://b:80', concurrency: 1}]}}\n\
             defaults: {session: {key: [{header: X-Session-Id}]}}\n\
             routes:\n- {name: long, match: {path: /long}, upstream: agents, timeouts: {idle: 1h, total: 0s}}\n\
             - {name: all, upstream: agents, timeouts: {total: 60s}}\n",
        );
        let first = house.turn("s", 1, "/long?pieces=1&every=200");
        settle().await;
        let (took, status) = timed(house.turn("s", 2, "/").status()).await;
        assert_took(took, 60.0);
        assert!(status == 503 || status == 504, "{status}");
        assert!(first.answer().await.complete);
        house.at_rest().await;
    });
}

#[test]
fn a_body_that_stalls_is_cut_visibly() {
    paused(async {
        let house = House::with_one_agent(&timeouts("idle: 60s"));
        let (took, answer) = timed(house.get("/?pieces=3&every=59&then=hang", "").answer()).await;
        assert_took(took, 3.0 * 59.0 + 60.0);
        assert_eq!((answer.status, answer.body.len(), answer.complete), (200, 6, false));
        house.at_rest().await;
    });
}

#[test]
fn a_server_that_nobody_answers_at_is_a_504_after_the_connect_timeout() {
    paused(async {
        let house = House::new(
            "upstreams: {agents: {servers: ['http://agent:80'], connect_timeout: 2s, retry: {attempts: 1}}}\n",
        );
        house.agent.set_door("agent", Door::Silent);
        let (took, answer) = timed(house.get("/", "").answer()).await;
        assert_took(took, 2.0);
        assert_eq!((answer.status, answer.reason()), (504, "upstream_timeout".into()));
        house.at_rest().await;
    });
}
