//! A network namespace that goes away with its owner.
//!
//! Names are `ctl<pid>-<n>-<role>`: unique per run, and telling which process they belong to, so
//! that a later run can remove what a killed one left (and nothing else).

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Context as _, Result, ensure};

const PREFIX: &str = "ctl";
const FOLDER: &str = "ctsyncd-lab-";

/// A number for each laboratory of this process.
pub(crate) fn next_number() -> u32 {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// A named network namespace; drop ends what still runs in it and removes it.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates the namespace of `role` in laboratory `number`, with its loopback up.
    pub(crate) fn create(number: u32, role: &str) -> Result<Self> {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        let name = format!("{PREFIX}{}-{number}-{role}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Name, as `ip netns` knows it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// A command that runs inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .args(["--", program])
            .stdin(Stdio::null());
        command
    }

    /// Runs `ip ARGUMENTS` inside; several lines are several commands in one batch.
    pub(crate) fn ip(&self, lines: &str) -> Result<()> {
        run_with_input(self.command("ip").args(["-batch", "-"]), lines)?;
        Ok(())
    }

    /// Runs a program inside and yields what it wrote to stdout.
    pub(crate) fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(self.command(program).args(arguments))
    }

    /// Runs a program inside with `input`, and yields what it wrote to stdout.
    pub(crate) fn feed(&self, program: &str, arguments: &[&str], input: &str) -> Result<String> {
        run_with_input(self.command(program).args(arguments), input)
    }

    /// Starts a thread inside the namespace. The thread ends when `body` does; it never leaves.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let file = File::open(self.path()).context("opening the namespace")?;
        let handle = thread::Builder::new()
            .name(self.name.clone())
            .spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .context("entering the namespace")?;
                body()
            })?;
        Ok(handle)
    }

    /// Runs `body` inside and waits for it.
    pub(crate) fn with<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Ok(result) = self.spawn(body)?.join() else {
            anyhow::bail!("a thread in {} panicked", self.name);
        };
        result
    }

    /// Sets sysctls, as paths below `/proc/sys`.
    pub(crate) fn sysctl(&self, settings: &[(&'static str, &'static str)]) -> Result<()> {
        let settings = settings.to_vec();
        self.with(move || {
            for (key, value) in settings {
                fs::write(Path::new("/proc/sys").join(key), value)
                    .with_context(|| format!("setting {key} to {value}"))?;
            }
            Ok(())
        })
    }

    /// Number of conntrack entries.
    pub(crate) fn flow_count(&self) -> Result<u64> {
        self.with(|| {
            let text = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")?;
            Ok(text.trim().parse()?)
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// A folder for the files of one laboratory; drop removes it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Creates it, for root only.
    pub(crate) fn create(number: u32) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = std::env::temp_dir().join(format!("{FOLDER}{}-{number}", std::process::id()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("creating {}", path.display()))?;
        Ok(Self { path })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what runs of processes that are gone left behind.
fn sweep() {
    let gone = |name: &str, prefix: &str| {
        name.strip_prefix(prefix)
            .and_then(|rest| rest.split_once('-'))
            .and_then(|(pid, _)| pid.parse::<u32>().ok())
            .is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
    };
    for name in names_in("/run/netns") {
        if gone(&name, PREFIX) {
            remove(&name);
        }
    }
    let folder = std::env::temp_dir();
    for name in names_in(&folder) {
        if gone(&name, FOLDER) {
            let _ = fs::remove_dir_all(folder.join(name));
        }
    }
}

fn names_in(folder: impl AsRef<Path>) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

/// Ends what runs in a namespace of ours and removes it. Errors are of no use here: whoever drops
/// has nothing left to do about them.
fn remove(name: &str) {
    let output = Command::new("ip").args(["netns", "pids", name]).output();
    if let Ok(output) = output {
        for pid in String::from_utf8_lossy(&output.stdout).split_whitespace() {
            // A thread of ours that entered the namespace does not show here: only the process
            // that leads a thread group is listed, and ours stands elsewhere.
            let pid = pid.parse().ok().and_then(Pid::from_raw);
            if let Some(pid) = pid.filter(|pid| *pid != rustix::process::getpid()) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
    let _ = Command::new("ip")
        .args(["netns", "del", name])
        .stderr(Stdio::null())
        .status();
}

/// Runs a command to its end and yields its stdout.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {shown}"))?;
    check(&shown, &output)
}

fn run_with_input(command: &mut Command, input: &str) -> Result<String> {
    use std::io::Write as _;
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {shown}"))?;
    let mut stdin = child.stdin.take().context("the pipe was asked for")?;
    // None of the programs fed here answers before it has read everything.
    let written = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    let text = check(&shown, &output)?;
    written.with_context(|| format!("writing to {shown}"))?;
    Ok(text)
}

fn check(shown: &str, output: &std::process::Output) -> Result<String> {
    ensure!(
        output.status.success(),
        "{shown}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
