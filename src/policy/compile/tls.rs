//! `tls` of listeners and of upstreams, and files that the policy names. Whether they can be used is found out when they are
//! read.

use std::path::PathBuf;

use super::{ANYTHING, MAX_LIST, address};
use crate::config::key::{Empty, Null, Required};
use crate::config::{Cursor, Fault, Fields, Form, Key, Own, Strict, Text, key};
use crate::policy::{Identity, ListenerTls, NamedFile, UpstreamTls};

/// A file that is named with its place, so that what is wrong with it can be told there.
const NAMED: Own<NamedFile> =
    Own(file, || Form::Text(&Text { what: "a path such as `tls/example.pem`", pattern: ANYTHING }));

crate::config::keys! {
    /// `tls` of a listener.
    mod own = "listener.tls" {
        CERT: Key<Own<NamedFile>, Required> = key("cert", NAMED, Required,
            "PEM file: the certificate, with those between it and its authority");
        KEY_FILE: Key<Own<NamedFile>, Required> = key("key", NAMED, Required,
            "PEM file: its private key, which is not encrypted");
        CLIENT_CA: Key<Own<NamedFile>, Null> = key("client_ca", NAMED, Null,
            "PEM file of authorities: clients must show a certificate of one of them");
        CERTIFICATES: Key<Own<Vec<Identity>>, Empty> = key("certificates", Own(others, others_form), Empty,
            "more of them, for clients that name a host of theirs (SNI). `*.example.com` is for one label. Whoever \
             names no such host gets the first");
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
        KEY_FILE: Key<Own<NamedFile>, Null> = key("key", NAMED, Null,
            "PEM file of its private key; not without `cert`");
        SERVER_NAME: Key<Strict<String>, Null> = key("server_name", address::SERVER_NAME, Null,
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

pub(super) fn file(cursor: Cursor<'_>) -> Option<NamedFile> {
    let path = cursor.string()?;
    let node = cursor.node();
    Some(NamedFile { path: PathBuf::from(path), at: node.at, key: (&*node.path).into() })
}

#[cfg(test)]
mod tests {
    use crate::policy::compile::tests::{SMALLEST, policy, says};
    use crate::policy::{NamedFile, UpstreamTls};

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
}
