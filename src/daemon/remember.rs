//! Role and term across a restart of the daemon.
//!
//! keepalived tells a role once, when it changes: a daemon that restarts on the active node would
//! take itself for a standby. So role and term are written beside the control socket, where they
//! survive the daemon but not a reboot. A file that cannot be read says nothing and blocks nothing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::engine::status::Role;
use crate::engine::{Engine, Instance};

/// The file.
#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
}

/// What is remembered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Remembered {
    pub(super) role: Role,
    pub(super) term: u64,
    /// keepalived's instances and groups that are MASTER here: it will not say so again.
    #[serde(default)]
    pub(super) masters: Vec<Instance>,
}

impl Memory {
    /// The file that goes with a control socket.
    pub(super) fn beside(socket: &Path) -> Self {
        let mut name = socket.as_os_str().to_owned();
        name.push(".role");
        Self { path: name.into() }
    }

    /// What an earlier run of this boot was, or a standby that was never promoted. A promotion
    /// that was cut short did not happen.
    pub(super) fn read(&self) -> Remembered {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        match serde_json::from_str::<Remembered>(&text) {
            Ok(remembered) if remembered.role == Role::Active => remembered,
            Ok(Remembered { term, .. }) => standby(term),
            Err(_) => standby(0),
        }
    }

    /// Remembers a role; a crash in the middle leaves the old one.
    pub(super) fn write(&self, remembered: &Remembered) -> anyhow::Result<()> {
        let text = serde_json::to_string(remembered)?;
        let beside = self.path.with_extension("role.new");
        fs::write(&beside, text)
            .and_then(|()| fs::rename(&beside, &self.path))
            .with_context(|| format!("cannot remember the role in {}", self.path.display()))
    }
}

impl Remembered {
    /// What an engine is now.
    pub(super) fn of(engine: &Engine) -> Self {
        Self {
            role: engine.role(),
            term: engine.term(),
            masters: engine.masters().to_vec(),
        }
    }
}

fn standby(term: u64) -> Remembered {
    Remembered {
        role: Role::Standby,
        term,
        masters: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_read_back_and_a_broken_file_is_a_standby() {
        let directory = std::env::temp_dir().join(format!("ctsyncd-role-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a temporary directory");
        let memory = Memory::beside(&directory.join("control.sock"));
        assert_eq!(memory.read(), standby(0));
        let active = Remembered {
            role: Role::Active,
            term: 7,
            masters: vec![("GROUP".into(), "firewall".into())],
        };
        memory.write(&active).expect("is writable");
        assert_eq!(memory.read(), active);
        let promoting = Remembered {
            role: Role::Promoting,
            term: 8,
            ..active
        };
        memory.write(&promoting).expect("is writable");
        assert_eq!(memory.read(), standby(8));
        // As an earlier release wrote it.
        fs::write(&memory.path, r#"{"role":"active","term":3}"#).expect("is writable");
        assert_eq!((memory.read().role, memory.read().term), (Role::Active, 3));
        fs::write(&memory.path, "{").expect("is writable");
        assert_eq!(memory.read(), standby(0));
        fs::remove_dir_all(&directory).expect("is ours");
    }
}
