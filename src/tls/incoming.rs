//! TLS with clients.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::Ticketer;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use super::files::Reader;
use super::{HTTP_1_1, HTTP_2, Unusable, provider};
use crate::policy::{Identity, ListenerTls, NamedFile};

/// The files that it is made of.
pub(super) fn files(tls: &ListenerTls) -> Vec<&NamedFile> {
    let identities = std::iter::once(&tls.identity).chain(&tls.others);
    identities.flat_map(|Identity { cert, key }| [cert, key]).chain(&tls.client_ca).collect()
}

pub(super) fn read(tls: &ListenerTls, files: Reader<'_>) -> Result<ServerConfig, Unusable> {
    let provider = provider();
    let identities = std::iter::once(&tls.identity).chain(&tls.others);
    let identities = identities.map(|identity| files.identity(identity, &provider)).collect::<Result<Vec<_>, _>>()?;
    let resolver = ByName::new(tls, &identities)?;
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Unusable::new(&tls.identity.cert, error.to_string()))?;
    let config = match &tls.client_ca {
        None => config.with_no_client_auth(),
        Some(file) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(files.authorities(file)?, provider).build();
            config.with_client_cert_verifier(verifier.map_err(|error| Unusable::new(file, error.to_string()))?)
        }
    };
    let mut config = config.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1_1.to_vec()];
    // Sessions go on by what the client keeps, so that nothing is kept here for clients that never come back.
    config.ticketer = Ticketer::new().map_err(|error| Unusable::new(&tls.identity.cert, error.to_string()))?;
    Ok(config)
}

/// Chooses the certificate that is for the host which the client names (RFC 6066, section 3).
#[derive(Debug)]
struct ByName {
    default: Arc<CertifiedKey>,
    /// In lower case; those for all hosts of a domain as `*.example.com`.
    names: HashMap<String, Arc<CertifiedKey>>,
}

impl ByName {
    /// The first one is for whoever names nobody else.
    fn new(tls: &ListenerTls, identities: &[Arc<CertifiedKey>]) -> Result<Self, Unusable> {
        let mut names = HashMap::new();
        let written = std::iter::once(&tls.identity).chain(&tls.others);
        for (Identity { cert, .. }, certified) in written.zip(identities) {
            for name in names_of(cert, certified)? {
                // Where two are for one name, the earlier one is meant.
                names.entry(name).or_insert_with(|| certified.clone());
            }
        }
        Ok(Self { default: identities[0].clone(), names })
    }

    fn find(&self, host: &str) -> &Arc<CertifiedKey> {
        let host = host.to_ascii_lowercase();
        let of_domain = || {
            let (_, domain) = host.split_once('.')?;
            self.names.get(&format!("*.{domain}"))
        };
        self.names.get(&host).or_else(of_domain).unwrap_or(&self.default)
    }
}

fn names_of(file: &NamedFile, certified: &CertifiedKey) -> Result<Vec<String>, Unusable> {
    let leaf = certified.end_entity_cert().map_err(|error| Unusable::new(file, error.to_string()))?;
    let leaf = webpki::EndEntityCert::try_from(leaf).map_err(|error| Unusable::new(file, error.to_string()))?;
    Ok(leaf.valid_dns_names().map(str::to_ascii_lowercase).collect())
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(hello.server_name().map_or(&self.default, |host| self.find(host)).clone())
    }
}
