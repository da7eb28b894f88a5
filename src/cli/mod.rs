//! The command line.
//!
//! `run` is the daemon; every other command asks it over the control socket, except `check-config`,
//! which asks nobody. Answers go to standard output, errors as one sentence to standard error, and
//! the exit code is one of [`Exit`], which scripts rely on.

use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{self, settings::Settings};
use crate::control::client::{Client, ClientError};
use crate::control::message::{FlushWhat, Request, ResyncWhat};
use crate::observe::log::Destination;

mod check_config;
mod commit;
mod dump;
mod history;
mod keygen;
mod notify;
mod outcome;
mod progress;
mod run;
mod stats;
mod status;
mod switchover;
mod text;

/// Where the configuration is, if nobody says.
pub const DEFAULT_CONFIG: &str = "/etc/ctsyncd/ctsyncd.toml";
/// Where the control socket is, if neither a person nor a configuration says.
pub const DEFAULT_SOCKET: &str = "/run/ctsyncd/control.sock";

/// How a command ended. Fixed: scripts rely on the numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// It is done.
    Done = 0,
    /// It was refused, or failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// No daemon at the socket.
    NoDaemon = 3,
}

/// Carries out what the process was called with.
pub fn main() -> ExitCode {
    // Not locked: `run` keeps it for as long as the daemon lives.
    let mut out = BufWriter::new(io::stdout());
    let colour = text::Colour::of(io::stdout().is_terminal());
    let exit = execute(std::env::args_os(), &mut out, colour);
    ExitCode::from(exit as u8)
}

/// Carries out a command line, program name first. Errors go to standard error.
fn execute(
    args: impl IntoIterator<Item = OsString>,
    out: &mut impl Write,
    colour: text::Colour,
) -> Exit {
    let outcome = match Invocation::try_parse_from(args) {
        Ok(invocation) => invocation.execute(out, colour),
        Err(error) if error.use_stderr() => {
            let rendered = error.render().to_string();
            let sentence = match rendered.strip_prefix("error: ") {
                Some(sentence) => sentence.to_owned(),
                // The help, because nothing else was asked for.
                None => format!("no command is given\n\n{rendered}"),
            };
            Err(CliError::Usage(sentence.trim_end().to_owned()))
        }
        // `--help` and `--version`.
        Err(error) => write!(out, "{}", error.render())
            .map(|()| Exit::Done)
            .map_err(CliError::Output),
    };
    let flushed = out.flush().map_err(CliError::Output);
    match outcome.and_then(|exit| flushed.map(|()| exit)) {
        Ok(exit) => exit,
        // Who asked has seen enough.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            complain(&error.to_string());
            error.exit()
        }
    }
}

/// Says on standard error what went wrong. When that is closed too, there is nobody to tell.
fn complain(sentence: &str) {
    let prefix = Destination::of_stderr().error_prefix();
    let text: String = format!("ctsyncd: {sentence}")
        .lines()
        .map(|line| format!("{prefix}{line}\n"))
        .collect();
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Keeps a copy of the kernel's connection-tracking table alive on the other nodes of a firewall
/// cluster, and puts it into the kernel at failover.
#[derive(Debug, Parser)]
#[command(
    name = "ctsyncd",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 no daemon at the \
                  socket."
)]
struct Invocation {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Which daemon is meant.
#[derive(Debug, Args)]
struct Place {
    /// Configuration; for a question to the daemon, only its socket's path is taken from it
    /// [default: /etc/ctsyncd/ctsyncd.toml]
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Control socket of the daemon [default: what the configuration says, or
    /// /run/ctsyncd/control.sock if there is none]
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    Run,
    /// Show role, readiness, peers and the last commit
    Status(status::StatusArgs),
    /// Put the replicas into the kernel; keep the role
    Commit(commit::CommitArgs),
    /// Become active: put the replicas into the kernel, then own the flows
    Promote(commit::PromoteArgs),
    /// Become standby
    Demote,
    /// Hand over to a peer that is ready, through keepalived's track file; lose nothing
    Switchover(switchover::SwitchoverArgs),
    /// Do what keepalived's notify line means: MASTER promotes, everything else demotes
    Notify(notify::NotifyArgs),
    /// Forget flows
    Flush {
        /// Which
        #[arg(value_enum)]
        what: FlushArg,
    },
    /// Start over with a source of truth
    Resync {
        /// With whom
        #[arg(value_enum)]
        what: ResyncArg,
    },
    /// List flows in the form of `conntrack -L`
    Dump(dump::DumpArgs),
    /// Show every promotion and demotion, and how long each took
    History(history::HistoryArgs),
    /// Show every counter
    Stats {
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Check the configuration and start nothing
    CheckConfig,
    /// Make a cluster key, which every node needs
    Keygen(keygen::KeygenArgs),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FlushArg {
    /// The local cache; it is filled again from the kernel
    Local,
    /// All replicas; the peers fill them again
    Replica,
    /// The flows of the local cache, in the kernel itself
    Kernel,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ResyncArg {
    /// The local cache with the kernel
    Kernel,
    /// The peers' replicas with the local cache
    Peers,
}

impl Invocation {
    fn execute(self, out: &mut impl Write, colour: text::Colour) -> Result<Exit, CliError> {
        let place = &self.place;
        match self.command {
            Command::Run => run::execute(place),
            Command::CheckConfig => check_config::execute(place, out),
            Command::Keygen(args) => keygen::execute(&args, out),
            Command::Status(args) => status::execute(args, &mut place.connect()?, out, colour),
            Command::Commit(args) => args.execute(place, out),
            Command::Promote(args) => args.execute(place, out),
            Command::Demote => outcome::execute("demote", &Request::Demote, false, place, out),
            Command::Switchover(args) => switchover::execute(&args, &mut place.connect()?, out),
            Command::History(args) => history::execute(&args, &mut place.connect()?, out),
            Command::Notify(args) => {
                outcome::execute("notify", &args.into_request(), false, place, out)
            }
            Command::Flush { what } => {
                let (name, what) = match what {
                    FlushArg::Local => ("flush local", FlushWhat::Local),
                    FlushArg::Replica => ("flush replica", FlushWhat::Replica),
                    FlushArg::Kernel => ("flush kernel", FlushWhat::Kernel),
                };
                outcome::execute(name, &Request::Flush { what }, false, place, out)
            }
            Command::Resync { what } => {
                let (name, what) = match what {
                    ResyncArg::Kernel => ("resync kernel", ResyncWhat::Kernel),
                    ResyncArg::Peers => ("resync peers", ResyncWhat::Peers),
                };
                outcome::execute(name, &Request::Resync { what }, false, place, out)
            }
            Command::Dump(args) => dump::execute(args, &mut place.connect()?, out),
            Command::Stats { json } => stats::execute(json, &mut place.connect()?, out),
        }
    }
}

impl Place {
    /// The configuration to read, whether it is there or not.
    fn config_file(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG))
    }

    fn settings(&self) -> Result<Settings, CliError> {
        config::load(self.config_file())
            .map_err(|diagnostics| CliError::Config(diagnostics.to_string()))
    }

    /// `--socket`, else what the configuration says, else the default if there is no configuration.
    fn socket(&self) -> Result<PathBuf, CliError> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        if self.config.is_none() && !self.config_file().exists() {
            return Ok(PathBuf::from(DEFAULT_SOCKET));
        }
        match self.settings() {
            Ok(settings) => Ok(settings.control.socket),
            // Whoever broke the file may need to know all the more how the daemon is.
            Err(CliError::Config(diagnostics)) => Err(CliError::Config(format!(
                "{}\n\n--socket PATH asks the daemon without it",
                diagnostics.trim_end()
            ))),
            Err(error) => Err(error),
        }
    }

    fn connect(&self) -> Result<Client, CliError> {
        Ok(Client::connect(&self.socket()?)?)
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// The command line is wrong; the text says how, and what would be right.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong: every error, with its place.
    #[error("the configuration cannot be used:\n{}", .0.trim_end())]
    Config(String),
    /// The daemon, or the way to it.
    #[error(transparent)]
    Client(ClientError),
    /// The answer cannot be read: the daemon is of another version.
    #[error("the daemon's answer is not understood, is it of another version? {0}")]
    Answer(#[source] serde_json::Error),
    /// The daemon could not start, or died.
    #[error("{0:#}")]
    Daemon(anyhow::Error),
    /// Standard output.
    #[error("cannot write the answer: {0}")]
    Output(#[source] io::Error),
}

impl CliError {
    fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Config(_) => Exit::Usage,
            Self::Client(ClientError::NoDaemon { .. }) => Exit::NoDaemon,
            Self::Client(_) | Self::Answer(_) | Self::Daemon(_) | Self::Output(_) => Exit::Failed,
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Output(error) => Self::Output(error),
            error => Self::Client(error),
        }
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        Invocation::command().debug_assert();
    }

    #[test]
    fn a_daemon_that_cannot_start_says_what_and_why_in_one_line() {
        let cause = anyhow::anyhow!("no such interface").context("cannot join 225.0.0.50 on eth2");
        let error = CliError::Daemon(cause);

        assert_eq!(
            error.to_string(),
            "cannot join 225.0.0.50 on eth2: no such interface"
        );
        assert_eq!(error.exit(), Exit::Failed);
    }
}
