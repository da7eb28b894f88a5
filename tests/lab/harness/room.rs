//! Room for many flows: the kernel's limit, which is one for the whole machine.

use std::fs;

use super::{Context as _, Result};

/// The kernel's limit of flows, which all namespaces share, raised while this lives. A run that is
/// killed leaves it raised.
#[derive(Debug)]
pub(crate) struct Room {
    before: Option<u64>,
}

/// The file of the limit; only the first network namespace may write it.
const LIMIT: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

impl Room {
    /// Makes room for `flows` in each namespace.
    pub(crate) fn make(flows: u64) -> Result<Self> {
        let now: u64 = fs::read_to_string(LIMIT)?.trim().parse()?;
        if now >= flows {
            return Ok(Self { before: None });
        }
        fs::write(LIMIT, flows.to_string()).with_context(|| {
            format!("net.netfilter.nf_conntrack_max is {now} and cannot be raised to {flows}")
        })?;
        Ok(Self { before: Some(now) })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            let _ = fs::write(LIMIT, before.to_string());
        }
    }
}
