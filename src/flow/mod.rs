//! The vocabulary: plain values that describe one conntrack entry.

pub mod tuple;

pub use tuple::Tuple;
