//! Noticing that the policy file, or a certificate that it names, has changed.
//!
//! The file is read again several times a second and compared. A watch by the system (inotify) on a file goes deaf when
//! the file is replaced, which is how editors and Kubernetes write; on its folder it misses a swapped symbolic link
//! further up, and it sees nothing on network file systems. Reading a few KiB costs nothing beside serving requests,
//! and cannot miss a change that lasts.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::control::Control;
use crate::policy::compile;

const LOOK: Duration = Duration::from_millis(250);

/// Certificates are several files, and looked at once a second.
const CERTIFICATES: u32 = 4;

/// Reloads whenever the file's content is another than was tried last, and stayed the same from one look to the next: a
/// file that is being written is not read half. Runs in a thread of its own, since a file system may take its time.
///
/// # Errors
/// When the system gives no thread.
pub fn watch(control: Arc<Control>) -> std::io::Result<()> {
    thread::Builder::new().name("policy-watch".into()).spawn(move || {
        let mut last = None;
        let mut looks = 0_u32;
        while !control.drain.is_asked() {
            thread::sleep(LOOK);
            let content = compile::read(&control.file).ok();
            if !control.has_tried(&content) && last.as_ref() == Some(&content) {
                // Whatever is wrong with it has been logged and counted.
                let _ = control.reload();
            }
            last = Some(content);
            looks += 1;
            if looks.is_multiple_of(CERTIFICATES) {
                control.tls.look();
            }
        }
    })?;
    Ok(())
}
