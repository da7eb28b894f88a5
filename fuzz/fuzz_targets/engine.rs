//! Explores `ctsyncd_fuzz::engine`, which says what is tried.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ctsyncd_fuzz::engine::run(bytes);
});
