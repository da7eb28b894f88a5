//! The process around the engine: start order, driver loop, signals, systemd.

pub mod systemd;

use crate::config::settings::Settings;

/// Runs the daemon until it is told to stop.
///
/// # Errors
///
/// When a part cannot start: what, on which object, and how to mend it.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    drop(settings);
    anyhow::bail!("the daemon is not there yet")
}
