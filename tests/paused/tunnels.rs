//! Upgraded connections hold turn and place, and have an end.

use crate::harness::{Door, House, assert_took, later, paused, settle, timed};

const SWITCHES: Door = Door::Raw("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
const UPGRADE: &str = "Connection: upgrade\r\nUpgrade: echo\r\n";

fn policy(timeouts: &str) -> String {
    format!(
        "limits: {{concurrency: 1, queue_timeout: 10h}}\nroutes: [{{name: all, upstream: agents, timeouts: {{{timeouts}}}}}]\n"
    )
}

#[test]
fn a_silent_one_ends_after_the_idle_timeout_and_holds_its_place_until_then() {
    paused(async {
        let house = House::with_one_agent(&policy("idle: 60s, total: 0s"));
        house.agent.set_door("agent", SWITCHES);
        let mut client = house.client();
        client.request("GET", "/", UPGRADE, "").await;
        assert_eq!(client.head().await.status, 101);
        later(1.0).await;
        assert_eq!(house.control.admission.gate.in_use(), 1);
        let (took, _) = timed(client.until_closed()).await;
        assert_took(took, 59.0);
        house.at_rest().await;
    });
}

#[test]
fn total_ends_one_that_never_falls_silent() {
    paused(async {
        let house = House::with_one_agent(&policy("idle: 10s, total: 1m"));
        house.agent.set_door("agent", Door::Echo);
        let mut client = house.client();
        client.request("GET", "/", UPGRADE, "").await;
        assert_eq!(client.head().await.status, 101);
        let (took, ()) = timed(async {
            for _ in 0..100 {
                client.write("ping").await;
                if client.take(4).await == 0 {
                    break;
                }
                later(5.0).await;
            }
        })
        .await;
        assert!((55.0..=65.0).contains(&took), "{took}");
        house.at_rest().await;
    });
}

#[test]
fn a_client_that_leaves_ends_it_at_once() {
    paused(async {
        let house = House::with_one_agent(&policy("idle: 1h, total: 0s"));
        house.agent.set_door("agent", Door::Echo);
        let mut client = house.client();
        client.request("GET", "/", UPGRADE, "").await;
        assert_eq!(client.head().await.status, 101);
        later(1.0).await;
        drop(client);
        settle().await;
        assert_eq!(house.control.admission.gate.in_use(), 0);
        house.at_rest().await;
    });
}

#[test]
fn one_asked_for_and_never_switched_ends_like_any_other() {
    paused(async {
        let house = House::with_one_agent(&policy("response: 30s"));
        let mut client = house.client();
        client.request("GET", "/?think=1", UPGRADE, "").await;
        assert_eq!(client.answer().await.status, 200);
        client.request("GET", "/", "", "").await;
        assert_eq!(client.answer().await.status, 200, "the connection speaks HTTP still");
        drop(client);
        house.at_rest().await;
    });
}
