//! See `checks::form`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnwise_fuzz::checks::form::check;

fuzz_target!(|input: &[u8]| check(input));
