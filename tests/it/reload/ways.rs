//! Every way in which a file can change, three times each: a watch on the file itself goes deaf after the first.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{in_force, limit};
use crate::harness::{Gateway, Recorder, get, post};

#[test]
fn a_plain_rewrite() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    for concurrency in [11, 12, 13] {
        gateway.write_policy(&upstream, &limit(concurrency));
        in_force(&gateway, concurrency);
    }
    gateway.ask(&get("/")).assert_ok();
    assert_eq!(gateway.metric("turnwise_config_last_reload_successful", &[]), 1.0);
}

#[test]
fn a_rename_as_editors_do_it() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    for concurrency in [11, 12, 13] {
        let beside = gateway.folder().join(".gateway.yaml.swp");
        fs::write(&beside, gateway.policy(&upstream, &limit(concurrency))).expect("a file");
        fs::rename(&beside, gateway.policy_file()).expect("a rename");
        in_force(&gateway, concurrency);
    }
}

#[test]
fn a_backup_and_a_new_file_as_other_editors_do_it() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    for concurrency in [11, 12, 13] {
        fs::rename(gateway.policy_file(), gateway.folder().join("gateway.yaml~")).expect("a rename");
        gateway.write_policy(&upstream, &limit(concurrency));
        in_force(&gateway, concurrency);
    }
}

/// Points `link` at `target` with one atomic rename.
fn point(link: &Path, target: &str) {
    let beside = link.with_file_name("beside.new");
    let _ = fs::remove_file(&beside);
    symlink(target, &beside).expect("a link");
    fs::rename(&beside, link).expect("a rename");
}

#[test]
fn a_config_map_as_kubernetes_swaps_it() {
    let upstream = Recorder::start();
    let gateway = Gateway::laid_out(&upstream.url(), "", |folder, text| {
        fs::create_dir(folder.join("..v0")).expect("a folder");
        fs::write(folder.join("..v0/gateway.yaml"), text).expect("a file");
        symlink("..v0", folder.join("..data")).expect("a link");
        let _ = fs::remove_file(folder.join("gateway.yaml"));
        symlink("..data/gateway.yaml", folder.join("gateway.yaml")).expect("a link");
    });
    for version in 1..=3 {
        let folder = format!("..v{version}");
        fs::create_dir(gateway.folder().join(&folder)).expect("a folder");
        let text = gateway.policy(&upstream, &limit(10 + version));
        fs::write(gateway.folder().join(&folder).join("gateway.yaml"), text).expect("a file");
        point(&gateway.folder().join("..data"), &folder);
        fs::remove_dir_all(gateway.folder().join(format!("..v{}", version - 1))).expect("the old one");
        in_force(&gateway, 10 + version);
    }
}

#[test]
fn a_link_to_a_file_elsewhere() {
    let elsewhere = tempfile::TempDir::new().expect("a folder");
    let upstream = Recorder::start();
    let first = elsewhere.path().join("0.yaml");
    let gateway = Gateway::laid_out(&upstream.url(), "", |folder, text| {
        fs::write(&first, text).expect("a file");
        let _ = fs::remove_file(folder.join("gateway.yaml"));
        symlink(&first, folder.join("gateway.yaml")).expect("a link");
    });
    for version in 1..=3 {
        let next = elsewhere.path().join(format!("{version}.yaml"));
        fs::write(&next, gateway.policy(&upstream, &limit(10 + version))).expect("a file");
        point(&gateway.policy_file(), next.to_str().expect("UTF-8"));
        in_force(&gateway, 10 + version);
    }
    let last = elsewhere.path().join("3.yaml");
    fs::write(last, gateway.policy(&upstream, &limit(20))).expect("a file");
    in_force(&gateway, 20);
}

#[test]
fn sighup() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    for concurrency in [11, 12, 13] {
        gateway.write_policy(&upstream, &limit(concurrency));
        gateway.signal("HUP");
        in_force(&gateway, concurrency);
    }
}

#[test]
fn post_on_the_admin_port_is_done_when_it_answers() {
    let upstream = Recorder::start();
    let gateway = Gateway::before(&upstream);
    for concurrency in [11, 12, 13] {
        let before = gateway.generation();
        gateway.reload(&upstream, &limit(concurrency));
        assert_eq!(gateway.metric("turnwise_concurrency_limit", &[("scope", "global")]), f64::from(concurrency));
        assert!(gateway.generation() > before);
    }
    assert_eq!(gateway.admin(&get("/-/reload")).status, 405, "only POST changes anything");
    assert_eq!(gateway.admin(&post("/-/reload", "")).status, 200, "nothing new is fine too");
}
