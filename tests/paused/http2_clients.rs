//! Clients that speak HTTP/2: many requests on one connection.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinHandle;

use turnwise::control::drain::Drained;

use crate::harness::{House, assert_took, later, paused, settle, timed};

const POLICY: &str = "server: {keep_alive_timeout: 75s}\nlimits: {concurrency: 1, queue_timeout: 1h}\n\
    routes: [{name: all, upstream: agents, abandoned: cancel, session: {key: [{header: X-Session-Id}], queue_timeout: 1h}}]\n";

struct Http2 {
    sender: SendRequest<Empty<Bytes>>,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Http2 {
    async fn to(house: &House) -> Self {
        let io = TokioIo::new(house.stream(1, 16 * 1024));
        let (sender, connection) = Builder::new(TokioExecutor::new()).handshake(io).await.expect("a handshake");
        Self { sender, connection: tokio::spawn(connection) }
    }

    /// Asks in `session`; the status, and whether the body came whole. 0: the stream was reset.
    fn turn(&mut self, session: &str, id: usize, target: &str) -> JoinHandle<(u16, bool)> {
        let request = Request::get(format!("http://test{target}"))
            .header("X-Session-Id", session)
            .header("X-Id", id.to_string())
            .body(Empty::new())
            .expect("a request");
        let answer = self.sender.send_request(request);
        tokio::spawn(async move {
            match answer.await {
                Ok(answer) => (answer.status().as_u16(), answer.into_body().collect().await.is_ok()),
                Err(_) => (0, false),
            }
        })
    }
}

#[test]
fn turns_on_one_connection_keep_the_order_in_which_they_were_sent() {
    paused(async {
        let house = House::with_one_agent(POLICY);
        let mut client = Http2::to(&house).await;
        let asked: Vec<_> = (0..30).map(|id| client.turn("s", id, "/?think=1")).collect();
        for one in asked {
            assert_eq!(one.await.expect("no panic"), (200, true));
        }
        assert_eq!(house.agent.order(), (0..30).map(|id| id.to_string()).collect::<Vec<_>>());
        drop(client.sender);
        house.at_rest().await;
    });
}

/// A frame (RFC 9113, section 4.1) of stream `stream`.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("short");
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A block of fields, each written as it is (RFC 7541, section 6.2.2).
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

#[test]
fn whose_key_is_in_its_head_does_not_pass_those_whose_keys_are_in_their_bodies() {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;
    paused(async {
        let house = House::with_one_agent(
            "routes: [{name: all, upstream: agents, session: {key: [{header: X-Session-Id}, {json: /s}], queue_timeout: 1h}}]\n",
        );
        let mut octets = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, &[])].concat();
        for id in 0..10_u8 {
            let (stream, number) = (2 * id + 1, id.to_string());
            let mut head =
                vec![(":method", "POST"), (":scheme", "http"), (":authority", "test"), (":path", "/?think=1")];
            head.push(("x-id", &number));
            if id % 2 == 0 {
                octets.extend(frame(HEADERS, END_HEADERS, stream, &fields(&head)));
                octets.extend(frame(DATA, END_STREAM, stream, br#"{"s":"ann"}"#));
            } else {
                head.push(("x-session-id", "ann"));
                octets.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields(&head)));
            }
        }
        let mut client = house.client();
        client.write(octets).await;
        later(20.0).await;
        assert_eq!(house.agent.order(), (0..10).map(|id| id.to_string()).collect::<Vec<_>>());
        drop(client);
        house.at_rest().await;
    });
}

#[test]
fn a_stream_that_is_reset_leaves_its_line_and_its_neighbours_stay() {
    paused(async {
        let house = House::with_one_agent(POLICY);
        let mut client = Http2::to(&house).await;
        let running = client.turn("s", 1, "/?think=20");
        settle().await;
        let waiting = client.turn("s", 2, "/");
        let last = client.turn("s", 3, "/");
        settle().await;
        assert_eq!(house.control.admission.sessions.waiting(), 2);
        waiting.abort();
        settle().await;
        assert_eq!(house.control.admission.sessions.waiting(), 1);
        running.abort();
        settle().await;
        assert_eq!(last.await.expect("no panic"), (200, true));
        assert_eq!(house.agent.order(), ["1", "3"]);
        drop(client.sender);
        house.at_rest().await;
    });
}

#[test]
fn a_connection_that_ends_takes_all_its_streams_with_it() {
    paused(async {
        let house = House::with_one_agent(POLICY);
        let mut client = Http2::to(&house).await;
        let asked: Vec<_> =
            (0..20).map(|id| client.turn(if id % 2 == 0 { "s" } else { "t" }, id, "/?think=20")).collect();
        later(1.0).await;
        client.connection.abort();
        asked.iter().for_each(JoinHandle::abort);
        settle().await;
        let admission = &house.control.admission;
        assert_eq!((admission.roll.len(), admission.gate.in_use(), house.agent.running()), (0, 0, 0));
        house.at_rest().await;
    });
}

#[test]
fn a_connection_without_streams_is_closed_after_the_keep_alive_timeout_and_not_while_it_has_one() {
    paused(async {
        let house = House::with_one_agent(POLICY);
        let mut client = Http2::to(&house).await;
        let long = client.turn("s", 1, "/?pieces=10&every=20");
        let (took, answer) = timed(long).await;
        assert_took(took, 200.0);
        assert_eq!(answer.expect("no panic"), (200, true));
        let (took, _) = timed(&mut client.connection).await;
        assert!((75.0..=100.0).contains(&took), "closed after {took} s");
        house.at_rest().await;
    });
}

#[test]
fn when_the_gateway_drains_its_streams_finish() {
    paused(async {
        let house = House::with_one_agent(POLICY);
        let mut client = Http2::to(&house).await;
        let asked: Vec<_> = (0..3).map(|id| client.turn("s", id, "/?think=5")).collect();
        settle().await;
        let (took, drained) = timed(house.control.drain(|| {})).await;
        assert_took(took, 15.0);
        assert_eq!(drained, Drained::Clean);
        for one in asked {
            assert_eq!(one.await.expect("no panic"), (200, true));
        }
        let (took, _) = timed(client.connection).await;
        assert_took(took, 0.0);
        house.at_rest().await;
    });
}

#[test]
fn an_answer_that_breaks_off_is_a_reset_stream() {
    paused(async {
        let house = House::with_one_agent(POLICY);
        let mut client = Http2::to(&house).await;
        let (status, whole) = client.turn("s", 1, "/?pieces=3&every=1&then=break").await.expect("no panic");
        assert_eq!((status, whole), (200, false));
        assert_eq!(client.turn("s", 2, "/").await.expect("no panic"), (200, true), "the connection lives on");
        drop(client.sender);
        house.at_rest().await;
    });
}
