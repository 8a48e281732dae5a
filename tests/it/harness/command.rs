//! The binary as a command that ends by itself.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use super::gateway::BINARY;
use super::wait::{BOUND, within};

/// Runs the binary to its end, as a command.
pub fn turnwise(arguments: &[&str]) -> Output {
    turnwise_in(Path::new("."), arguments, &[])
}

/// What a command has said, and how it ended.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// In a folder, with additional variables of the environment. Killed when it does not end.
pub fn turnwise_in(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut child = Command::new(BINARY)
        .args(arguments)
        .current_dir(folder)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary");
    let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let readers = [whole(stdout), whole(stderr)];
    let ended = within(BOUND, || child.try_wait().expect("our child").is_some());
    let _ = child.kill();
    let status = child.wait().expect("our child");
    assert!(ended, "{arguments:?} does not end");
    let [stdout, stderr] = readers.map(|reader| reader.join().expect("a reader"));
    Output { code: status.code().unwrap_or(-1), stdout, stderr }
}

fn whole(mut stream: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
