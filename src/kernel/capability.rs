//! The one capability that the daemon needs.

use std::io;

use rustix::thread::{CapabilitySet, capabilities};

/// `CAP_NET_ADMIN` is not there, or nobody can tell.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    /// Not effective.
    #[error(
        "CAP_NET_ADMIN is missing: without it the kernel neither tells conntrack events nor takes \
         flows; run as root or give the unit AmbientCapabilities=CAP_NET_ADMIN"
    )]
    NetAdminMissing,
    /// `capget` failed.
    #[error("cannot read this process's capabilities")]
    Unknown(#[source] io::Error),
}

/// Checks that `CAP_NET_ADMIN` is effective in the calling thread.
///
/// # Errors
///
/// When it is not, or when the kernel does not tell.
pub fn require_net_admin() -> Result<(), CapabilityError> {
    let sets = capabilities(None).map_err(|errno| CapabilityError::Unknown(errno.into()))?;
    judge(sets.effective)
}

fn judge(effective: CapabilitySet) -> Result<(), CapabilityError> {
    if effective.contains(CapabilitySet::NET_ADMIN) {
        Ok(())
    } else {
        Err(CapabilityError::NetAdminMissing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capability_is_named_with_its_mend() {
        let error = judge(CapabilitySet::all() - CapabilitySet::NET_ADMIN).expect_err("refused");

        let text = error.to_string();
        assert!(text.contains("CAP_NET_ADMIN is missing"), "{text}");
        assert!(text.contains("AmbientCapabilities=CAP_NET_ADMIN"), "{text}");
    }

    #[test]
    fn the_capability_alone_is_enough() {
        assert!(judge(CapabilitySet::NET_ADMIN).is_ok());
    }

    #[test]
    fn the_calling_thread_is_what_is_judged() {
        let effective = capabilities(None).expect("capget works").effective;

        assert_eq!(
            require_net_admin().is_ok(),
            effective.contains(CapabilitySet::NET_ADMIN)
        );
    }
}
