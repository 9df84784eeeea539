#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| starling_fuzz_targets::rabbitmq_message(bytes));
