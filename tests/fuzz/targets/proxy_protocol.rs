//! See `checks::proxy_protocol`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnwise_fuzz::checks::proxy_protocol::check;

fuzz_target!(|input: &[u8]| check(input));
