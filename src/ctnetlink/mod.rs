//! Netlink bytes to flows and back, and the numbers of the kernel's headers.
//!
//! ```text
//! datagram ──message──▶ messages ──decode──▶ FlowEvent
//!          ◀────────── encode ◀── Flow, Rare
//! ```
//!
//! The codec is flat and allocates nothing per message; what is not hot (the dump request, errors
//! and the end of a dump) uses the types of `netlink-packet-netfilter` and `netlink-packet-core`.
//! Read include/uapi/linux/netfilter/nfnetlink_conntrack.h and net/netfilter/nf_conntrack_netlink.c
//! of the kernel before a change here.

pub mod attr;
pub mod cta;
pub mod decode;
pub mod encode;
pub mod event_filter;
pub mod expectation;
pub mod host;
pub mod message;
pub mod request;

pub use decode::{decode_event, decode_listed};
pub use expectation::{decode_expectation_event, decode_listed_expectation};
pub use message::{DecodeError, Message, MessageKind, decode_error, messages};
