//! The process: parse the arguments, do what they ask, exit with a code scripts can rely on.

use std::process::ExitCode;

fn main() -> ExitCode {
    ctsyncd::cli::main()
}
