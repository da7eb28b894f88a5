//! A program that runs in the background, ends with its owner, and whose lines are kept with the
//! moment they came.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{Context as _, Result, wait};

/// Lines kept per program; older ones are forgotten.
const LINES_MAX: usize = 4096;
/// Lines shown of a program when its owner panics or a wait has failed.
const LINES_SHOWN: usize = 30;
/// How long a program may take to end when asked before it is killed.
const PATIENCE: Duration = Duration::from_secs(3);

/// One line of output.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// When it came.
    pub(crate) at: Instant,
    /// Without the line feed.
    pub(crate) text: String,
}

/// A running program.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    lines: Arc<Mutex<VecDeque<Line>>>,
}

impl Process {
    /// Starts `command` under a name for messages, in a process group of its own: a Ctrl-C at the
    /// terminal is for us, and we end it.
    pub(crate) fn start(name: &str, command: &mut Command) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(stdout) = child.stdout.take() {
            collect(stdout, Arc::clone(&lines))?;
        }
        if let Some(stderr) = child.stderr.take() {
            collect(stderr, Arc::clone(&lines))?;
        }
        Ok(Self {
            name: name.to_owned(),
            child,
            lines,
        })
    }

    /// Process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The lines so far.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }

    /// The first line since `since` that contains `text`.
    pub(crate) fn find(&self, text: &str, since: Instant) -> Option<Line> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines
            .iter()
            .find(|line| line.at >= since && line.text.contains(text))
            .cloned()
    }

    /// True if a line so far contains `text`.
    pub(crate) fn has_said(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line.text.contains(text))
    }

    /// The last lines it wrote, for an error message.
    pub(crate) fn text(&self) -> String {
        let lines = self.lines();
        let skip = lines.len().saturating_sub(LINES_SHOWN);
        let shown: Vec<_> = lines[skip..].iter().map(|line| &*line.text).collect();
        shown.join("\n")
    }

    /// Its exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Kills it as a crash would, and waits for its end.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn stop(&mut self) {
        let Ok(None) = self.child.try_wait() else {
            return;
        };
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() || wait::has_failed() {
            use std::io::Write as _;
            let _ = writeln!(
                std::io::stderr(),
                "--- the last lines of {}:\n{}\n---",
                self.name,
                self.text()
            );
        }
        self.stop();
    }
}

/// Reads lines until the other end is closed. The thread is not joined: a grandchild may hold the
/// pipe for longer than anybody cares.
fn collect(pipe: impl Read + Send + 'static, lines: Arc<Mutex<VecDeque<Line>>>) -> Result<()> {
    thread::Builder::new()
        .name("lines".to_owned())
        .spawn(move || {
            for text in BufReader::new(pipe).lines() {
                let Ok(text) = text else { return };
                let line = Line {
                    at: Instant::now(),
                    text,
                };
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                if lines.len() == LINES_MAX {
                    lines.pop_front();
                }
                lines.push_back(line);
            }
        })?;
    Ok(())
}
