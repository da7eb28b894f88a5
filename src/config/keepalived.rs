//! `[keepalived]`: the FIFO that it writes to and the file that it tracks.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use toml::Spanned;

use super::file::{self, Given};
use super::settings::KeepalivedSettings;
use super::settle::Check;

/// keepalived takes -253 to 253 for a change of priority; below, it goes to FAULT
/// (keepalived.conf(5), "VRRP track files"), which a node that is not ready must not.
const UNREADY_PRIORITY: RangeInclusive<i64> = 1..=253;

pub(super) fn settle(
    section: Option<&Spanned<file::Keepalived>>,
    check: &mut Check<'_>,
) -> KeepalivedSettings {
    let default = KeepalivedSettings::default();
    let Some(section) = section.map(Spanned::get_ref) else {
        return default;
    };
    let given = section.unready_priority.as_ref();
    let unready =
        given.and_then(|given| check.within("unready_priority", given, &UNREADY_PRIORITY));
    if let (Some(fifo), Some(track)) = (&section.notify_fifo, &section.track_file)
        && fifo.get_ref() == track.get_ref()
    {
        let message = "track_file and notify_fifo are one path: a file and a FIFO are two things";
        check
            .report
            .error_help(track.span(), message, "give each a path of its own");
    }
    KeepalivedSettings {
        notify_fifo: path("notify_fifo", &section.notify_fifo, check),
        track_file: path("track_file", &section.track_file, check),
        unready_priority: unready.map_or(default.unready_priority, |unready| {
            u8::try_from(unready).expect("the bounds are below 256")
        }),
    }
}

fn path(option: &str, given: &Given<String>, check: &mut Check<'_>) -> Option<PathBuf> {
    let given = given.as_ref()?;
    let path = given.get_ref();
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        let message = format!("{option}: {path:?} is not the absolute path of a file");
        let help = "best is the daemon's own directory, /run/ctsyncd";
        check.report.error_help(given.span(), message, help);
    }
    Some(PathBuf::from(path))
}
