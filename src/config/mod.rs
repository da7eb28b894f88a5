//! The configuration: the file as written, the settings as used, and what is wrong with it.
//!
//! A text passes three stations. `document` reads it as TOML and checks names and types against
//! the structs in `file`; `settle` checks what the values mean and fills in defaults; what comes
//! out are [`settings::Settings`], which cannot be invalid. Each station reports all that it
//! finds, and [`Diagnostics`] shows it.

mod diagnostic;
mod document;
mod file;
mod gate;
mod keepalived;
mod keys;
mod links;
mod replicate;
pub mod settings;
mod settle;
mod units;

use std::io::Read;
use std::path::Path;

pub use diagnostic::{Diagnostic, Diagnostics, Place};
pub use keys::{Section, sections};
use settings::Settings;

/// Largest file that is read, bytes: whatever is larger was not meant to be a configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads and checks the file at `path`.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn load(path: &Path) -> Result<Settings, Diagnostics> {
    let unreadable = |why: String| Diagnostics::unreadable(path, why);
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(format!("cannot read the configuration: {error}")))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(unreadable(format!(
            "the file is larger than {FILE_BYTES_MAX} bytes: it is no configuration"
        )));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..valid];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        unreadable(format!("line {line} is not UTF-8 text"))
    })?;
    parse(&text, path)
}

/// Checks the text of a configuration; `path` is how messages call it.
///
/// The one thing that is not in the text is the host's name, which is the node's name when none is
/// given.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn parse(text: &str, path: &Path) -> Result<Settings, Diagnostics> {
    parse_on_host(text, path, hostname)
}

/// The same, on a host whose name is known: `None` when it has none.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn parse_on_host(
    text: &str,
    path: &Path,
    hostname: impl FnOnce() -> Option<String>,
) -> Result<Settings, Diagnostics> {
    let mut report = diagnostic::Report::default();
    let settings = document::read(text, &mut report).and_then(|(file, broken)| {
        let end = text.len()..text.len();
        settle::settle(&file, &broken, end, hostname, &mut report)
    });
    match settings {
        Some(settings) if report.is_empty() => Ok(settings),
        Some(_) | None => Err(report.into_diagnostics(path, text)),
    }
}

/// What `uname -n` prints, from the kernel of the UTS namespace we are in.
fn hostname() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty() && name != "(none)").then(|| name.to_owned())
}
