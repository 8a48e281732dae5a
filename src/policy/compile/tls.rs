//! `tls` of listeners and of upstreams, and files that the policy names. Whether they can be used is found out when they are
//! read.

use std::path::PathBuf;

use super::{MAX_LIST, address};
use crate::config::{Cursor, Fault, Fields};
use crate::policy::{Identity, ListenerTls, NamedFile, UpstreamTls};

pub(super) fn listener(cursor: Cursor<'_>) -> Option<ListenerTls> {
    let fields = cursor.fields(&["cert", "key", "client_ca", "certificates"])?;
    let own = (fields.required("cert").and_then(file), fields.required("key").and_then(file));
    let client_ca = fields.nullable("client_ca", file);
    let others = fields.or("certificates", Vec::new(), |cursor| {
        Some(cursor.items_up_to(MAX_LIST)?.into_iter().filter_map(other).collect())
    });
    let (Some(cert), Some(key)) = own else { return None };
    Some(ListenerTls { identity: Identity { cert, key }, others, client_ca })
}

fn other(cursor: Cursor<'_>) -> Option<Identity> {
    let fields = cursor.fields(&["cert", "key"])?;
    let both = (fields.required("cert").and_then(file), fields.required("key").and_then(file));
    let (Some(cert), Some(key)) = both else { return None };
    Some(Identity { cert, key })
}

pub(super) fn upstream(cursor: Cursor<'_>) -> Option<UpstreamTls> {
    let fields = cursor.fields(&["ca", "cert", "key", "server_name"])?;
    let server_name = fields.nullable("server_name", |cursor| {
        cursor.parsed(address::server_name, "a name such as `agent.example.com`").map(Into::into)
    });
    Some(UpstreamTls { ca: fields.nullable("ca", file), identity: both(fields), server_name })
}

/// A certificate without a key, or the other way round, is a mistake.
fn both(fields: Fields<'_>) -> Option<Identity> {
    match (fields.nullable("cert", file), fields.nullable("key", file)) {
        (Some(cert), Some(key)) => Some(Identity { cert, key }),
        (None, None) => None,
        (cert, _) => {
            let (there, missing) = if cert.is_some() { ("cert", "key") } else { ("key", "cert") };
            let cursor = fields.get(there).unwrap_or(fields.cursor());
            cursor.problem(Fault::new(format!("needs `{missing}` beside it")));
            None
        }
    }
}

pub(super) fn file(cursor: Cursor<'_>) -> Option<NamedFile> {
    let path = cursor.string()?;
    let node = cursor.node();
    Some(NamedFile { path: PathBuf::from(path), at: node.at, key: (&*node.path).into() })
}
