//! `notify`: the arguments that keepalived passes to a notify script.

use clap::Args;

use crate::control::message::Request;

/// keepalived.conf(5), `notify`: `INSTANCE|GROUP`, the name, the state, and the priority if there
/// is one. What the state means is the daemon's decision.
#[derive(Debug, Args)]
pub(super) struct NotifyArgs {
    /// INSTANCE or GROUP
    #[arg(value_name = "TYPE")]
    kind: String,
    /// Name of the instance or group
    name: String,
    /// MASTER, BACKUP, FAULT, STOP or DELETED
    state: String,
    /// Priority
    priority: Option<String>,
    /// Whatever a later keepalived adds; ignored
    #[arg(hide = true)]
    extra: Vec<String>,
}

impl NotifyArgs {
    /// A priority that is no number is left out: it must not keep a failover from happening.
    pub(super) fn into_request(self) -> Request {
        Request::Notify {
            kind: self.kind.to_ascii_uppercase(),
            name: self.name,
            state: self.state.to_ascii_uppercase(),
            priority: self.priority.and_then(|priority| priority.parse().ok()),
        }
    }
}
