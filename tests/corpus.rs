//! Bytes from outside, replayed: what fuzzing has kept, real messages, and noise.
//!
//! `fuzz/src/` says what is tried with them, `make fuzz` looks for more. `tests/corpus/` holds for
//! each target the inputs that together reach everything that a fuzzer could reach, and each that
//! ever broke something, by a name that says what. A failure here names the file:
//!
//! ```text
//! SEEDS=folder cargo test --test corpus    also writes the real messages there, a folder per target
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::{env, fs};

use proptest::prelude::*;

#[expect(
    unreachable_pub,
    reason = "a library for the fuzzer, a module for this test"
)]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;
use fuzz::{config, control, engine, netlink, pair, sealed, steps, wire};

type Target = (&'static str, fn(&[u8]) -> usize);

const TARGETS: [Target; 6] = [
    ("config", config::run),
    ("control", control::run),
    ("engine", engine::run),
    ("netlink", netlink::run),
    ("sealed", sealed::run),
    ("wire", wire::run),
];

#[test]
fn what_fuzzing_has_kept_breaks_nothing() {
    for (target, run) in TARGETS {
        let mut understood = 0;
        for path in files(&Path::new("tests/corpus").join(target)) {
            let bytes = fs::read(&path).expect("a file of the corpus");
            let outcome = std::panic::catch_unwind(|| run(&bytes));
            understood += outcome.unwrap_or_else(|_| panic!("{} breaks it", path.display()));
        }
        assert!(understood > 0, "tests/corpus/{target} says nothing");
    }
}

#[test]
fn real_messages_are_understood_by_every_target() {
    for (target, run) in TARGETS {
        for (name, bytes) in &REAL[target] {
            let understood = run(bytes);
            // Of wrong configurations and of steps for engines no more is asked than to be
            // survived, and these have nothing inside that could be read.
            let may_be_nothing = matches!(target, "config" | "engine" | "sealed")
                || ["empty", "dump_done"].contains(&name.as_str())
                || name.starts_with("sealed-");
            assert!(understood > 0 || may_be_nothing, "{target}: {name}");
        }
        let all = REAL[target].iter().map(|(_, bytes)| run(bytes)).sum();
        assert!(0_usize < all, "{target} understands nothing at all");
        if let Some(folder) = env::var_os("SEEDS") {
            let folder = PathBuf::from(folder).join(target);
            fs::create_dir_all(&folder).expect("the folder for seeds");
            for (name, bytes) in &REAL[target] {
                fs::write(folder.join(format!("seed-{name}")), bytes).expect("a seed");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Alone, and in the middle of something real.
    #[test]
    fn noise_breaks_no_parser(
        noise in prop::collection::vec(any::<u8>(), 0..100),
        which: prop::sample::Index, place: prop::sample::Index, gone in 0..9_usize,
    ) {
        for (target, run) in TARGETS {
            if matches!(target, "engine" | "sealed") {
                continue;
            }
            run(&noise);
            let real = &REAL[target];
            let mut mixed = real[which.index(real.len())].1.clone();
            let at = place.index(mixed.len() + 1);
            let end = (at + gone).min(mixed.len());
            mixed.splice(at..end, noise.iter().copied().take(8));
            run(&mixed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn noise_breaks_no_engine(
        noise in prop::collection::vec(
            (any::<u8>(), prop::collection::vec(any::<u8>(), 0..60)), 1..12,
        ),
    ) {
        let mut bytes = Vec::new();
        for (kind, argument) in &noise {
            steps::push(&mut bytes, *kind, argument);
        }
        engine::run(&bytes);
        sealed::run(&bytes);
    }
}

/// Real messages by target.
static REAL: LazyLock<BTreeMap<&'static str, Vec<Seed>>> = LazyLock::new(|| {
    let all = TARGETS.map(|(target, _)| (target, seeds(target)));
    all.into_iter().collect()
});

/// A name and the bytes.
type Seed = (String, Vec<u8>);

fn seeds(target: &str) -> Vec<Seed> {
    match target {
        "config" => configurations(),
        "control" => requests(),
        "engine" => engine::seeds(),
        "netlink" => captured(),
        "sealed" => sealed::seeds(),
        "wire" => datagrams(),
        other => panic!("no target is called {other}"),
    }
}

fn configurations() -> Vec<Seed> {
    let mut paths = files(Path::new("tests/config"));
    paths.retain(|path| path.extension().is_some_and(|it| it == "toml"));
    paths.push("conf/ctsyncd.toml".into());
    let named = paths.into_iter().map(|path| (stem(&path), path));
    named
        .map(|(name, path)| (name, fs::read(path).expect("a configuration")))
        .collect()
}

fn requests() -> Vec<Seed> {
    let lines = [
        r#"{"command":"status"}"#,
        r#"{"command":"promote"}"#,
        r#"{"command":"notify","kind":"GROUP","name":"fw","state":"MASTER","priority":100}"#,
        r#"{"command":"notify","kind":"INSTANCE","name":"VI_1","state":"FAULT"}"#,
        r#"{"command":"flush","what":"replica"}"#,
        r#"{"command":"resync","what":"peers"}"#,
        r#"{"command":"dump","table":"local","format":"text"}"#,
    ];
    let numbered = lines.iter().enumerate();
    numbered
        .map(|(at, line)| (at.to_string(), line.as_bytes().to_vec()))
        .collect()
}

/// Single messages, and all of them in one datagram.
fn captured() -> Vec<Seed> {
    let files = ["ctnetlink.txt", "ctnetlink_expectations.txt"];
    let text = files.map(|file| {
        fs::read_to_string(Path::new("tests/golden").join(file)).expect("captured messages")
    });
    let text = text.concat();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut seeds: Vec<Seed> = lines
        .filter_map(|line| line.split_once(' '))
        .map(|(name, digits)| (name.to_owned(), unhex(digits)))
        .collect();
    let all = seeds.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    seeds.push(("all".to_owned(), all));
    seeds
}

/// The golden ones, and those of two engines that meet.
fn datagrams() -> Vec<Seed> {
    let golden = files(Path::new("tests/golden/wire-v1")).into_iter();
    let mut seeds: Vec<Seed> = golden
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a golden datagram");
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            (stem(&path), unhex(&lines.collect::<String>()))
        })
        .collect();
    let sent = pair::Pair::warm(None).peer.sent;
    let numbered = sent.into_iter().take(10).enumerate();
    seeds.extend(numbered.map(|(at, datagram)| (format!("sent-{at}"), datagram)));
    seeds
}

fn unhex(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits.chars().filter_map(|it| it.to_digit(16)).collect();
    let pairs = digits.chunks_exact(2);
    pairs.map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().expect("a file has a name");
    stem.to_str().expect("names are UTF-8").to_owned()
}

/// The files of a folder, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let paths = entries.map(|entry| entry.expect("an entry of the folder").path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
    paths.sort();
    paths
}
