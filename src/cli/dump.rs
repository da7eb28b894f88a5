//! `dump`: a table, flow by flow, as it comes.

use std::io::Write;

use clap::{Args, ValueEnum};

use super::{CliError, Exit};
use crate::control::client::Client;
use crate::control::message::{DumpFormat, DumpTable, Request};

#[derive(Debug, Args)]
pub(super) struct DumpArgs {
    /// Which table
    #[arg(value_enum)]
    table: TableArg,
    /// One JSON object per flow and line
    #[arg(long)]
    json: bool,
    /// What helpers of these flows expect, as `conntrack -L expect` prints it, in place of the flows
    #[arg(long)]
    expectations: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TableArg {
    /// What this node's kernel tracks
    Local,
    /// What the peers' kernels track
    Replica,
}

pub(super) fn execute(
    args: DumpArgs,
    client: &mut Client,
    out: &mut impl Write,
) -> Result<Exit, CliError> {
    let request = Request::Dump {
        table: match args.table {
            TableArg::Local => DumpTable::Local,
            TableArg::Replica => DumpTable::Replica,
        },
        format: match args.json {
            true => DumpFormat::Json,
            false => DumpFormat::Text,
        },
        expectations: args.expectations,
    };
    client.call(&request, |line| writeln!(out, "{line}"))?;
    Ok(Exit::Done)
}
