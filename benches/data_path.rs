//! Times of the pieces of the data path: `make bench-micro`. Without `--bench`, as `cargo test`
//! runs it, every piece runs once on small tables.

mod kernels;

use std::sync::OnceLock;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use kernels::Kernel;

/// Flows of the tables.
const SIZES: &[u32] = &[1_000, 100_000, 1_000_000];

fn main() {
    divan::main();
}

fn all() -> &'static [Kernel] {
    static ALL: OnceLock<Vec<Kernel>> = OnceLock::new();
    ALL.get_or_init(|| {
        let is_timed = std::env::args().any(|argument| argument == "--bench")
            && !std::env::args().any(|argument| argument == "--test");
        kernels::all(if is_timed { SIZES } else { kernels::SMOKE })
    })
}

/// A row for each kernel. Its time is that of a run; the line below it says how many items and bytes
/// a second that makes.
#[divan::bench(args = all())]
fn data_path(bencher: Bencher<'_, '_>, kernel: &Kernel) {
    let mut run = (kernel.prepare)(kernel);
    let bencher = bencher.counter(ItemsCount::new(kernel.items));
    if kernel.bytes > 0 {
        let bencher = bencher.counter(BytesCount::new(kernel.bytes));
        bencher.bench_local(&mut run);
    } else {
        bencher.bench_local(&mut run);
    }
}
