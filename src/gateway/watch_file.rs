//! Noticing that the policy file has changed.
//!
//! The file is read again several times a second and compared. A watch by the system (inotify) on a file goes deaf when
//! the file is replaced, which is how editors and Kubernetes write; on its folder it misses a swapped symbolic link
//! further up, and it sees nothing on network file systems. Reading a few KiB costs nothing beside serving requests,
//! and cannot miss a change that lasts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::Gateway;
use crate::config::MAX_BYTES;

const LOOK: Duration = Duration::from_millis(250);

/// What was found at the path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Content(Vec<u8>),
    /// Why there is none.
    Nothing(std::io::ErrorKind),
}

/// Reloads whenever the file's content has changed and then stayed the same from one look to the next: a file that is
/// being written is not read half. Runs in a thread of its own, since a file system may take its time.
pub fn watch(gateway: Arc<Gateway>) -> std::io::Result<()> {
    let file = gateway.file.clone();
    let mut applied = look(&file);
    thread::Builder::new().name("policy-watch".into()).spawn(move || {
        let mut last = applied.clone();
        while !gateway.drain.is_asked() {
            thread::sleep(LOOK);
            let found = look(&file);
            if found != applied && found == last {
                applied = found.clone();
                // Whatever is wrong with it has been logged and counted.
                let _ = gateway.reload();
            }
            last = found;
        }
    })?;
    Ok(())
}

fn look(file: &PathBuf) -> Found {
    read(file).map_or_else(|error| Found::Nothing(error.kind()), Found::Content)
}

/// At most one byte more than a policy may have; what is no plain file is not opened, since a pipe would block.
fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    if !std::fs::metadata(file)?.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let mut content = Vec::new();
    std::fs::File::open(file)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}
