//! Network namespaces that go away with the test.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A namespace with its loopback up.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ctio-{}-{number}", std::process::id());
        ip(&["netns", "add", &name]);
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in it.
    pub(crate) fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.name], arguments].concat());
    }

    /// Returns when the interface is operational.
    pub(crate) fn await_link_up(&self, interface: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let arguments = ["-n", &self.name, "-br", "link", "show", interface, "up"];
        while Instant::now() < deadline {
            let shown = Command::new("ip").args(arguments).output();
            let shown = shown.expect("ip can be started").stdout;
            if String::from_utf8_lossy(&shown).split_whitespace().nth(1) == Some("UP") {
                return;
            }
        }
        panic!("{interface} does not come up");
    }

    /// Moves the calling thread into it; the sockets that it opens stay there.
    pub(crate) fn enter(&self) {
        let file = File::open(format!("/run/netns/{}", self.name)).expect("the namespace exists");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may enter it");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _gone = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status();
    assert!(
        status.expect("ip can be started").success(),
        "ip {} failed",
        arguments.join(" ")
    );
}

/// Runs a test in a thread that may change its namespace, if this process is root.
pub(crate) fn as_root(test: &str, body: impl FnOnce() + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("{test}: skipped, needs root");
        return;
    }
    if let Err(panic) = thread::spawn(body).join() {
        std::panic::resume_unwind(panic);
    }
}

/// A runtime on the calling thread, and the test in it.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}
