//! The documentation does what it says: its commands run, its configurations are accepted, the
//! commands, options and messages that it names exist, its links lead somewhere.
//!
//! A fence says what its block is:
//!
//! | fence | what it is | what is checked |
//! | --- | --- | --- |
//! | `sh run` | commands for anybody | run by `sh -eu`, with `conf/` and the built `ctsyncd` |
//! | `sh run exit=N` | likewise | the block ends with that exit code |
//! | `sh root` | commands that change a system | the `ctsyncd` commands in it exist |
//! | `sh build` | commands for a checkout | likewise; `make test` and `make demo` are CI's |
//! | `toml` | a whole configuration | `config::parse` |
//! | `toml part` | sections to add to one | likewise, with what has to be there beside them |
//! | `text`, `rust` | anything else | nothing |

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ctsyncd::config;

/// What these tests read. `docs/` is read whole.
const PAGES: &[&str] = &[
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
];

/// What a `toml part` need not say.
const REST: &[(&str, &str)] = &[
    ("[node]", "[node]\nname = \"fw1\"\n"),
    ("[security]", "[security]\ninsecure = true\n"),
    (
        "[[link]]",
        "[[link]]\ninterface = \"eth2\"\nmulticast = \"225.0.0.50:3780\"\n",
    ),
];

#[test]
fn every_fence_says_what_its_block_is() {
    const KNOWN: &[&str] = &[
        "sh run",
        "sh root",
        "sh build",
        "toml",
        "toml part",
        "text",
        "rust",
    ];
    let unknown = pages().into_iter().flat_map(|page| {
        let of_page = blocks(&page.text).into_iter();
        let strange = of_page
            .filter(|block| !KNOWN.contains(&block.fence) && exit_code(block.fence).is_none());
        let told: Vec<String> = strange
            .map(|block| format!("{}:{}: ```{}", page.name, block.line, block.fence))
            .collect();
        told
    });
    expect_none(unknown.collect());
}

#[test]
fn commands_run_as_they_stand() {
    let mut ran = 0;
    let mut failed = Vec::new();
    for page in pages() {
        for block in blocks(&page.text) {
            let Some(expected) = exit_code(block.fence) else {
                continue;
            };
            ran += 1;
            let output = run(&block.body);
            if output.status.code() != Some(expected) {
                failed.push(format!(
                    "{}:{}: {} instead of {expected}\n{}{}{}",
                    page.name,
                    block.line,
                    output.status,
                    block.body,
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr),
                ));
            }
        }
    }
    expect_none(failed);
    assert!(ran >= 4, "only {ran} blocks are marked to be run");
}

#[test]
fn configurations_are_accepted() {
    let mut seen = 0;
    let mut refused = Vec::new();
    for page in pages() {
        for block in blocks(&page.text) {
            let text = match block.fence {
                "toml" => block.body.clone(),
                "toml part" => completed(&block.body),
                _ => continue,
            };
            seen += 1;
            if let Err(diagnostics) = config::parse(&text, Path::new("block.toml")) {
                refused.push(format!("{}:{}:\n{diagnostics}", page.name, block.line));
            }
        }
    }
    expect_none(refused);
    assert!(seen >= 3, "only {seen} configurations");
}

#[test]
fn commands_and_their_options_exist() {
    let commands = Commands::read();
    let mut seen = 0;
    let mut wrong = Vec::new();
    for page in pages() {
        for (line, call) in calls(&page.text) {
            seen += 1;
            if let Err(why) = commands.check(&call) {
                wrong.push(format!("{}:{line}: `ctsyncd {call}`: {why}", page.name));
            }
        }
    }
    expect_none(wrong);
    assert!(seen >= 20, "only {seen} commands");
}

#[test]
fn every_command_is_in_the_table_of_the_readme() {
    let readme = fs::read_to_string(root().join("README.md")).expect("there is a README");
    let commands = Commands::read();
    let missing = commands.names.keys().filter(|name| {
        let cell = format!("| `ctsyncd {name}");
        name.as_str() != "help" && !readme.contains(&cell)
    });
    expect_none(missing.cloned().collect());
}

/// `` `[section] option` `` is how the pages call an option.
#[test]
fn options_of_the_configuration_exist() {
    let sections = config::sections();
    let mut seen = 0;
    let mut unknown = Vec::new();
    for page in pages() {
        for (line, span) in spans(&page.text) {
            let Some((header, option)) = span.split_once("] ") else {
                continue;
            };
            let header = format!("{}]", header);
            if !header.starts_with('[') {
                continue;
            }
            seen += 1;
            let option = option.split([' ', '=']).next().unwrap_or_default();
            let known = sections.iter().any(|section| {
                let named = [section.header(), format!("[{}]", section.name)].contains(&header);
                named && section.options.contains(&option)
            });
            if !known {
                unknown.push(format!("{}:{line}: `{span}`", page.name));
            }
        }
    }
    expect_none(unknown);
    assert!(seen >= 15, "only {seen} options");
}

/// Tables with the head "What you see" quote what the program says; `…` stands for what varies.
#[test]
fn quoted_messages_are_those_of_the_code() {
    let code = code();
    let mut seen = 0;
    let mut unknown = Vec::new();
    for page in pages() {
        let mut in_table = false;
        for (number, line) in page.text.lines().enumerate() {
            if !line.starts_with('|') {
                in_table = false;
            } else if line.starts_with("| What you see |") {
                in_table = true;
            } else if in_table {
                let cell = line.trim_start_matches('|').split(" | ").next();
                for (_, span) in spans(cell.unwrap_or_default()) {
                    seen += 1;
                    if !code.contains(&span) {
                        unknown.push(format!("{}:{}: `{span}`", page.name, number + 1));
                    }
                }
            }
        }
    }
    expect_none(unknown);
    assert!(seen >= 30, "only {seen} messages");
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let folder = page.path.parent().expect("a page is in a folder");
        for (at, _) in page.text.match_indices("](") {
            let rest = &page.text[at + 2..];
            let target = rest.split(')').next().unwrap_or_default();
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => page.path.clone(),
                file => folder.join(file),
            };
            let found = fs::read_to_string(&path)
                .is_ok_and(|text| anchor.is_empty() || has_anchor(&text, anchor));
            if !found {
                broken.push(format!("{}: {target}", page.name));
            }
        }
    }
    expect_none(broken);
}

/// A page of the documentation.
struct Page {
    name: String,
    path: PathBuf,
    text: String,
}

/// A fenced block.
struct Block<'a> {
    line: usize,
    fence: &'a str,
    body: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<Page> {
    let docs = fs::read_dir(root().join("docs")).expect("there is docs/");
    let in_docs = docs
        .map(|entry| entry.expect("an entry can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut paths: Vec<PathBuf> = PAGES.iter().map(|name| root().join(name)).collect();
    paths.extend(in_docs);
    let read = |path: PathBuf| Page {
        name: path
            .strip_prefix(root())
            .expect("is below the root")
            .display()
            .to_string(),
        text: fs::read_to_string(&path).expect("a page can be read"),
        path,
    };
    paths.into_iter().map(read).collect()
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), inside) {
            (Some(fence), false) => {
                blocks.push(Block {
                    line: number + 1,
                    fence,
                    body: String::new(),
                });
                inside = true;
            }
            (Some(_), true) => inside = false,
            (None, true) => {
                let block = blocks.last_mut().expect("a block was begun");
                block.body.push_str(line);
                block.body.push('\n');
            }
            (None, false) => {}
        }
    }
    blocks
}

/// With which code a block that is run has to end.
fn exit_code(fence: &str) -> Option<i32> {
    match fence.strip_prefix("sh run")? {
        "" => Some(0),
        code => code.strip_prefix(" exit=")?.parse().ok(),
    }
}

/// Runs a block where there is a copy of `conf/`, with the built `ctsyncd` first in the path.
fn run(script: &str) -> Output {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("docs-{}", std::process::id()));
    fs::create_dir_all(&place).expect("a folder of our own");
    let copied = Command::new("cp")
        .arg("-r")
        .args([root().join("conf"), place.join("conf")])
        .status()
        .expect("cp can be run");
    assert!(copied.success(), "conf/ is shipped");
    let program = Path::new(env!("CARGO_BIN_EXE_ctsyncd"));
    let path = std::env::var("PATH").unwrap_or_default();
    let folder = program.parent().expect("a program is in a folder");
    let output = Command::new("sh")
        .args(["-euc", script])
        .current_dir(&place)
        .env("PATH", format!("{}:{path}", folder.display()))
        .output()
        .expect("sh can be run");
    fs::remove_dir_all(&place).expect("it is ours");
    output
}

fn completed(part: &str) -> String {
    let has = |header: &str| part.lines().any(|line| line == header);
    let missing = REST.iter().filter(|(header, _)| !has(header));
    missing.map(|(_, text)| *text).chain([part]).collect()
}

/// Code spans of the prose, with their lines; blocks are left out.
fn spans(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside {
            // "``" is a span that quotes a backtick; none of the pages needs one.
            let code = line.split('`').skip(1).step_by(2);
            found.extend(code.map(|span| (number + 1, span.to_owned())));
        }
    }
    found
}

/// What is given to `ctsyncd` anywhere, without the options that say which daemon is meant.
fn calls(text: &str) -> Vec<(usize, String)> {
    let mut code = spans(text);
    // Elsewhere in a span the word is part of a sentence that the program says.
    code.retain(|(_, span)| span.starts_with("ctsyncd "));
    for block in blocks(text) {
        if block.fence.starts_with("sh") {
            for (at, line) in block.body.lines().enumerate() {
                let command = line.split('#').next().unwrap_or_default();
                code.push((block.line + 1 + at, command.to_owned()));
            }
        }
    }
    let mut found = Vec::new();
    for (line, code) in code {
        for (at, _) in code.match_indices("ctsyncd ") {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|char| !matches!(char, ' ' | '/' | '"' | '\'' | '(')) {
                continue;
            }
            let call = code[at + "ctsyncd ".len()..]
                .split(['|', ';', '&', '"', ')', '>'])
                .next()
                .unwrap_or_default();
            let mut words = call.split_whitespace();
            let mut kept = Vec::new();
            while let Some(word) = words.next() {
                match word {
                    "-c" | "--config" | "--socket" => {
                        let _value = words.next();
                    }
                    word => kept.push(word),
                }
            }
            if !is_a_package(&code[..at]) {
                found.push((line, kept.join(" ")));
            }
        }
    }
    found
}

/// `systemctl start ctsyncd` and the like name the unit, not the program.
fn is_a_package(before: &str) -> bool {
    ["systemctl", "journalctl", "chown", "install"]
        .iter()
        .any(|program| before.contains(program))
}

/// The commands as `--help` tells them.
struct Commands {
    names: BTreeMap<String, String>,
}

impl Commands {
    fn read() -> Self {
        let help = help(&["--help"]);
        let listed = help
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| !line.is_empty());
        let names = listed
            .filter_map(|line| line.split_whitespace().next())
            .map(|name| match name {
                "help" => (name.to_owned(), String::new()),
                name => (name.to_owned(), self::help(&[name, "--help"])),
            });
        Self {
            names: names.collect(),
        }
    }

    fn check(&self, call: &str) -> Result<(), String> {
        let mut words = call.split_whitespace();
        let Some(name) = words.next() else {
            return Ok(());
        };
        if matches!(name, "--help" | "--version") {
            return Ok(());
        }
        let Some(help) = self.names.get(name) else {
            return Err(format!("there is no command {name}"));
        };
        // A number or a name in capitals stands for what the caller has; `<X>` likewise.
        let plain = |char: char| char.is_ascii_lowercase() || char == '-';
        let told = words.filter(|word| word.chars().all(plain));
        for word in told {
            let known = help
                .split(|char: char| !(char.is_ascii_alphanumeric() || char == '-'))
                .any(|known| known == word);
            if !known && name != "notify" {
                return Err(format!("{name} knows no {word}"));
            }
        }
        Ok(())
    }
}

fn help(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_ctsyncd"))
        .args(args)
        .output()
        .expect("the program can be run");
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).expect("is text")
}

/// The text of `src/` with the strings that go on over several lines joined, and `…` in place of
/// what a format string leaves open.
fn code() -> String {
    let mut text = String::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of src/") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                text.push_str(&fs::read_to_string(&path).expect("is text"));
            }
        }
    }
    let mut joined = String::with_capacity(text.len());
    for line in text.lines() {
        match line.trim_start().strip_suffix('\\') {
            Some(part) => joined.push_str(part),
            None => {
                joined.push_str(line.trim_start());
                joined.push('\n');
            }
        }
    }
    without_placeholders(&joined.replace("\\\"", "\""))
}

/// `{…}` without a brace or the end of a line inside becomes `…`.
fn without_placeholders(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let inside = &rest[open + 1..];
        let end = inside.find(['{', '}', '\n']).unwrap_or(inside.len());
        told.push_str(&rest[..open]);
        if inside[end..].starts_with('}') {
            told.push('…');
            rest = &inside[end + 1..];
        } else {
            told.push('{');
            rest = inside;
        }
    }
    told + rest
}

fn has_anchor(text: &str, anchor: &str) -> bool {
    text.lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|line| line.trim_start_matches('#').trim())
        .any(|heading| anchor_of(heading) == anchor)
}

/// What the usual renderers of Markdown make of a heading.
fn anchor_of(heading: &str) -> String {
    heading
        .chars()
        .filter_map(|char| match char {
            ' ' => Some('-'),
            '-' | '_' => Some(char),
            char if char.is_alphanumeric() => Some(char.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

fn expect_none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}
