//! `tls` of listeners and of upstreams, and files that the policy names. Whether they can be used is found out when they are
//! read.

use std::path::PathBuf;

use super::{FILE_TEXT, MAX_LIST, address};
use crate::config::key::{Empty, Null, Required};
use crate::config::{Cursor, Fault, Fields, Form, Key, Own, Parsed, key};
use crate::policy::{Identity, ListenerTls, NamedFile, UpstreamTls};

/// A file that is named with its place, so that what is wrong with it can be told there.
pub(super) const NAMED: Own<NamedFile> = Own(file, || Form::Text(&FILE_TEXT));

crate::config::keys! {
    /// `tls` of a listener.
    mod own = "listener.tls" {
        CERT: Key<Own<NamedFile>, Required> = key("cert", NAMED, Required,
            "PEM file: the certificate, with those between it and its authority");
        KEY_FILE: Key<Own<NamedFile>, Required> = key("key", NAMED, Required, "PEM file: its private key, which is not encrypted");
        CLIENT_CA: Key<Own<NamedFile>, Null> = key("client_ca", NAMED, Null,
            "PEM file of authorities: clients must show a certificate of one of them");
        CERTIFICATES: Key<Own<Vec<Identity>>, Empty> = key("certificates", Own(others, others_form), Empty,
            "more of them, for clients that name a host of theirs (SNI). `*.example.com` is for one label. Whoever names no \
             such host gets the first");
    }
}

crate::config::keys! {
    /// One more certificate of a listener.
    mod other = "certificate" {
        CERT: Key<Own<NamedFile>, Required> = key("cert", NAMED, Required, "PEM file, as above");
        KEY_FILE: Key<Own<NamedFile>, Required> = key("key", NAMED, Required, "PEM file, as above");
    }
}

crate::config::keys! {
    /// `tls` of an upstream.
    mod outgoing = "upstream.tls" {
        CA: Key<Own<NamedFile>, Null> = key("ca", NAMED, Null,
            "PEM file of the authorities that vouch for the servers; `null`: those of the system");
        CERT: Key<Own<NamedFile>, Null> = key("cert", NAMED, Null,
            "PEM file of the certificate that is shown to servers which ask for one; not without `key`");
        KEY_FILE: Key<Own<NamedFile>, Null> = key("key", NAMED, Null, "PEM file of its private key; not without `cert`");
        SERVER_NAME: Key<Parsed<String>, Null> = key("server_name", address::SERVER_NAME, Null,
            "the name in the servers' certificates, also told to them (SNI); `null`: the host of each URL");
    }
}

pub(super) fn listener_form() -> Form {
    Form::Mapping(own::KEYS)
}

pub(super) fn listener(cursor: Cursor<'_>) -> Option<ListenerTls> {
    let fields = cursor.fields(own::KEYS)?;
    let pair = (fields.needed(&own::CERT), fields.needed(&own::KEY_FILE));
    let client_ca = fields.nullable(&own::CLIENT_CA);
    let others = fields.listed(&own::CERTIFICATES);
    let (Some(cert), Some(key)) = pair else { return None };
    Some(ListenerTls { identity: Identity { cert, key }, others, client_ca })
}

fn others_form() -> Form {
    Form::Mapping(other::KEYS).list(0, MAX_LIST)
}

fn others(cursor: Cursor<'_>) -> Option<Vec<Identity>> {
    Some(cursor.items_up_to(MAX_LIST)?.into_iter().filter_map(other).collect())
}

fn other(cursor: Cursor<'_>) -> Option<Identity> {
    let fields = cursor.fields(other::KEYS)?;
    let both = (fields.needed(&other::CERT), fields.needed(&other::KEY_FILE));
    let (Some(cert), Some(key)) = both else { return None };
    Some(Identity { cert, key })
}

pub(super) fn upstream_form() -> Form {
    Form::Mapping(outgoing::KEYS)
}

pub(super) fn upstream(cursor: Cursor<'_>) -> Option<UpstreamTls> {
    let fields = cursor.fields(outgoing::KEYS)?;
    let server_name = fields.nullable(&outgoing::SERVER_NAME).map(Into::into);
    Some(UpstreamTls { ca: fields.nullable(&outgoing::CA), identity: both(fields), server_name })
}

/// A certificate without a key, or the other way round, is a mistake.
fn both(fields: Fields<'_>) -> Option<Identity> {
    match (fields.nullable(&outgoing::CERT), fields.nullable(&outgoing::KEY_FILE)) {
        (Some(cert), Some(key)) => Some(Identity { cert, key }),
        (None, None) => None,
        (cert, _) => {
            let there = if cert.is_some() { &outgoing::CERT } else { &outgoing::KEY_FILE };
            let missing = if cert.is_some() { &outgoing::KEY_FILE } else { &outgoing::CERT };
            let cursor = fields.get(there).unwrap_or(fields.cursor());
            cursor.problem(Fault::new(format!("needs `{}` beside it", missing.name())));
            None
        }
    }
}

fn file(cursor: Cursor<'_>) -> Option<NamedFile> {
    let path = cursor.string()?;
    let node = cursor.node();
    Some(NamedFile { path: PathBuf::from(path), at: node.at, key: (&*node.path).into() })
}
