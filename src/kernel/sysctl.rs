//! The sysctls of conntrack. `/proc/sys/net` shows the network namespace of the calling thread.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where they are.
const FOLDER: &str = "/proc/sys/net/netfilter";

/// A sysctl could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// No conntrack in this kernel, or not yet.
    #[error(
        "{} does not exist: the module nf_conntrack is not loaded; run `modprobe nf_conntrack` \
         and name it in /etc/modules-load.d/",
        path.display()
    )]
    NotLoaded {
        /// The sysctl's file.
        path: PathBuf,
    },
    /// Refused.
    #[error("cannot read {}", path.display())]
    Read {
        /// The sysctl's file.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// Not what a kernel writes.
    #[error("{} holds {text:?}, not a number", path.display())]
    NotANumber {
        /// The sysctl's file.
        path: PathBuf,
        /// What it holds.
        text: String,
    },
}

/// How `net.netfilter.nf_conntrack_events` stands after [`ensure_events`].
#[derive(Debug, PartialEq, Eq)]
pub enum EventsSysctl {
    /// 1: every flow tells of its life.
    On,
    /// It was something else and is 1 now. Flows that are older may still end without a word; the
    /// scrub finds them.
    SetToOn {
        /// What it was.
        was: u32,
    },
    /// It is not 1 and stays so.
    Off {
        /// What it is.
        is: u32,
        /// Why it stays: not wanted by the configuration, or the system's word.
        why: String,
    },
}

impl EventsSysctl {
    /// What an operator should know, with the line that mends it; `None` if all is well.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let Self::Off { is, why } = self else {
            return None;
        };
        let meaning = match is {
            0 => "the kernel tells of no flow at all, and nothing new is replicated until a scrub",
            _ => {
                "flows that were born while nobody listened (before this daemon started) end \
                 without a word, and are only removed by a scrub"
            }
        };
        Some(format!(
            "net.netfilter.nf_conntrack_events is {is} ({why}): {meaning}; run `sysctl -w \
             net.netfilter.nf_conntrack_events=1` and write that line to /etc/sysctl.d/"
        ))
    }
}

/// Sets `net.netfilter.nf_conntrack_events` to 1 if `may_set`, and says how it stands. Call it
/// before anything else touches conntrack: flows keep what was set when they were born.
///
/// # Errors
///
/// When it cannot be read.
pub fn ensure_events(may_set: bool) -> Result<EventsSysctl, SysctlError> {
    let path = file("nf_conntrack_events");
    let was = read(&path)?;
    if was == 1 {
        return Ok(EventsSysctl::On);
    }
    let why = if may_set {
        match fs::write(&path, "1") {
            Ok(()) => return Ok(EventsSysctl::SetToOn { was }),
            Err(error) => error.to_string(),
        }
    } else {
        "kernel.set_events_sysctl is false".into()
    };
    Ok(EventsSysctl::Off { is: was, why })
}

/// Most flows that the kernel takes, `net.netfilter.nf_conntrack_max`.
///
/// # Errors
///
/// When it cannot be read.
pub fn conntrack_max() -> Result<u32, SysctlError> {
    read(&file("nf_conntrack_max"))
}

/// Flows in the kernel's table, `net.netfilter.nf_conntrack_count`; ended ones that were not
/// collected yet count too.
///
/// # Errors
///
/// When it cannot be read.
pub fn conntrack_count() -> Result<u32, SysctlError> {
    read(&file("nf_conntrack_count"))
}

fn file(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

fn read(path: &Path) -> Result<u32, SysctlError> {
    let text = fs::read_to_string(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => SysctlError::NotLoaded { path: path.into() },
        _ => SysctlError::Read {
            path: path.into(),
            source,
        },
    })?;
    let text = text.trim();
    text.parse().map_err(|_| SysctlError::NotANumber {
        path: path.into(),
        text: text.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_module_is_told_with_its_mend() {
        let error = read(Path::new("/proc/sys/net/netfilter/no_such_thing")).expect_err("missing");

        let text = error.to_string();
        assert!(text.contains("modprobe nf_conntrack"), "{text}");
    }

    #[test]
    fn warning_names_the_line_that_mends_it() {
        let off = EventsSysctl::Off {
            is: 2,
            why: "Permission denied".into(),
        };

        let text = off.warning().expect("a warning");
        assert!(
            text.contains("sysctl -w net.netfilter.nf_conntrack_events=1"),
            "{text}"
        );
        assert!(text.contains("Permission denied"), "{text}");
        assert_eq!(EventsSysctl::On.warning(), None);
        assert_eq!(EventsSysctl::SetToOn { was: 2 }.warning(), None);
    }
}
