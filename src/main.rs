//! The process: parse the arguments, do what they ask, exit with a code scripts can rely on.

fn main() {}
