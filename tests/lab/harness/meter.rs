//! What a program costs: CPU, memory, and bytes on the sync segment.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::topology::Node;
use super::{Context as _, Result};

/// CPU that a process has used so far, user and system, in all its threads: the sum of what the
/// scheduler counted for each (the first number of `/proc/PID/task/*/schedstat`, ns). A thread that
/// ended takes its count along, hence no process that is measured may end one meanwhile.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let threads = cpu_by_thread(pid)?;
    Ok(threads.values().map(|(_, used)| *used).sum())
}

/// The same by thread, with the thread's name.
pub(crate) fn cpu_by_thread(pid: u32) -> Result<BTreeMap<u32, (String, Duration)>> {
    let mut threads = BTreeMap::new();
    let tasks = format!("/proc/{pid}/task");
    for entry in fs::read_dir(&tasks).with_context(|| format!("reading {tasks}"))? {
        let path = entry?.path();
        let id = path.file_name().and_then(|name| name.to_str());
        let id: u32 = id.context("a thread's number")?.parse()?;
        let name = fs::read_to_string(path.join("comm"))?;
        let used = schedstat(&fs::read_to_string(path.join("schedstat"))?)?;
        threads.insert(id, (name.trim().to_owned(), used));
    }
    Ok(threads)
}

/// CPU that the calling thread has used so far.
pub(crate) fn cpu_of_this_thread() -> Result<Duration> {
    schedstat(&fs::read_to_string("/proc/thread-self/schedstat")?)
}

/// proc(5), `/proc/PID/schedstat`: time on the CPU in ns, time waiting in ns, timeslices.
fn schedstat(text: &str) -> Result<Duration> {
    let first = text.split_whitespace().next().context("schedstat")?;
    Ok(Duration::from_nanos(first.parse()?))
}

/// Resident memory of a process, bytes.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: u64 = kib.context("VmRSS in kB")?.trim().parse()?;
    Ok(kib * 1024)
}

/// Bytes that a node's interface to the sync segment has received and sent, with all headers from
/// Ethernet's on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct WireBytes {
    /// From the other nodes.
    pub(crate) received: u64,
    /// To the other nodes.
    pub(crate) sent: u64,
}

impl WireBytes {
    /// Reads the counters of `eth2`.
    pub(crate) fn of(node: &Node) -> Result<Self> {
        let text = node
            .namespace()
            .with(|| Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("eth2:"))
            .context("eth2 in /proc/net/dev")?;
        // proc(5): bytes received come first, bytes sent ninth.
        let numbers: Vec<u64> = line
            .split_whitespace()
            .map(str::parse)
            .collect::<std::result::Result<_, _>>()?;
        let number = |at: usize| numbers.get(at).copied().context("16 numbers");
        Ok(Self {
            received: number(0)?,
            sent: number(8)?,
        })
    }

    /// Both directions.
    pub(crate) fn both(self) -> u64 {
        self.received + self.sent
    }
}
