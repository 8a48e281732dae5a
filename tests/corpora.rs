//! What the fuzzers have found so far, and inputs that differ a little from it, through the checks that the fuzzers make
//! (`tests/fuzz`), without a fuzzer. `TURNWISE_MUTANTS=n` makes so many of the latter for each target, and [`FASTER`] times as
//! many where the check is fast.

#[path = "fuzz/src/checks/mod.rs"]
mod checks;
#[path = "paused/harness/dice.rs"]
mod dice;
#[path = "fuzz/src/house.rs"]
mod house;
#[path = "fuzz/src/mutants.rs"]
mod mutants;
#[path = "fuzz/src/reference.rs"]
mod reference;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

const MUTANTS: &str = "TURNWISE_MUTANTS";
/// Where the test is one of many.
const FEW: u64 = 500;
const FASTER: u64 = 20;
/// The whole gateway, a whole policy, a runtime for each input.
const SLOW: [&str; 4] = ["answers", "policy", "proxy_protocol", "whole"];

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz"))
}

/// Fails with what it was and with its octets.
fn try_out(check: fn(&[u8]), name: &str, input: &[u8]) {
    let outcome = catch_unwind(AssertUnwindSafe(|| check(input)));
    assert!(outcome.is_ok(), "of {name}: {}", input.escape_ascii());
}

/// Runs a check on each file of its corpus, and then on mutants.
fn replay(target: &str, check: fn(&[u8])) {
    let corpus = folder().join("corpus").join(target);
    let mut files: Vec<_> = corpus.read_dir().expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let inputs: Vec<_> = files.iter().map(|file| std::fs::read(file).expect("it is there")).collect();
    for (file, input) in files.iter().zip(&inputs) {
        try_out(check, &file.display().to_string(), input);
    }
    let dictionary = std::fs::read_to_string(folder().join("dictionaries").join(target)).expect("a dictionary");
    let breed = mutants::Breed::new(inputs, &dictionary);
    let asked = std::env::var(MUTANTS).ok().and_then(|number| number.parse().ok()).unwrap_or(FEW);
    for number in 0..asked * if SLOW.contains(&target) { 1 } else { FASTER } {
        try_out(check, &format!("mutant {number}"), &breed.mutant(number));
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
    assert_eq!(folder().join("corpus").read_dir().expect("corpora").count(), 9);
}
