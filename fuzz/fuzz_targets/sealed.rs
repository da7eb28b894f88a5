//! Explores `ctsyncd_fuzz::sealed`, which says what is tried.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    ctsyncd_fuzz::sealed::run(bytes);
});
