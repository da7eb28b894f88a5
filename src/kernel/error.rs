//! What the system may refuse, with the object and the mend in the words of an operator.

use std::io;

/// A netlink socket or thread could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// `socket` or `bind` failed.
    #[error("cannot open the netlink socket for {purpose}")]
    Open {
        /// What the socket is for.
        purpose: &'static str,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// Joining needs the capability.
    #[error(
        "cannot join the conntrack event groups: CAP_NET_ADMIN is missing; run as root or give \
         the unit AmbientCapabilities=CAP_NET_ADMIN"
    )]
    JoinDenied,
    /// Joining failed for another reason.
    #[error(
        "cannot join conntrack event group {group}; is the module nf_conntrack_netlink available? \
         (modprobe nf_conntrack_netlink)"
    )]
    Join {
        /// `NFNLGRP_*`.
        group: u32,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// A socket option was refused.
    #[error("cannot set {option} on the netlink socket for {purpose}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What the socket is for.
        purpose: &'static str,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start the thread {name}")]
    Thread {
        /// Its name.
        name: &'static str,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// An rtnetlink request failed.
    #[error("cannot list {what} over rtnetlink")]
    Route {
        /// What was asked for.
        what: &'static str,
        /// The kernel's word.
        #[source]
        source: io::Error,
    },
}
