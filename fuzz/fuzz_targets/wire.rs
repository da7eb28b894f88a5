//! Explores `ctsyncd_fuzz::wire`, which says what is tried.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ctsyncd_fuzz::wire::run(bytes);
});
