//! Style as a test: the walls between the folders, what pure folders may not name, and a few habits.
//!
//! Clippy sees types but not our architecture; this reads the text of `src/` and does. It knows no
//! Rust beyond comments, strings and `use` trees, which is enough because the code it reads is
//! formatted by rustfmt and has no macros that write paths.

#[path = "tidy/checker.rs"]
mod checker;
#[path = "tidy/lexer.rs"]
mod lexer;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use std::path::Path;

use source::Source;

#[test]
fn the_walls_between_the_folders_stand() {
    expect_none(over_sources(rules::walls));
}

#[test]
fn pure_folders_stay_pure() {
    expect_none(over_sources(rules::purity));
}

#[test]
fn bincode_stays_in_the_codec_and_unsafe_where_it_is_listed() {
    expect_none(over_sources(rules::confined));
}

#[test]
fn a_step_of_the_wall_clock_changes_nothing() {
    expect_none(over_sources(rules::wall_clock));
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    expect_none(over_all(rules::head));
}

#[test]
fn nothing_is_left_for_later() {
    expect_none(over_sources(rules::left_for_later));
}

#[test]
fn files_have_one_subject() {
    expect_none(over_sources(rules::length));
}

#[test]
fn the_list_of_long_files_is_current() {
    expect_none(rules::stale_long_files(&sources()));
}

#[test]
fn every_cited_section_of_the_protocol_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("docs/protocol.md")).ok();
    let cite = |source: &Source| rules::citations(source, document.as_deref());
    let all = over_all(cite);
    // The checker's own samples cite sections that are not there.
    let own = |message: &String| message.starts_with("tests/tidy/");
    expect_none(all.into_iter().filter(|message| !own(message)).collect());
}

#[test]
fn every_crate_is_used() {
    let sources = sources();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("the manifest");
    let manifest: toml::Table = manifest.parse().expect("cargo has read it before us");
    let dependencies = manifest["dependencies"]
        .as_table()
        .expect("a section of the manifest");
    let names: Vec<&str> = dependencies.keys().map(String::as_str).collect();
    expect_none(rules::unused_crates(&names, &sources));
}

fn sources() -> Vec<Source> {
    let sources = source::read(Path::new(env!("CARGO_MANIFEST_DIR")), "src");
    assert!(sources.len() > 20, "src/ has {} files only", sources.len());
    sources
}

fn over_sources(rule: impl Fn(&Source) -> Vec<String>) -> Vec<String> {
    sources().iter().flat_map(rule).collect()
}

fn over_all(rule: impl Fn(&Source) -> Vec<String>) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    ["src", "tests", "examples", "benches", "fuzz"]
        .iter()
        .flat_map(|folder| source::read(root, folder))
        .flat_map(|source| rule(&source))
        .collect()
}

fn expect_none(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}
