//! See `checks::fields`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnwise_fuzz::checks::fields::check;

fuzz_target!(|input: &[u8]| check(input));
