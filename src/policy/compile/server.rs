//! `listen`, `admin` and `server`.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{ANY_TIME, ANYTHING, COUNT, MAX_LIST, SOME_TIME, address, file, tls};
use crate::config::key::{Empty, Is, Null, Required};
use crate::config::{
    Cursor, Fault, Fields, Flag, Form, Formed as _, InPlace, Key, Own, Parsed, Shape as _, Size, Text, Time, Whole, key,
};
use crate::policy::{Admin, Listener, NamedFile, Server};

crate::config::keys! {
    /// An address with more to say.
    mod listener_keys = "listener" {
        ADDRESS: Key<Parsed<SocketAddr>, Required> = key("address", address::LISTEN, Required,
            "`127.0.0.1:8080`, `[::1]:8080`, `localhost:8080` (IPv4) or `:8080` (all of IPv4); `[::]:8080` is all of \
             IPv6 only");
        TLS: Key<InPlace, Null> = key("tls", InPlace(tls::listener_form), Null,
            "speaks TLS 1.2 or 1.3, and HTTP/2 by ALPN");
        PROXY_PROTOCOL: Key<Flag> = key("proxy_protocol", Flag, Is("false"),
            "each connection begins with a header of the [PROXY \
             protocol](https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt), version 1 or 2, which says whose \
             it is. One without is closed. Whoever reaches this address can claim any client's: let only the load \
             balancer reach it");
    }
}

const TOKEN: Own<NamedFile> =
    Own(tls::file, || Form::Text(&Text { what: "a path such as `/run/turnwise/token`", pattern: ANYTHING }));

crate::config::keys! {
    pub(super) mod admin_keys = "admin" {
        LISTEN: Key<Parsed<SocketAddr>> = key("listen", address::ADMIN, Is("127.0.0.1:9180"),
            "metrics, health, sessions, reload, drain; must not share a port with the public `listen`");
        TOKEN_FILE: Key<Own<NamedFile>, Null> = key("token_file", TOKEN, Null,
            "a file whose first line is a bearer token; a relative path begins at the folder of the policy file");
    }
}

crate::config::keys! {
    pub(super) mod server_keys = "server" {
        WORKERS: Key<Own<usize>> = key("workers", Own(workers, workers_form), Is("auto"),
            "threads that serve connections; `auto` is one for each processor");
        MAX_CONNECTIONS: Key<Whole> = key("max_connections", COUNT, Is("10000"),
            "client connections at once, of all listeners; those beyond wait in the backlog of the system");
        HEADER_TIMEOUT: Key<Time> = key("header_timeout", SOME_TIME, Is("10s"),
            "a request head must be complete by then, from its first byte or from the connection's acceptance; else \
             408");
        KEEP_ALIVE_TIMEOUT: Key<Time> = key("keep_alive_timeout", SOME_TIME, Is("75s"),
            "how long a connection may stay without a request");
        MAX_HEADER_BYTES: Key<Size> = key("max_header_bytes", Size(1 << 10..=16 << 20), Is("64KiB"),
            "request line and fields together; else 431");
        DRAIN_DELAY: Key<Time> = key("drain_delay", ANY_TIME, Is("0s"),
            "after SIGTERM: not ready, but still serving, until load balancers have noticed");
        DRAIN_TIMEOUT: Key<Time> = key("drain_timeout", ANY_TIME, Is("30s"),
            "then how long running and waiting requests have");
        TRUSTED_PROXIES: Key<Own<Vec<ipnet::IpNet>>, Empty> =
            key("trusted_proxies", Own(networks, networks_form), Empty,
            "`10.0.0.0/8` or single addresses; peers whose `X-Forwarded-*` and `Forwarded` are believed");
    }
}

pub(super) fn listen_form() -> Form {
    let one = || vec![address::LISTEN.form(), Form::Mapping(listener_keys::KEYS)];
    Form::Either([one(), vec![Form::Either(one()).list(1, MAX_LIST)]].concat())
}

/// Never empty; `None` after a problem, so that no other address is compared with one that nobody wrote.
pub(super) fn listen(fields: Fields<'_>) -> Option<Vec<Listener>> {
    match fields.get(&file::LISTEN) {
        Some(_) => fields.given(&file::LISTEN),
        None => Some(fields.read(&file::LISTEN)),
    }
}

pub(super) fn listeners(cursor: Cursor<'_>) -> Option<Vec<Listener>> {
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
    if !cursor.is_mapping() {
        return address::LISTEN.read(cursor).map(plain);
    }
    let fields = cursor.fields(listener_keys::KEYS)?;
    let tls = fields.present(&listener_keys::TLS).and_then(tls::listener).map(Arc::new);
    let proxy_protocol = fields.read(&listener_keys::PROXY_PROTOCOL);
    let address = fields.needed(&listener_keys::ADDRESS)?;
    Some(Listener { address, tls, proxy_protocol })
}

pub(super) fn admin(all: Fields<'_>, public: &[Listener]) -> Admin {
    let fields = all.section(&file::ADMIN);
    let listen = fields.read(&admin_keys::LISTEN);
    let token_file = fields.nullable(&admin_keys::TOKEN_FILE);
    let written = || all.get(&file::ADMIN).or_else(|| all.get(&file::LISTEN));
    let place = fields.get(&admin_keys::LISTEN).or_else(written).unwrap_or(fields.cursor());
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
    let fields = fields.section(&file::SERVER);
    Server {
        workers: fields.read(&server_keys::WORKERS),
        max_connections: fields.read(&server_keys::MAX_CONNECTIONS) as usize,
        header_timeout: fields.read(&server_keys::HEADER_TIMEOUT),
        keep_alive_timeout: fields.read(&server_keys::KEEP_ALIVE_TIMEOUT),
        max_header_bytes: usize::try_from(fields.read(&server_keys::MAX_HEADER_BYTES)).unwrap_or(usize::MAX),
        drain_delay: fields.read(&server_keys::DRAIN_DELAY),
        drain_timeout: fields.read(&server_keys::DRAIN_TIMEOUT),
        trusted_proxies: fields.listed(&server_keys::TRUSTED_PROXIES),
    }
}

fn networks_form() -> Form {
    address::NETWORK.form().list(0, MAX_LIST)
}

fn networks(cursor: Cursor<'_>) -> Option<Vec<ipnet::IpNet>> {
    Some(cursor.items_up_to(MAX_LIST)?.into_iter().filter_map(|item| address::NETWORK.read(item)).collect())
}

const AUTO: &str = "auto";
const THREADS: Whole = Whole(1..=1024);

fn workers_form() -> Form {
    Form::Either(vec![Form::Word(vec![AUTO]), THREADS.form()])
}

fn workers(cursor: Cursor<'_>) -> Option<usize> {
    if cursor.shown() == AUTO {
        return Some(std::thread::available_parallelism().map_or(1, usize::from));
    }
    THREADS.read(cursor).map(|workers| workers as usize)
}
