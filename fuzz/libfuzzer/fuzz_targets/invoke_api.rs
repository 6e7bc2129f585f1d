#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (fuzz::target("invoke_api").run)(data));
