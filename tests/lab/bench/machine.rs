//! What it was measured on: no figure means anything without it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

/// The machine and the programs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// `uname -r`.
    kernel: String,
    /// As /proc/cpuinfo calls the first one.
    cpu: String,
    /// That this process may run on.
    cores: usize,
    /// MemTotal, MiB.
    memory_mib: u64,
    /// Buckets of the kernel's table, which all namespaces share.
    hash_buckets: u64,
    ctsyncd: String,
    conntrackd: String,
    /// Load average at the start: what else the machine did.
    loadavg: String,
}

impl Machine {
    /// Looks; what cannot be seen is empty or 0.
    pub(crate) fn look(binary: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let memory_kib: u64 = (memory.split(' ').next())
            .and_then(|word| word.parse().ok())
            .unwrap_or(0);
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory_kib / 1024,
            hash_buckets: read("/proc/sys/net/netfilter/nf_conntrack_buckets")
                .trim()
                .parse()
                .unwrap_or(0),
            ctsyncd: first_line(Command::new(binary).arg("--version")),
            conntrackd: first_line(Command::new("conntrackd").arg("-v")),
            loadavg: read("/proc/loadavg").trim().to_owned(),
        }
    }

    /// In two lines, for the head of the run.
    pub(crate) fn words(&self) -> String {
        format!(
            "Linux {}, {} cores of {}, {} MiB, {} buckets, load {}\n{}; {}",
            self.kernel,
            self.cores,
            self.cpu,
            self.memory_mib,
            self.hash_buckets,
            self.loadavg,
            self.ctsyncd,
            self.conntrackd
        )
    }
}

fn first_line(command: &mut Command) -> String {
    let output = command.output();
    let text = output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    );
    text.lines().next().unwrap_or_default().to_owned()
}
