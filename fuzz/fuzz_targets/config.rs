//! Explores `ctsyncd_fuzz::config`, which says what is tried.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ctsyncd_fuzz::config::run(bytes);
});
