//! What goes over the control socket: one JSON object per line, a request and then its responses.

use serde::{Deserialize, Serialize};

use super::lookup::FlowQuery;

/// A request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Role, readiness, peers: `engine::status::Status`.
    Status,
    /// Every counter: objects of numbers, nested at will.
    Stats,
    /// Put the replicas into the kernel. Yields `engine::status::CommitStatus`.
    Commit {
        /// Only those of the peers with these names; none: of all whose word counts.
        #[serde(default)]
        from: Vec<String>,
    },
    /// Say what a commit or a promotion would do now; nothing is changed. Yields
    /// `engine::status::Foreseen`.
    DryRun {
        /// As of a commit.
        #[serde(default)]
        from: Vec<String>,
    },
    /// Become active: commit, then own the flows. Yields `role`, `term` and `commit`, the last of
    /// them null if there was nothing to commit.
    Promote,
    /// Become standby. Yields `role` and `term`.
    Demote,
    /// What keepalived passes to a notify script. Yields what the promotion or demotion does.
    Notify {
        /// `INSTANCE` or `GROUP`.
        kind: String,
        /// Name of the instance or group.
        name: String,
        /// `MASTER`, `BACKUP`, `FAULT`, `STOP` or `DELETED`.
        state: String,
        /// Priority, if keepalived gave one.
        priority: Option<u16>,
    },
    /// Hand over to a peer through keepalived. Yields `engine::Switchover`.
    Switchover {
        /// How long it may take, in milliseconds.
        timeout_ms: u64,
    },
    /// The timeline. Yields `entries`, each an `engine::status::PastTransition`, oldest first, and
    /// `skipped`, how many could not be read.
    History,
    /// Forget flows. Yields `flows`, how many.
    Flush {
        /// Which.
        what: FlushWhat,
    },
    /// Start over with a source of truth. Yields `flows`, how many are held or on their way.
    Resync {
        /// Which.
        what: ResyncWhat,
    },
    /// Look one flow up, in the local cache and in the replica of each peer: one hash lookup for
    /// each, so it may be asked often. Yields a `lookup::Lookup`.
    Lookup {
        /// Which.
        flow: FlowQuery,
    },
    /// List flows: a `Response::Line` for each. Yields null.
    Dump {
        /// Which table.
        table: DumpTable,
        /// Form of the lines.
        format: DumpFormat,
        /// The expectations in place of the flows.
        #[serde(default)]
        expectations: bool,
    },
}

/// Longest piece of a client's own words that a refusal quotes, in characters.
const QUOTE_CHARS_MAX: usize = 300;

impl Request {
    /// Reads a client's line, without its newline.
    ///
    /// # Errors
    ///
    /// Why it is no request, in words for the client.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line)
            .map_err(|error| format!("not a request: {}", shortened(error.to_string())))
    }
}

/// Errors of the parser quote what they were given, which may be 64 KiB of it.
fn shortened(text: String) -> String {
    match text.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// What to flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlushWhat {
    /// The local cache; it is filled again from the kernel.
    Local,
    /// All replicas; the peers fill them again.
    Replica,
    /// The flows of the local cache, in the kernel.
    Kernel,
}

/// What to resync with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResyncWhat {
    /// The local cache with the kernel, by a dump.
    Kernel,
    /// The replicas on all peers with our local cache, by a full pass.
    Peers,
}

/// Which table to list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DumpTable {
    /// What our kernel tracks.
    Local,
    /// What the peers' kernels track.
    Replica,
}

/// Form of a listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DumpFormat {
    /// As `conntrack -L` prints it.
    Text,
    /// One JSON object per flow.
    Json,
}

/// One line of an answer: any number of `Line`, then one `Done` or `Failed`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// Part of a listing.
    Line(String),
    /// The request was carried out; this is what it yields.
    Done(serde_json::Value),
    /// The request was refused or failed, and why.
    Failed(String),
}
