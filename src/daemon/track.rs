//! The file that keepalived tracks (keepalived.conf(5), "VRRP track files"), with weight 1: what its
//! priority is changed by.
//!
//! Seen with keepalived 2.2.7: a file that is missing counts as 0, and is picked up when it
//! appears; each value replaces the last one; -253 to 253 move the priority within 1 to 254; below,
//! it is FAULT, the addresses go and a goodbye is sent. The file is replaced as a whole, so that
//! keepalived never reads half a number.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::engine::Standing;

/// The lowest change that is no FAULT: whatever the priority was, it is 1 then.
const LAST_CHOICE: i32 = -253;
/// One less is FAULT.
const LET_GO: i32 = -254;

/// The file.
#[derive(Debug)]
pub(super) struct TrackFile {
    path: PathBuf,
    unready: i32,
}

impl TrackFile {
    pub(super) fn new(path: &Path, unready_priority: u8) -> Self {
        Self {
            path: path.to_owned(),
            unready: -i32::from(unready_priority),
        }
    }

    /// Writes what keepalived is to know of this node, unless it stands there.
    pub(super) fn write(&self, standing: Standing) -> anyhow::Result<()> {
        let value = match standing {
            Standing::Full => 0,
            Standing::Unready => self.unready,
            Standing::LastChoice => LAST_CHOICE,
            Standing::LetGo => LET_GO,
        };
        let text = format!("{value}\n");
        if fs::read(&self.path).is_ok_and(|there| there == text.as_bytes()) {
            return Ok(());
        }
        let mut beside = self.path.as_os_str().to_owned();
        beside.push(".new");
        fs::write(&beside, text)
            .and_then(|()| fs::rename(&beside, &self.path))
            .with_context(|| {
                format!(
                    "keepalived is not told of this node: cannot write {}",
                    self.path.display()
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_standing_has_its_value_and_a_lost_file_comes_back() {
        let folder = std::env::temp_dir().join(format!("ctsyncd-track-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary directory");
        let path = folder.join("track");
        let file = TrackFile::new(&path, 30);
        for (standing, text) in [
            (Standing::Unready, "-30\n"),
            (Standing::Full, "0\n"),
            (Standing::LetGo, "-254\n"),
            (Standing::LastChoice, "-253\n"),
        ] {
            file.write(standing).expect("is writable");
            assert_eq!(fs::read_to_string(&path).expect("is there"), text);
        }
        fs::remove_file(&path).expect("is there");
        file.write(Standing::LastChoice).expect("is writable");
        assert!(path.exists());
        fs::remove_dir_all(&folder).expect("is ours");
    }
}
