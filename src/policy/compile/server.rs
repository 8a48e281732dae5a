//! `listen`, `admin` and `server`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::{ANY_TIME, MAX_COUNT, MAX_LIST, SOME_TIME, address, tls};
use crate::config::{Cursor, Fault, Fields};
use crate::policy::{Admin, Listener, Server};

const ADMIN: [&str; 2] = ["listen", "token_file"];
const LISTENER: [&str; 3] = ["address", "tls", "proxy_protocol"];
const SERVER: [&str; 8] = [
    "workers",
    "max_connections",
    "header_timeout",
    "keep_alive_timeout",
    "max_header_bytes",
    "drain_delay",
    "drain_timeout",
    "trusted_proxies",
];

/// Never empty; `None` after a problem.
pub(super) fn listen(fields: Fields<'_>) -> Option<Vec<Listener>> {
    let Some(cursor) = fields.get("listen") else {
        return Some(vec![plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)))]);
    };
    if !cursor.is_list() {
        return listener(cursor).map(|listener| vec![listener]);
    }
    let items = cursor.items_up_to(MAX_LIST)?;
    if items.is_empty() {
        cursor.problem(Fault::new("must name at least one address"));
        return None;
    }
    let listeners: Vec<(Cursor<'_>, Listener)> =
        items.into_iter().filter_map(|item| listener(item).map(|listener| (item, listener))).collect();
    // All IPv4 and all IPv6 addresses are two listeners that do not meet.
    for (index, (item, Listener { address, .. })) in listeners.iter().enumerate() {
        let mut earlier = listeners[..index].iter().map(|(_, earlier)| earlier.address);
        if earlier.any(|earlier| earlier.is_ipv4() == address.is_ipv4() && address::collide(earlier, *address)) {
            item.problem(Fault::new(format!("`{address}` is listened on already")));
        }
    }
    let listeners: Vec<Listener> = listeners.into_iter().map(|(_, listener)| listener).collect();
    (!listeners.is_empty()).then_some(listeners)
}

fn plain(address: SocketAddr) -> Listener {
    Listener { address, tls: None, proxy_protocol: false }
}

fn listener(cursor: Cursor<'_>) -> Option<Listener> {
    let address = |cursor: Cursor<'_>| cursor.parsed(address::listen, "an address such as `127.0.0.1:8080`");
    if !cursor.is_mapping() {
        return address(cursor).map(plain);
    }
    let fields = cursor.fields(&LISTENER)?;
    let tls = fields.nullable("tls", tls::listener).map(Arc::new);
    let proxy_protocol = fields.or("proxy_protocol", false, Cursor::bool);
    let address = fields.required("address").and_then(address)?;
    Some(Listener { address, tls, proxy_protocol })
}

pub(super) fn admin(fields: Fields<'_>, public: &[Listener]) -> Admin {
    let fields = fields.section("admin", &ADMIN);
    let listen = fields.or("listen", SocketAddr::from((Ipv4Addr::LOCALHOST, 9180)), |cursor| {
        cursor.parsed(address::listen, "an address such as `127.0.0.1:9180`")
    });
    let token_file = fields.nullable("token_file", tls::file);
    let place = fields.get("listen").unwrap_or(fields.cursor());
    if let Some(met) = public.iter().map(|public| public.address).find(|public| address::collide(*public, listen)) {
        let message = format!("the admin address `{listen}` shares its port with the public address `{met}`");
        place.problem(Fault::new(message).hint("give `admin.listen` a port of its own"));
    }
    if token_file.is_none() && !listen.ip().is_loopback() {
        let fault = Fault::new("whoever reaches this address may end sessions and drain the gateway");
        place.warning(fault.hint("set `admin.token_file`"));
    }
    Admin { listen, token_file }
}

pub(super) fn server(fields: Fields<'_>) -> Server {
    let fields = fields.section("server", &SERVER);
    let time = |key, seconds| fields.or(key, Duration::from_secs(seconds), |cursor| cursor.duration(SOME_TIME));
    let drain = |key, seconds| fields.or(key, Duration::from_secs(seconds), |cursor| cursor.duration(ANY_TIME));
    Server {
        workers: fields.or("workers", all_processors(), workers),
        max_connections: fields.or("max_connections", 10_000, |cursor| cursor.integer(1..=MAX_COUNT)) as usize,
        header_timeout: time("header_timeout", 10),
        keep_alive_timeout: time("keep_alive_timeout", 75),
        max_header_bytes: fields.or("max_header_bytes", 64 << 10, max_header_bytes),
        drain_delay: drain("drain_delay", 0),
        drain_timeout: drain("drain_timeout", 30),
        trusted_proxies: fields.or("trusted_proxies", Vec::new(), |cursor| {
            let network = |item: Cursor<'_>| item.parsed(address::network, "a network such as `10.0.0.0/8`");
            Some(cursor.items_up_to(MAX_LIST)?.into_iter().filter_map(network).collect())
        }),
    }
}

fn workers(cursor: Cursor<'_>) -> Option<usize> {
    if cursor.shown() == "auto" {
        return Some(all_processors());
    }
    cursor.integer(1..=1024).map(|workers| workers as usize)
}

fn all_processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn max_header_bytes(cursor: Cursor<'_>) -> Option<usize> {
    cursor.size(1 << 10..=16 << 20).and_then(|bytes| usize::try_from(bytes).ok())
}
