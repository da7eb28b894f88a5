//! The control socket: one JSON object per line.

pub mod message;
