//! `keygen`: a new cluster key, to a file or to standard output.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::{CliError, Exit};
use crate::daemon::key;

/// Arguments of `keygen`.
#[derive(Args, Debug)]
pub(super) struct KeygenArgs {
    /// File to make, with mode 0600; without one the key goes to standard output
    file: Option<PathBuf>,
}

pub(super) fn execute(args: &KeygenArgs, out: &mut impl Write) -> Result<Exit, CliError> {
    match &args.file {
        Some(path) => {
            key::write_new(path).map_err(|error| CliError::Daemon(error.into()))?;
            writeln!(out, "{}: a new key; copy it to every node", path.display())?;
        }
        None => {
            let line = key::generate().map_err(|error| CliError::Daemon(error.into()))?;
            writeln!(out, "{line}")?;
        }
    }
    Ok(Exit::Done)
}
