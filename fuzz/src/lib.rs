//! What is tried with bytes from outside: a module for each parser that strangers reach.
//!
//! Every module has one function, `run`, that takes any bytes, must not panic, and returns how much
//! of them was understood: real messages must count for something, or the target looks at nothing.
//! `fuzz_targets/` lets a fuzzer look for bytes that break one, and `tests/corpus.rs` of the main
//! package, which includes this file, replays what was kept in `tests/corpus/` on every test run.

pub mod config;
pub mod control;
pub mod engine;
pub mod netlink;
pub mod pair;
pub mod sealed;
pub mod steps;
pub mod wire;
