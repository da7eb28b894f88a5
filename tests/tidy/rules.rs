//! The rules. Each takes a file and gives what breaks it, as `file:line: what`.

use crate::lexer::{find_word, paths};
use crate::source::Source;

/// Who may use whom; a folder may always use itself. `docs/architecture.md` tells why.
const WALLS: &[(&str, &[&str])] = &[
    ("flow", &[]),
    ("ctnetlink", &["flow"]),
    ("cache", &["flow"]),
    ("wire", &["flow"]),
    ("replication", &["flow", "cache", "wire"]),
    (
        "engine",
        &["flow", "ctnetlink", "cache", "wire", "replication"],
    ),
    ("kernel", &["flow", "ctnetlink", "config::settings"]),
    ("net", &["flow", "config::settings"]),
    ("observe", &["flow", "config::settings", "engine::status"]),
    ("control", &["flow", "config::settings", "engine::status"]),
    ("config", &["flow"]),
    (
        "cli",
        &[
            "flow",
            "config",
            "control",
            "engine::status",
            "observe",
            "daemon",
        ],
    ),
    (
        "daemon",
        &[
            "flow",
            "ctnetlink",
            "cache",
            "wire",
            "replication",
            "engine",
            "kernel",
            "net",
            "observe",
            "control",
            "config",
        ],
    ),
];

/// No clock, socket, file, thread, task or randomness of their own.
const PURE: &[&str] = &[
    "flow",
    "ctnetlink",
    "cache",
    "wire",
    "replication",
    "engine",
];

/// What pure folders do not name, and why.
const IMPURE_WORDS: &[(&str, &str)] = &[
    ("tokio", "there are no tasks in pure code"),
    ("UdpSocket", "sockets belong into net"),
    ("TcpStream", "sockets belong into net"),
    ("TcpListener", "sockets belong into net"),
    ("UnixStream", "sockets belong into control"),
    ("UnixListener", "sockets belong into control"),
    ("UnixDatagram", "sockets belong into control"),
    ("socket2", "sockets belong into net and kernel"),
    ("netlink_sys", "sockets belong into net and kernel"),
    ("rustix", "system calls belong into the I/O folders"),
    ("Instant::now", "time is an argument"),
    ("SystemTime", "time is an argument, and monotonic"),
    ("getrandom", "randomness is an argument"),
    ("RandomState", "hash keys are an argument"),
    ("thread_local", "state has one owner"),
    ("unsafe", "pure code has no reason for it"),
];

/// Modules of `std` that pure folders do not name.
const IMPURE_STD: &[&str] = &["fs", "thread", "process", "env"];

/// The one file that may name `bincode`, so that it can be replaced.
const BINCODE_IN: &str = "src/wire/codec.rs";

/// Files that may say `unsafe`. None needs to so far.
const UNSAFE_IN: &[&str] = &[];

/// Where the wall clock may be read: for people to see when something was. Everything that waits, ages
/// or expires goes by the monotonic clock, so that a step of the wall clock changes nothing.
const WALL_CLOCK_IN: &[&str] = &["src/cli/", "src/daemon/history.rs", "src/observe/"];

/// Names of the wall clock.
const WALL_CLOCK: &[&str] = &[
    "SystemTime",
    "UNIX_EPOCH",
    "CLOCK_REALTIME",
    "Realtime",
    "gettimeofday",
];

/// Most lines of a file without its tests: a file that grows past that has a second subject.
const LINES_MAX: usize = 400;

/// Longer files: how long each may be, and why it is one subject. A bound is there to be lowered.
const LONG_FILES: &[(&str, usize, &str)] = &[
    (
        "src/cache/local.rs",
        462,
        "one table and the rules of its versions and tombstones",
    ),
    (
        "src/ctnetlink/encode.rs",
        420,
        "creates, updates and deletes share their attributes",
    ),
    (
        "src/net/link.rs",
        540,
        "one link: opening, sending and receiving for both forms of address",
    ),
];

/// Imports go one way.
pub(crate) fn walls(source: &Source) -> Vec<String> {
    let Some(folder) = source.folder() else {
        return Vec::new();
    };
    let Some((_, allowed)) = WALLS.iter().find(|(name, _)| *name == folder) else {
        let message = format!("the folder {folder} has no line in the table of walls");
        return vec![source.at(0, &message)];
    };
    let used = crate_paths(source).into_iter().filter(|(_, path)| {
        let known = |name: &str| WALLS.iter().any(|(folder, _)| *folder == name);
        path.first()
            .is_some_and(|&first| first != folder && known(first))
    });
    let barred = used.filter(|(_, path)| {
        !allowed.iter().any(|door| {
            let door: Vec<&str> = door.split("::").collect();
            path.starts_with(&door)
        })
    });
    let mut found: Vec<String> = barred
        .map(|(at, path)| {
            let doors = match allowed.split_last() {
                None => "nothing".to_owned(),
                Some((only, [])) => format!("only {only}"),
                Some((last, first)) => format!("only {} and {last}", first.join(", ")),
            };
            source.at(at, &format!("{folder} may not use {}, {doors}", path[0]))
        })
        .collect();
    found.dedup(); // one tree can name several things of one folder
    found
}

/// All paths from the root of the crate: those that say `crate`, and those that climb up to it.
fn crate_paths(source: &Source) -> Vec<(usize, Vec<&str>)> {
    let code = source.code.as_str();
    let mut found = paths(code, "crate", 2);
    // `src/a/mod.rs` is one step from the root, `src/a/b.rs` two.
    let inside = source
        .path
        .trim_start_matches("src/")
        .trim_end_matches(".rs");
    let steps = inside.split('/').filter(|name| *name != "mod").count();
    for (at, path) in paths(code, "super", usize::MAX) {
        if code[..at].ends_with("super::") {
            continue; // the middle of a chain that was seen from its beginning
        }
        let more = path.iter().take_while(|name| **name == "super").count();
        let inline = inline_modules_around(code, at);
        if 1 + more == steps + inline {
            found.push((at, path[more..].iter().copied().take(2).collect()));
        }
    }
    found
}

/// How many `mod name { … }` are open at `at`.
fn inline_modules_around(code: &str, at: usize) -> usize {
    let mut open = Vec::new();
    let mut from = 0;
    for (index, char) in code[..at].char_indices() {
        match char {
            '{' => {
                let mut head = code[from..index].split_whitespace().rev();
                open.push(head.nth(1) == Some("mod"));
                from = index + 1;
            }
            '}' => {
                open.pop();
                from = index + 1;
            }
            ';' => from = index + 1,
            _ => {}
        }
    }
    open.into_iter().filter(|is_module| *is_module).count()
}

/// Pure folders name nothing that is not.
pub(crate) fn purity(source: &Source) -> Vec<String> {
    if !source.folder().is_some_and(|folder| PURE.contains(&folder)) {
        return Vec::new();
    }
    let code = source.own_code();
    let mut found = Vec::new();
    for (word, why) in IMPURE_WORDS {
        for at in find_word(code, word) {
            found.push(source.at(at, &format!("{word} in a pure folder: {why}")));
        }
    }
    for (at, path) in paths(code, "std", 1) {
        if let Some(module) = path.first()
            && IMPURE_STD.contains(module)
        {
            let message =
                format!("std::{module} in a pure folder: it belongs into the I/O folders");
            found.push(source.at(at, &message));
        }
    }
    found
}

/// `bincode` and `unsafe` stay where they are looked after.
pub(crate) fn confined(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    if source.path != BINCODE_IN {
        for at in find_word(&source.code, "bincode") {
            found.push(source.at(at, &format!("bincode outside of {BINCODE_IN}")));
        }
    }
    if !UNSAFE_IN.contains(&source.path.as_str()) {
        for at in find_word(&source.code, "unsafe") {
            found.push(source.at(at, "unsafe outside of the files that tests/tidy lists"));
        }
    }
    found
}

/// No timer goes by the wall clock.
pub(crate) fn wall_clock(source: &Source) -> Vec<String> {
    if WALL_CLOCK_IN
        .iter()
        .any(|path| source.path.starts_with(path))
    {
        return Vec::new();
    }
    let named = WALL_CLOCK.iter().flat_map(|word| {
        let at = find_word(&source.code, word).into_iter();
        at.map(move |at| (at, *word))
    });
    named
        .map(|(at, word)| source.at(at, &format!("{word}: a step of the wall clock changes it")))
        .collect()
}

/// Every file begins with a sentence about itself.
pub(crate) fn head(source: &Source) -> Vec<String> {
    let first = source.text.lines().next().unwrap_or_default();
    match first.strip_prefix("//!") {
        Some(rest) if !rest.trim().is_empty() => Vec::new(),
        Some(_) | None => vec![source.at(0, "the file does not begin with `//! what it is`")],
    }
}

/// What has to be done is done, or is an issue.
pub(crate) fn left_for_later(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for word in ["FIXME", "TODO", "XXX"] {
        for at in find_word(&source.text, word) {
            found.push(source.at(at, &format!("{word}: do it, or open an issue")));
        }
    }
    for word in ["todo!", "unimplemented!"] {
        for (at, _) in source.code.match_indices(word) {
            found.push(source.at(at, &format!("{word} is no code")));
        }
    }
    found
}

/// Files are short enough to have one subject; tests do not count.
pub(crate) fn length(source: &Source) -> Vec<String> {
    let lines = source.own_code().lines().count();
    let bound = bound_of(source).unwrap_or(LINES_MAX);
    if lines <= bound {
        return Vec::new();
    }
    let message = format!("{lines} lines without tests, above {bound}: split it by subject");
    vec![source.at(0, &message)]
}

/// The bound of a file on the list of long ones.
fn bound_of(source: &Source) -> Option<usize> {
    LONG_FILES
        .iter()
        .find(|(path, ..)| *path == source.path)
        .map(|&(_, bound, _)| bound)
}

/// Files on the list of long ones that have become short.
pub(crate) fn stale_long_files(sources: &[Source]) -> Vec<String> {
    sources
        .iter()
        .filter(|source| bound_of(source).is_some())
        .filter(|source| !source.code.trim().is_empty())
        .filter(|source| source.own_code().lines().count() <= LINES_MAX)
        .map(|source| source.at(0, "not long any more: take it off the list in tests/tidy"))
        .collect()
}

/// `docs/protocol.md section N` names a section that is there.
pub(crate) fn citations(source: &Source, document: Option<&str>) -> Vec<String> {
    const DOCUMENT: &str = "docs/protocol.md";
    let Some(document) = document else {
        return Vec::new();
    };
    let numbers: Vec<&str> = document
        .lines()
        .filter(|line| line.starts_with('#'))
        .filter_map(|line| line.trim_start_matches('#').split_whitespace().next())
        .map(|number| number.trim_end_matches('.'))
        .collect();
    let mut found = Vec::new();
    for (at, _) in source.text.match_indices(DOCUMENT) {
        // The citation may go on in the next line of the comment.
        let rest = &source.text[at + DOCUMENT.len()..];
        let mut words = rest
            .split_whitespace()
            .filter(|word| !matches!(*word, "//" | "///" | "//!"))
            .filter(|word| !word.chars().all(|char| matches!(char, '`' | ',')));
        if !matches!(words.next(), Some("section" | "sections")) {
            continue;
        }
        let cited = words.next().unwrap_or_default();
        let end = cited
            .find(|char: char| !char.is_ascii_digit() && char != '.')
            .unwrap_or(cited.len());
        let cited = cited[..end].trim_end_matches('.');
        if !numbers.contains(&cited) {
            found.push(source.at(at, &format!("{DOCUMENT} has no section {cited}")));
        }
    }
    found
}

/// What the manifest asks for is used.
pub(crate) fn unused_crates(names: &[&str], sources: &[Source]) -> Vec<String> {
    names
        .iter()
        .filter(|name| {
            let name = name.replace('-', "_");
            !sources
                .iter()
                .any(|source| !find_word(&source.code, &name).is_empty())
        })
        .map(|name| format!("Cargo.toml: {name} is not used in src/"))
        .collect()
}
