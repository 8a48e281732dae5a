//! See `checks::job_records`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnwise_fuzz::checks::job_records::check;

fuzz_target!(|input: &[u8]| check(input));
