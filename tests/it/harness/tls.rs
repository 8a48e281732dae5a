//! TLS around plain peers: whoever speaks plainly to a relay speaks TLS to what is behind it, or the other way round.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Vouches for certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub struct Identity {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn issue(&self, names: &[&str]) -> Identity {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names");
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        Identity { cert: cert.pem(), key: key.serialize_pem() }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority");
        Arc::new(roots)
    }
}

impl Identity {
    /// Writes `NAME.pem` and `NAME.key`.
    pub fn write(&self, folder: &Path, name: &str) {
        std::fs::write(folder.join(format!("{name}.pem")), &self.cert).expect("a file");
        std::fs::write(folder.join(format!("{name}.key")), &self.key).expect("a file");
    }

    fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let cert = CertificateDer::from_pem_slice(self.cert.as_bytes()).expect("PEM");
        (vec![cert], PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM"))
    }
}

/// How a client greets.
pub struct Client {
    pub config: ClientConfig,
    pub host: &'static str,
}

impl Client {
    pub fn trusting(authority: &Authority, host: &'static str, identity: Option<&Identity>) -> Self {
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(authority.roots());
        let config = match identity.map(Identity::der) {
            None => config.with_no_client_auth(),
            Some((cert, key)) => config.with_client_auth_cert(cert, key).expect("a key"),
        };
        Self { config, host }
    }

    pub fn offering(mut self, protocol: &str) -> Self {
        self.config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        self
    }

    /// An address that speaks plainly; what comes there goes to `address` under TLS, after `before`.
    pub fn relay(self, address: SocketAddr, before: &'static [u8]) -> SocketAddr {
        let connector = TlsConnector::from(Arc::new(self.config));
        let name = ServerName::try_from(self.host).expect("a name");
        each(move |mut plain| {
            let (connector, name) = (connector.clone(), name.clone());
            async move {
                let mut stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                tokio::io::AsyncWriteExt::write_all(&mut stream, before).await?;
                let mut secure = connector.connect(name, stream).await?;
                copy_bidirectional(&mut plain, &mut secure).await?;
                Ok(())
            }
        })
    }

    /// The certificate that a server greets with, or why it does not.
    pub fn greet(self, address: SocketAddr) -> Result<Vec<u8>, String> {
        let mut stream = std::net::TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(super::wait::BOUND)).expect("a timeout");
        let name = ServerName::try_from(self.host).expect("a name");
        let mut connection = rustls::ClientConnection::new(Arc::new(self.config), name).expect("a client");
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).map_err(|error| error.to_string())?;
        }
        Ok(connection.peer_certificates().expect("a certificate")[0].to_vec())
    }
}

pub fn der(identity: &Identity) -> Vec<u8> {
    identity.der().0[0].to_vec()
}

/// The host that a client named, the protocol that was agreed on, and whether it showed a certificate.
pub type Greeted = (Option<String>, Option<String>, bool);

/// A TLS-speaking front of a plain upstream.
pub struct Front {
    pub address: SocketAddr,
    /// One for each connection.
    pub greeted: Arc<Mutex<Vec<Greeted>>>,
}

impl Front {
    /// `clients`: who vouches for those who must show a certificate.
    pub fn before(upstream: SocketAddr, identity: &Identity, clients: Option<&Authority>, protocols: &[&str]) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions");
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(authority.roots(), provider);
                config.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let (cert, key) = identity.der();
        let mut config = config.with_single_cert(cert, key).expect("an identity");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let greeted = Arc::new(Mutex::new(Vec::new()));
        let seen = greeted.clone();
        let address = each(move |plain| {
            let (acceptor, seen) = (acceptor.clone(), seen.clone());
            async move {
                let mut secure = acceptor.accept(plain).await?;
                let session = secure.get_ref().1;
                let protocol = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
                let told = (session.server_name().map(str::to_owned), protocol, session.peer_certificates().is_some());
                seen.lock().expect("no panic").push(told);
                let mut stream = TcpStream::connect(upstream).await?;
                stream.set_nodelay(true)?;
                copy_bidirectional(&mut secure, &mut stream).await?;
                Ok(())
            }
        });
        Self { address, greeted }
    }
}

/// Does `what` with each connection to a new address, until the process ends.
fn each<F>(what: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(what(stream));
            }
        });
    });
    address
}
