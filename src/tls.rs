//! TLS with clients and with servers: certificates from the files that the policy names, read again when they change.
//!
//! Connections keep what they were begun with; a new one gets what is in force then. Files that cannot be used leave what
//! is in force as it is: at the start and at a reload they are a problem of the policy, later a line in the log.
//!
//! rustls speaks TLS 1.2 and 1.3 with the cipher suites of its default (RFC 9325 allows all of them).

mod files;
mod incoming;
mod live;
mod outgoing;
mod store;

pub use live::Live;
pub use outgoing::{Outgoing, to_collector};
pub use store::{Prepared, Store};

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use crate::config::{Problem, Problems};
use crate::policy::NamedFile;

/// Names of protocols in ALPN (RFC 7301).
pub const HTTP_2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// What is wrong with one of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unusable {
    file: NamedFile,
    why: String,
    /// What is in it is not known.
    unread: bool,
}

impl Unusable {
    fn new(file: &NamedFile, why: impl Into<String>) -> Self {
        Self { file: file.clone(), why: why.into(), unread: false }
    }

    fn unread(file: &NamedFile, error: &std::io::Error) -> Self {
        Self { file: file.clone(), why: error.to_string(), unread: true }
    }
}

/// Files that cannot be used, each at the place where the policy names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faulty {
    /// Those that could not be read.
    pub unread: Vec<Problem>,
    /// Those that were read and are not what they should be.
    pub bad: Vec<Problem>,
}

impl From<Faulty> for Problems {
    fn from(faulty: Faulty) -> Self {
        Self::new([faulty.unread, faulty.bad].concat())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
