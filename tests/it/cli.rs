//! The command line.

mod check;
mod demo;
mod explain;
mod reference;
mod startup;
mod stress;
mod usage;

use std::path::PathBuf;

use tempfile::TempDir;

/// A folder with this text as `gateway.yaml`.
fn file(text: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, text).expect("a file");
    (folder, path)
}

const SMALLEST: &str = "upstreams: { agents: { servers: [\"http://127.0.0.1:8000\"] } }\n";
