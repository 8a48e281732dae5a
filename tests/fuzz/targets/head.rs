//! See `checks::head`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnwise_fuzz::checks::head::check;

fuzz_target!(|input: &[u8]| check(input));
