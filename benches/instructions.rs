//! Instructions of the pieces of the data path, counted by valgrind: `make bench-instructions`.
//!
//! `scripts/bench-instructions` lets callgrind count in [`measured`] only and write a file at each
//! return from it, so that preparation costs time but no count. What is measured are the same
//! pieces as in `data_path.rs`. Prints items, bytes and
//! name of each, in the order of the files.

#![expect(clippy::print_stdout, reason = "the script reads it")]

mod kernels;

use kernels::Run;

/// Flows of the tables: few, as valgrind takes fifty times as long.
const SIZES: &[u32] = &[1_000, 10_000];

/// Runs before counting: tables have grown, branches of the first time are over.
const WARM_UP: u32 = 8;
/// Runs that are counted.
const RUNS: u64 = 16;

fn main() {
    // As one of the benches it is started by `cargo test` too, to see that it runs.
    let is_smoke = !std::env::args().any(|argument| argument == "--bench");
    let sizes = if is_smoke { kernels::SMOKE } else { SIZES };
    for kernel in kernels::all(sizes) {
        let mut run = (kernel.prepare)(&kernel);
        for _ in 0..WARM_UP {
            run();
        }
        measured(&mut run);
        println!("{}\t{}\t{kernel}", kernel.items * RUNS, kernel.bytes * RUNS);
    }
}

/// What is counted.
#[inline(never)]
fn measured(run: &mut Run) {
    for _ in 0..RUNS {
        run();
    }
}
