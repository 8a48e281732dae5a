//! Certificates and keys as they lie in files.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use super::Unusable;
use crate::policy::{Identity, NamedFile};

/// A bundle of all authorities of a system has a quarter of it.
const MAX_BYTES: u64 = 4 << 20;

/// What was in a number of files, by a digest alone: some hold keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen([u8; 32]);

impl Seen {
    pub(super) fn in_files(folder: &Path, files: &[&NamedFile]) -> Self {
        let mut seen = Sha256::new();
        for file in files {
            match contents(&folder.join(&file.path)) {
                Ok(bytes) => {
                    seen.update((bytes.len() as u64).to_le_bytes());
                    seen.update(bytes);
                }
                Err(error) => seen.update(error.to_string()),
            }
        }
        Self(seen.finalize().into())
    }
}

/// Reads files whose paths are relative to a folder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'f> {
    pub folder: &'f Path,
}

impl Reader<'_> {
    fn read(self, file: &NamedFile) -> Result<Vec<u8>, Unusable> {
        contents(&self.folder.join(&file.path)).map_err(|error| Unusable::unread(file, &error))
    }

    fn certificates(self, file: &NamedFile) -> Result<Vec<CertificateDer<'static>>, Unusable> {
        let bytes = self.read(file)?;
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let read = read.map_err(|error| Unusable::new(file, format!("is no PEM file: {error}")))?;
        if read.is_empty() {
            return Err(Unusable::new(file, "has no certificate in it"));
        }
        Ok(read)
    }

    /// A certificate that belongs to its key.
    pub(super) fn identity(
        self,
        identity: &Identity,
        provider: &CryptoProvider,
    ) -> Result<Arc<CertifiedKey>, Unusable> {
        let chain = self.certificates(&identity.cert)?;
        let key = self.read(&identity.key)?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|_| Unusable::new(&identity.key, "has no private key in it (PEM, not encrypted)"))?;
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| Unusable::new(&identity.key, format!("cannot be used: {error}")))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            // Some keys do not tell.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(Arc::new(certified)),
            Err(rustls::Error::InconsistentKeys(_)) => {
                let cert = identity.cert.path.display();
                Err(Unusable::new(&identity.key, format!("is not the key of the certificate in `{cert}`")))
            }
            Err(error) => Err(Unusable::new(&identity.cert, error.to_string())),
        }
    }

    pub(super) fn authorities(self, file: &NamedFile) -> Result<Arc<RootCertStore>, Unusable> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(file)? {
            roots.add(certificate).map_err(|error| Unusable::new(file, error.to_string()))?;
        }
        Ok(Arc::new(roots))
    }
}

/// Only regular files: a pipe could block for ever.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than 4 MiB"));
    }
    Ok(bytes)
}
