//! The thread `host`: how full the kernel's table is, and what the rules make of flows.

use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tracing::debug;

use super::KernelError;
use super::ruleset::Ruleset;
use super::sysctl;
use crate::ctnetlink::host::{Host, Room, Rules};

const THREAD: &str = "host";

/// How often the kernel is looked at: two small files and one question of netlink.
const INTERVAL: Duration = Duration::from_secs(1);

/// The running watch. The thread ends within a second of the last receiver.
#[derive(Debug)]
pub struct HostWatch {
    current: watch::Receiver<Host>,
}

impl HostWatch {
    /// Looks once, then every second in a thread.
    ///
    /// # Errors
    ///
    /// When netlink cannot be used or the thread cannot be started. What cannot be read is not
    /// known, and no error.
    pub fn spawn() -> Result<Self, KernelError> {
        let mut ruleset = Ruleset::open()?;
        let (told, current) = watch::channel(look(&mut ruleset));
        thread::Builder::new()
            .name(THREAD.into())
            .spawn(move || {
                while !told.is_closed() {
                    thread::sleep(INTERVAL);
                    told.send_replace(look(&mut ruleset));
                }
            })
            .map_err(|source| KernelError::Thread {
                name: THREAD,
                source,
            })?;
        Ok(Self { current })
    }

    /// The newest look.
    #[must_use]
    pub fn host(&self) -> watch::Receiver<Host> {
        self.current.clone()
    }
}

fn look(ruleset: &mut Ruleset) -> Host {
    let room = || {
        Ok::<_, sysctl::SysctlError>(Room {
            max: sysctl::conntrack_max()?,
            count: sysctl::conntrack_count()?,
        })
    };
    Host {
        room: room()
            .inspect_err(|error| debug!(%error, "how full the table is cannot be told"))
            .ok(),
        rules: ruleset.look().unwrap_or_else(|error| {
            debug!(%error, "the rules cannot be told");
            Rules::default()
        }),
    }
}
