//! The laboratory: firewalls, a client and a server in network namespaces on the real kernel.
//!
//! `topology` builds it, `services` starts keepalived and what replicates, `traffic` talks through
//! it, `table` looks at the kernel's entries, `wait` awaits conditions. Everything that was started
//! or created is owned by a value whose drop ends or removes it, so that a panic leaves nothing
//! behind; what a killed run leaves is swept by the next (`namespace::sweep`).

#![allow(
    dead_code,
    unused_imports,
    reason = "shared by several targets, none of which uses all of it"
)]

pub(crate) mod bulk;
pub(crate) mod frames;
pub(crate) mod ftp;
pub(crate) mod meter;
pub(crate) mod namespace;
pub(crate) mod netlink;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod replication;
pub(crate) mod requests;
pub(crate) mod room;
pub(crate) mod services;
pub(crate) mod signals;
pub(crate) mod table;
pub(crate) mod topology;
pub(crate) mod traffic;
pub(crate) mod wait;
pub(crate) mod watch;

use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use anyhow::{Context, Error, Result, bail, ensure};

/// The programs the laboratory calls, and the Debian packages that have them.
pub(crate) const TOOLS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("keepalived", "keepalived"),
    ("conntrackd", "conntrackd"),
    ("ping", "iputils-ping"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
];

/// Names the Debian packages whose programs are not here.
pub(crate) fn missing_packages() -> Vec<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |tool: &str| {
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|folder| folder.join(tool).is_file())
    };
    TOOLS
        .iter()
        .filter(|(tool, _)| !found(tool))
        .map(|&(_, package)| package)
        .collect()
}

/// Refuses to go on where the laboratory cannot be built.
pub(crate) fn ensure_host() -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "the bench needs root");
    let missing = missing_packages();
    ensure!(
        missing.is_empty(),
        "missing Debian packages: {}",
        missing.join(" ")
    );
    Ok(())
}

/// One test at a time: they share two cores and measure time.
static TURN: Mutex<()> = Mutex::new(());

/// Waits for this test's turn, or says by name why it is skipped.
///
/// With `LAB_REQUIRED=1`, which `make test` sets when it runs as root, a skip is a failure: a
/// machine that is meant to run the laboratory must not pass by leaving it out.
pub(crate) fn turn(test: &str) -> Option<MutexGuard<'static, ()>> {
    let missing = missing_packages();
    let obstacle = if !rustix::process::geteuid().is_root() {
        Some("needs root".to_owned())
    } else if missing.is_empty() {
        None
    } else {
        Some(format!("needs the packages {}", missing.join(" ")))
    };
    if let Some(obstacle) = obstacle {
        // Past the capture of the test runner: a skip must be seen.
        let _ = writeln!(std::io::stderr(), "skipped: {test}: {obstacle}");
        assert!(
            std::env::var_os("LAB_REQUIRED").is_none_or(|value| value != "1"),
            "LAB_REQUIRED=1, but {test} {obstacle}"
        );
        return None;
    }
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    wait::forget_failure();
    Some(turn)
}
