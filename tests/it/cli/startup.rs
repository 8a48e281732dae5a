use std::net::TcpListener;

use super::{SMALLEST, file};
use crate::harness::command::{Output, turnwise_in};

/// Starting must fail with exit code 1 and say why, in a line that has these words.
#[track_caller]
fn fails(text: impl AsRef<[u8]>, words: &[&str]) -> Output {
    let (folder, _) = file(text);
    let output = turnwise_in(folder.path(), &["serve", "-c", "gateway.yaml", "--log-format", "text"], &[]);
    assert_eq!(output.code, 1, "{}", output.all());
    for word in words {
        assert!(output.stderr.contains(word), "{word:?} is not in {}", output.stderr);
    }
    assert!(!output.stderr.contains("panicked") && !output.stderr.contains("RUST_BACKTRACE"), "{}", output.stderr);
    output
}

#[test]
fn a_port_that_is_taken_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let output = fails(format!("listen: {address}\nadmin: {{ listen: \"127.0.0.1:0\" }}\n{SMALLEST}"), &[&address]);
    assert_eq!(output.stderr.trim().lines().count(), 1, "{}", output.stderr);
}

#[test]
fn a_policy_that_is_empty_half_written_or_not_utf_8_does_not_start() {
    fails("", &["gateway.yaml"]);
    fails("# nothing yet\n", &["gateway.yaml"]);
    fails("upstreams: { agents: { servers: [", &["gateway.yaml"]);
    fails(b"upstreams: \xff\n", &["gateway.yaml", "UTF-8"]);
    fails(format!("{SMALLEST}{}", "# comment\n".repeat(120_000)), &["gateway.yaml"]);
}

#[test]
fn a_missing_file_is_one_clear_line() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let output = turnwise_in(folder.path(), &["serve", "-c", "missing.yaml"], &[]);
    assert_eq!(output.code, 1);
    assert!(output.stderr.contains("missing.yaml"), "{}", output.stderr);
    assert_eq!(output.stderr.trim().lines().count(), 1, "{}", output.stderr);
}

#[test]
fn every_problem_of_a_bad_policy_is_told_at_once() {
    let output = fails(format!("{SMALLEST}limitz: 1\nserver: {{ worker: 2 }}\n"), &["limitz", "server.worker"]);
    assert!(output.stderr.contains("workers"), "did you mean: {}", output.stderr);
}
