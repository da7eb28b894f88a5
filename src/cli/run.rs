//! `run`: the daemon in the foreground.

use super::{CliError, Exit, Place};
use crate::{daemon, observe::log};

pub(super) fn execute(place: &Place) -> Result<Exit, CliError> {
    let mut settings = place.settings()?;
    if let Some(socket) = &place.socket {
        settings.control.socket.clone_from(socket);
    }
    log::init(settings.log).map_err(CliError::Daemon)?;
    daemon::run(settings).map_err(CliError::Daemon)?;
    Ok(Exit::Done)
}
