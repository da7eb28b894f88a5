//! A checker that finds nothing proves nothing: each rule is shown a file that breaks it.

use crate::rules;
use crate::source::Source;

#[test]
fn a_broken_wall_is_found_with_its_file_and_line() {
    let found = rules::walls(&Source::new(
        "src/cache/mod.rs",
        "//! Head.\n\nuse crate::flow::Flow;\nuse crate::ctnetlink::decode;\n",
    ));
    assert_eq!(
        found,
        ["src/cache/mod.rs:4: cache may not use ctnetlink, only flow"]
    );
}

#[test]
fn walls_hold_in_every_form_of_a_path() {
    for line in [
        "use crate::net;",
        "pub(crate) use crate::net::Link as L;",
        "use crate::{flow::{Flow, Tuple}, net};",
        "use crate::{\n    flow,\n    net::link::{self, Link},\n};",
        "let link = crate::net::Link::new();",
        "fn f(link: &crate::net::Link) {}",
        "use super::net::Link;",
        "mod inner {\n    use super::super::net;\n}",
    ] {
        let found = rules::walls(&Source::new("src/cache/mod.rs", line));
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        assert!(found[0].contains("may not use net"), "{found:?}");
    }
    for line in [
        "use crate::flow::{self, Flow};",
        "use crate::{flow::{Flow, Tuple}, cache::Slot};",
        "// use crate::net;",
        "/* use crate::net; */",
        "let text = \"crate::net\";",
        "let text = r#\"a \" crate::net\"#;",
        "mod inner {\n    use super::net;\n}",
        "use super::flow;",
    ] {
        let found = rules::walls(&Source::new("src/cache/mod.rs", line));
        assert_eq!(found, [""; 0], "{line}");
    }
}

#[test]
fn a_module_of_the_same_name_inside_a_folder_is_no_way_out() {
    let line = "use super::control::Frame;";
    let inside = rules::walls(&Source::new("src/wire/record.rs", line));
    assert_eq!(inside, [""; 0]);
    let outside = rules::walls(&Source::new("src/wire/mod.rs", line));
    assert_eq!(outside.len(), 1, "{outside:?}");
}

#[test]
fn a_door_in_a_wall_is_as_wide_as_it_says() {
    let allowed = "use crate::config::settings::KernelSettings;";
    let found = rules::walls(&Source::new("src/kernel/reader.rs", allowed));
    assert_eq!(found, [""; 0]);
    for line in [
        "use crate::config;",
        "use crate::config::load;",
        "use crate::config::{self, settings::KernelSettings};",
    ] {
        let found = rules::walls(&Source::new("src/kernel/reader.rs", line));
        assert_eq!(
            found,
            [
                "src/kernel/reader.rs:1: kernel may not use config, only flow, ctnetlink and \
              config::settings"
            ]
        );
    }
}

#[test]
fn a_folder_without_a_rule_is_found() {
    let found = rules::walls(&Source::new("src/helpers/mod.rs", "//! Head.\n"));
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn impurity_is_found_but_for_tests_and_comments() {
    for line in [
        "let now = Instant::now();",
        "let now = std::time::SystemTime::now();",
        "use std::fs;",
        "use std::{fmt, thread};",
        "use std::net::{IpAddr, UdpSocket};",
        "use tokio::sync::mpsc;",
        "getrandom::fill(&mut bytes);",
        "unsafe { read() }",
        "let hasher = RandomState::new();",
    ] {
        let found = rules::purity(&Source::new("src/engine/mod.rs", line));
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        assert!(found[0].starts_with("src/engine/mod.rs:1: "), "{found:?}");
        let edge = rules::purity(&Source::new("src/kernel/reader.rs", line));
        assert_eq!(edge, [""; 0], "{line}");
    }
    for line in [
        "use std::net::{IpAddr, SocketAddr};",
        "use std::time::{Duration, Instant};",
        "// Instant::now() is for the driver",
        "let threads = thread_count;",
        "#[cfg(test)]\nmod tests {\n    let now = Instant::now();\n}",
    ] {
        let found = rules::purity(&Source::new("src/engine/mod.rs", line));
        assert_eq!(found, [""; 0], "{line}");
    }
    let beside = rules::purity(&Source::new("src/engine/tests.rs", "Instant::now()"));
    assert_eq!(beside, [""; 0]);
}

#[test]
fn the_wall_clock_is_found_where_a_timer_could_go_by_it() {
    for line in [
        "let now = std::time::SystemTime::now();",
        "use std::time::{Duration, UNIX_EPOCH};",
        "let now = clock_gettime(ClockId::Realtime);",
    ] {
        for path in ["src/kernel/reader.rs", "src/daemon/driver.rs"] {
            let found = rules::wall_clock(&Source::new(path, line));
            assert_eq!(found.len(), 1, "{line}: {found:?}");
        }
        let shown = rules::wall_clock(&Source::new("src/cli/status.rs", line));
        assert_eq!(shown, [""; 0], "{line}");
    }
    let line = "let now = Instant::now(); // not SystemTime";
    assert_eq!(
        rules::wall_clock(&Source::new("src/kernel/mod.rs", line)),
        [""; 0]
    );
}

#[test]
fn what_is_confined_is_found_elsewhere() {
    let source = |path| Source::new(path, "use bincode::Encode;\n");
    assert_eq!(rules::confined(&source("src/wire/codec.rs")), [""; 0]);
    assert_eq!(rules::confined(&source("src/wire/record.rs")).len(), 1);
    let source = Source::new("src/net/link.rs", "//! x\nunsafe fn f() {}\n");
    let found = rules::confined(&source);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("src/net/link.rs:2: "), "{found:?}");
}

#[test]
fn a_file_without_a_head_is_found() {
    let source = |text| Source::new("src/flow/mod.rs", text);
    assert_eq!(rules::head(&source("//! What it is.\n")), [""; 0]);
    assert_eq!(rules::head(&source("use std::fmt;\n")).len(), 1);
    assert_eq!(rules::head(&source("//!\n//! late\n")).len(), 1);
    assert_eq!(rules::head(&source("")).len(), 1);
}

#[test]
fn work_left_for_later_is_found() {
    for line in [
        "// FIXME: this",
        "/// TODO(me) later",
        "todo!()",
        "unimplemented!(\"x\")",
    ] {
        let found = rules::left_for_later(&Source::new("src/flow/mod.rs", line));
        assert_eq!(found.len(), 1, "{line}: {found:?}");
    }
}

#[test]
fn a_long_file_is_found_and_its_tests_do_not_count() {
    let code = "fn f() {}\n".repeat(401);
    let found = rules::length(&Source::new("src/flow/mod.rs", &code));
    assert_eq!(found.len(), 1, "{found:?}");
    let tests = "#[cfg(test)]\nmod tests {\n".to_owned() + &code + "}\n";
    let found = rules::length(&Source::new("src/flow/mod.rs", &tests));
    assert_eq!(found, [""; 0]);
    assert_eq!(
        rules::length(&Source::new("src/flow/tests.rs", &code)),
        [""; 0]
    );
}

#[test]
fn a_citation_of_no_section_is_found() {
    let document = Some("# Protocol\n\n## 1. Words\n\n### 1.2 More\n\n## 2 Header\n");
    for good in [
        "//! `docs/protocol.md` section 1",
        "// docs/protocol.md section 1.2.",
        "//! `docs/protocol.md`\n//! section 2.",
        "//! docs/protocol.md draws it.",
    ] {
        let found = rules::citations(&Source::new("src/wire/mod.rs", good), document);
        assert_eq!(found, [""; 0], "{good}");
    }
    let text = "//! Head.\n//! See `docs/protocol.md`,\n//! section 3.\n";
    let source = Source::new("src/wire/mod.rs", text);
    assert_eq!(
        rules::citations(&source, document),
        ["src/wire/mod.rs:2: docs/protocol.md has no section 3"]
    );
    assert_eq!(rules::citations(&source, None), [""; 0]);
}

#[test]
fn a_crate_that_nobody_names_is_found() {
    let sources = [
        Source::new("src/net/mod.rs", "//! serde\nuse netlink_sys::Socket;\n"),
        Source::new("src/flow/mod.rs", "//! Head.\nstruct Flow;\n"),
    ];
    let found = rules::unused_crates(&["netlink-sys", "serde"], &sources);
    assert_eq!(found, ["Cargo.toml: serde is not used in src/"]);
}
