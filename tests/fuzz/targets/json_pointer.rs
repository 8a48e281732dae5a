//! See `checks::json_pointer`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnwise_fuzz::checks::json_pointer::check;

fuzz_target!(|input: &[u8]| check(input));
