//! The moment in which a kernel's table reaches a size: seen from outside, the same for whoever
//! fills it.

use std::fs;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Result;
use super::namespace::Namespace;

/// How often the kernel is asked; the answer is one number in one file.
const EVERY: Duration = Duration::from_millis(1);

/// A thread that watches; drop ends it.
#[derive(Debug)]
pub(crate) struct Watch {
    reached: Arc<OnceLock<Instant>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Watch {
    /// Watches for the first moment with `flows` entries in a namespace.
    pub(crate) fn start(namespace: &Namespace, flows: u64) -> Result<Self> {
        let reached = Arc::new(OnceLock::new());
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (reached, stop) = (Arc::clone(&reached), Arc::clone(&stop));
            namespace.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let text = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")?;
                    if text.trim().parse::<u64>()? >= flows {
                        // Only this thread sets it.
                        let _ = reached.set(Instant::now());
                        break;
                    }
                    thread::sleep(EVERY);
                }
                Ok(())
            })?
        };
        Ok(Self {
            reached,
            stop,
            thread: Some(thread),
        })
    }

    /// When it was.
    pub(crate) fn reached(&self) -> Option<Instant> {
        self.reached.get().copied()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A watch that failed has seen nothing, and says so by that.
            let _ = thread.join();
        }
    }
}
