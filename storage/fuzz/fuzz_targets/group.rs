#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| meshlog_storage::fuzzing::group(data));
