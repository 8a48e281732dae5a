//! What the fuzzers have found so far, through the checks that the fuzzers make (`tests/fuzz`), without a fuzzer.

#[path = "fuzz/src/checks/mod.rs"]
mod checks;
#[path = "fuzz/src/house.rs"]
mod house;
#[path = "fuzz/src/reference.rs"]
mod reference;

/// Runs a check on each file of its corpus. A failure names its file.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut files: Vec<_> = folder.read_dir().expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        let input = std::fs::read(&file).expect("it is there");
        let outcome = std::panic::catch_unwind(|| check(&input));
        assert!(outcome.is_ok(), "of {}", file.display());
    }
}

macro_rules! corpora {
    ($($target:ident)*) => {$(
        #[test]
        fn $target() {
            replay(stringify!($target), checks::$target::check);
        }
    )*};
}

corpora!(answers fields form head job_records json_pointer policy proxy_protocol whole);

#[test]
fn every_corpus_is_replayed() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    assert_eq!(folder.read_dir().expect("corpora").count(), 9);
}
