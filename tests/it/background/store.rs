use std::os::unix::fs::PermissionsExt;

use super::{accept, becomes, job, policy};
use crate::harness::command::turnwise_in;
use crate::harness::{Gateway, Recorder};

#[test]
fn only_its_owner_may_read_it() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    let path = accept(&gateway, &job("a", "").header("Authorization", "Bearer s3cret"));
    gateway.wait_metric("turnwise_jobs", &[("status", "succeeded")], 1.0);
    drop(path);
    let folder = gateway.folder().join("turnwise-jobs");
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for entry in std::fs::read_dir(&folder).expect("readable") {
        let path = entry.expect("an entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_store_in_use_is_one_clear_line() {
    let upstream = Recorder::start();
    let gateway = Gateway::with(&upstream, &policy("", ""));
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "listen: 127.0.0.1:0\nadmin: {{ listen: '127.0.0.1:0' }}\nupstreams: {{ agents: {{ servers: ['{}'] }} }}\n{}",
        upstream.url(),
        policy(&format!("store: {}", gateway.folder().join("turnwise-jobs").display()), "")
    );
    let text = text.replace("'127.0.0.1:0'", &format!("'{}'", free()));
    std::fs::write(folder.path().join("gateway.yaml"), text).expect("a file");
    let output = turnwise_in(folder.path(), &["serve", "-c", "gateway.yaml"], &[]);
    assert_eq!(output.code, 1, "{}", output.all());
    assert_eq!(output.stderr.trim().lines().count(), 1, "{}", output.stderr);
    assert!(output.stderr.contains("background.store") && output.stderr.contains("in use"), "{}", output.stderr);
    let path = accept(&gateway, &job("a", ""));
    becomes(&gateway, &path, "succeeded");
}

fn free() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port")
}

/// Starting with this store must fail with one line that has these words.
#[track_caller]
fn fails(store: &str, lay_out: impl FnOnce(&std::path::Path), words: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    lay_out(folder.path());
    let text = format!(
        "listen: {}\nadmin: {{ listen: '{}' }}\nupstreams: {{ agents: {{ servers: ['http://127.0.0.1:1'] }} }}\n\
         background: {{ store: '{store}' }}\n",
        free(),
        free()
    );
    std::fs::write(folder.path().join("gateway.yaml"), text).expect("a file");
    let output = turnwise_in(folder.path(), &["serve", "-c", "gateway.yaml"], &[]);
    assert_eq!(output.code, 1, "{}", output.all());
    assert_eq!(output.stderr.trim().lines().count(), 1, "{}", output.stderr);
    for word in words.iter().chain(&["background.store"]) {
        assert!(output.stderr.contains(word), "{word:?} is not in {}", output.stderr);
    }
}

#[test]
fn a_folder_that_cannot_be_made_or_written_is_one_clear_line() {
    fails("/proc/jobs", |_| {}, &["/proc/jobs"]);
    fails("gateway.yaml/jobs", |_| {}, &["jobs"]);
    fails("plain", |folder| std::fs::write(folder.join("plain"), "x").expect("a file"), &["plain"]);
}

#[test]
fn a_file_that_is_no_store_is_one_clear_line_and_left_alone() {
    fails(
        "jobs",
        |folder| {
            std::fs::create_dir(folder.join("jobs")).expect("a folder");
            std::fs::write(folder.join("jobs/jobs.redb"), vec![7; 10_000]).expect("a file");
        },
        &["jobs.redb"],
    );
}

#[test]
fn the_end_of_a_file_that_was_cut_or_written_over_is_told_or_does_no_harm() {
    let upstream = Recorder::start();
    let mut gateway = Gateway::with(&upstream, &policy("", ""));
    let path = accept(&gateway, &job("a", "echo"));
    becomes(&gateway, &path, "succeeded");
    gateway.kill();
    let file = gateway.folder().join("turnwise-jobs/jobs.redb");
    let whole = std::fs::read(&file).expect("readable");
    // What a crash leaves behind the last page that counts is of no account.
    let mut longer = whole.clone();
    longer.extend_from_slice(&[0xab; 8192]);
    std::fs::write(&file, &longer).expect("written");
    gateway.start_again();
    assert_eq!(super::result(&gateway, &path).text(), "a");
    // What the disk itself has lost cannot be made up: then it says so, and changes nothing.
    gateway.kill();
    std::fs::write(&file, &whole[..whole.len() / 2]).expect("written");
    let output = turnwise_in(gateway.folder(), &["serve", "-c", "gateway.yaml"], &[]);
    assert_eq!(output.code, 1, "{}", output.all());
    assert!(output.stderr.contains("background.store"), "{}", output.stderr);
    std::fs::write(&file, &whole).expect("written");
    gateway.start_again();
    assert_eq!(super::result(&gateway, &path).text(), "a");
}
