//! TLS with servers.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

use super::files::Reader;
use super::live::Live;
use super::{HTTP_1_1, HTTP_2, Unusable, provider};
use crate::config::Position;
use crate::policy::{Identity, NamedFile, UpstreamTls};

/// How TLS is spoken with the servers of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub tls: UpstreamTls,
    pub http2: bool,
}

/// TLS with one upstream's servers, for those who connect.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub(super) live: Arc<Live<ClientConfig>>,
    pub(super) server_name: Option<Arc<str>>,
}

impl Outgoing {
    /// What a connection to `host` is begun with.
    ///
    /// # Errors
    /// When neither the policy's `server_name` nor `host` is a name that a certificate can have.
    pub fn of(&self, host: &str) -> std::io::Result<(Arc<ClientConfig>, ServerName<'static>)> {
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(std::io::Error::other)?;
        Ok((self.live.current(), name))
    }

    /// Whether both speak as the same policy says.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.live, &other.live)
    }
}

/// The files that it is made of.
pub(super) fn files(wanted: &Wanted) -> Vec<&NamedFile> {
    let UpstreamTls { ca, identity, .. } = &wanted.tls;
    ca.iter().chain(identity.iter().flat_map(|Identity { cert, key }| [cert, key])).collect()
}

pub(super) fn read(wanted: &Wanted, files: Reader<'_>) -> Result<ClientConfig, Unusable> {
    let provider = provider();
    let UpstreamTls { ca, identity, .. } = &wanted.tls;
    let identity = identity.as_ref().map(|identity| files.identity(identity, &provider)).transpose()?;
    let authorities = match ca {
        Some(file) => files.authorities(file)?,
        None => of_the_system(),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .with_root_certificates(authorities);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let certified = Arc::unwrap_or_clone(identity);
            config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
    };
    config.alpn_protocols = vec![if wanted.http2 { HTTP_2 } else { HTTP_1_1 }.to_vec()];
    Ok(config)
}

/// How TLS is spoken with a collector of telemetry, whose files are named outside of the policy. They are read once.
///
/// # Errors
/// A sentence that names the file.
pub fn to_collector(ca: Option<&Path>, identity: Option<(&Path, &Path)>) -> Result<ClientConfig, String> {
    let named = |path: &Path| NamedFile { path: path.to_owned(), at: Position::START, key: "".into() };
    let identity = identity.map(|(cert, key)| Identity { cert: named(cert), key: named(key) });
    let tls = UpstreamTls { ca: ca.map(named), identity, server_name: None };
    read(&Wanted { tls, http2: false }, Reader { folder: Path::new("") })
        .map_err(|unusable| format!("{}: {}", unusable.file.path.display(), unusable.why))
}

/// Without any, no server can be trusted; each attempt to connect then says so.
fn of_the_system() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "authorities of the system could not be read");
    }
    let (taken, _) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        tracing::warn!("the system has no certificate authorities, so no https server is trusted; set `tls.ca`");
    }
    Arc::new(roots)
}
