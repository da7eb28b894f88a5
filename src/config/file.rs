//! The file as written. Every option is optional here and knows where it stands; what has to be
//! there, what goes together and what the numbers may be is for `settle`.
//!
//! No `tag`, `flatten` or `untagged`: each of them loses the place of an error.

use serde::Deserialize;
use toml::Spanned;

use super::units::{Period, Size};

/// An option that may be given.
pub(super) type Given<T> = Option<Spanned<T>>;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) node: Given<Node>,
    pub(super) control: Given<Control>,
    pub(super) security: Given<SecuritySection>,
    #[serde(default)]
    pub(super) link: Vec<Spanned<Link>>,
    pub(super) replicate: Given<Replicate>,
    pub(super) standby: Given<Standby>,
    pub(super) kernel: Given<Kernel>,
    pub(super) cache: Given<Cache>,
    pub(super) commit: Given<Commit>,
    pub(super) keepalived: Given<Keepalived>,
    pub(super) gate: Given<Gate>,
    pub(super) log: Given<Log>,
}

/// `[node]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub(super) name: Given<String>,
}

/// `[control]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Control {
    pub(super) socket: Given<String>,
}

/// `[security]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecuritySection {
    pub(super) key_file: Given<String>,
    pub(super) other_key_file: Given<String>,
    pub(super) insecure: Given<bool>,
}

/// `[[link]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Link {
    pub(super) interface: Given<String>,
    pub(super) multicast: Given<String>,
    pub(super) bind: Given<String>,
    pub(super) peers: Given<Vec<Spanned<String>>>,
    pub(super) receive_buffer: Given<Size>,
    pub(super) send_buffer: Given<Size>,
}

/// `[replicate]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replicate {
    pub(super) all: Given<bool>,
    pub(super) protocols: Given<Vec<Spanned<String>>>,
    pub(super) networks: Given<Vec<Spanned<String>>>,
    pub(super) ignore: Given<Vec<Spanned<String>>>,
    pub(super) zones: Given<Vec<Spanned<i64>>>,
    pub(super) marks: Given<Vec<Spanned<String>>>,
    pub(super) tcp_states: Given<Vec<Spanned<String>>>,
    pub(super) assured: Given<bool>,
    pub(super) min_age: Given<Period>,
    pub(super) own: Given<bool>,
}

/// `[standby]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Standby {
    pub(super) mode: Given<String>,
}

/// `[kernel]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kernel {
    pub(super) event_buffer: Given<Size>,
    pub(super) scrub_interval: Given<Period>,
    pub(super) set_events_sysctl: Given<bool>,
}

/// `[cache]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cache {
    pub(super) flows_max: Given<i64>,
    pub(super) tombstones_max: Given<i64>,
}

/// `[commit]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Commit {
    pub(super) grace: Given<Period>,
    pub(super) tcp_liberal: Given<bool>,
}

/// `[keepalived]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keepalived {
    pub(super) notify_fifo: Given<String>,
    pub(super) track_file: Given<String>,
    pub(super) unready_priority: Given<i64>,
}

/// `[gate]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gate {
    pub(super) interfaces: Given<Vec<Spanned<String>>>,
    pub(super) allow: Given<Vec<Spanned<String>>>,
    pub(super) timeout: Given<Period>,
    pub(super) open_after: Given<Period>,
}

/// `[log]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) level: Given<String>,
    pub(super) format: Given<String>,
}
