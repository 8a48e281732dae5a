//! See `checks::answers`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnwise_fuzz::checks::answers::check;

fuzz_target!(|input: &[u8]| check(input));
