//! A network namespace, and a socket that talks to its kernel.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use ctsyncd::ctnetlink::encode::{self, Ack};
use ctsyncd::ctnetlink::{
    MessageKind, decode_error, decode_listed, decode_listed_expectation, expectation, messages,
};
use ctsyncd::flow::{ExpectationEvent, Flow, FlowEvent, Rare};
use netlink_sys::{Socket, SocketAddr};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::HOW;

/// NAT is performed, and labels have room, only with rules that use them.
const RULES: &str = "table inet t {
    chain nat { type nat hook postrouting priority 100; }
    chain label { type filter hook output priority 0; ct label set 1; }
}";

/// A network namespace with rules, and a socket inside of it.
pub(crate) struct Kernel {
    name: String,
    socket: Option<Socket>,
    /// Port id of the socket.
    pub(crate) port_id: u32,
    seq: u32,
}

impl Kernel {
    /// `None`, and a line that names the test, without the right to make a namespace.
    pub(crate) fn start(test: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: {test} needs root for a network namespace");
            return None;
        }
        for tool in ["ip", "nft", "conntrack"] {
            let there = Command::new(tool)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if there.is_err() {
                eprintln!("skipped: {test} needs the command {tool}");
                return None;
            }
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut kernel = Self {
            name: format!("ctsyncd-nl-{}-{count}", std::process::id()),
            socket: None,
            port_id: 0,
            seq: 0,
        };
        let added = Command::new("ip")
            .args(["netns", "add", &kernel.name])
            .status();
        assert!(added.expect("ip runs").success(), "ip netns add");
        kernel.run("nft", &["-f", "-"], RULES);
        let socket = kernel.socket();
        let mut address = SocketAddr::new(0, 0);
        socket.get_address(&mut address).expect("a port id");
        kernel.port_id = address.port_number();
        kernel.socket = Some(socket);
        Some(kernel)
    }

    /// A netfilter socket of this namespace; the thread that made it is gone afterwards.
    pub(crate) fn socket(&self) -> Socket {
        let path = format!("/run/netns/{}", self.name);
        let made = std::thread::spawn(move || {
            let namespace = File::open(path).expect("the namespace is there");
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network)
                .expect("root may enter a namespace");
            Socket::new(netlink_sys::protocols::NETLINK_NETFILTER).expect("a netlink socket")
        });
        let mut socket: Socket = made.join().expect("the thread ends well");
        socket.bind_auto().expect("a port id");
        socket
    }

    /// Runs a command inside; its output.
    pub(crate) fn run(&self, command: &str, args: &[&str], input: &str) -> String {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.name, command])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ip runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("a pipe");
        drop(stdin);
        let output = child.wait_with_output().expect("the command ends");
        assert!(
            output.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("text")
    }

    /// Sends what `build` builds, with the next sequence number; the socket to read answers from.
    pub(crate) fn send(&mut self, build: impl FnOnce(&mut Vec<u8>, u32)) -> (&mut Socket, u32) {
        self.seq += 2; // room for a second message before it
        let mut out = Vec::new();
        build(&mut out, self.seq);
        let socket = self.socket.as_mut().expect("started");
        assert_eq!(socket.send(&out, 0).expect("sent"), out.len());
        (socket, self.seq)
    }

    /// Sends one message that wants an acknowledgement; the errno it got, 0 for success.
    pub(crate) fn ask(&mut self, build: impl FnOnce(&mut Vec<u8>, u32)) -> i32 {
        let (socket, seq) = self.send(build);
        let (datagram, _) = socket.recv_from_full().expect("an answer");
        let mut answers = messages(&datagram).map(|message| {
            let message = message.expect("whole messages");
            decode_error(&message).expect("an acknowledgement or a refusal")
        });
        let (answered, errno) = answers.next().expect("an answer");
        assert_eq!(answered, seq, "{errno}");
        errno
    }

    pub(crate) fn create(&mut self, flow: &Flow) -> i32 {
        let rare = Rare::default();
        self.ask(|out, seq| encode::create(out, seq, Ack::Wanted, flow, &rare, HOW))
    }

    /// Sends a GET; the flow, or why not.
    pub(crate) fn find(&mut self, build: impl FnOnce(&mut Vec<u8>, u32)) -> Result<FlowEvent, i32> {
        let (socket, _) = self.send(build);
        let (datagram, _) = socket.recv_from_full().expect("an answer");
        let message = messages(&datagram).next().expect("an answer");
        let message = message.expect("whole messages");
        if let Some((_, errno)) = decode_error(&message) {
            return Err(errno);
        }
        let mut event = FlowEvent::default();
        decode_listed(message.bytes, &mut event).expect("a flow");
        Ok(event)
    }

    /// The whole table.
    pub(crate) fn dump(&mut self) -> Vec<FlowEvent> {
        let (socket, _) = self.send(encode::dump);
        let mut listed = Vec::new();
        loop {
            let (datagram, _) = socket.recv_from_full().expect("an answer");
            for message in messages(&datagram) {
                let message = message.expect("whole messages");
                if message.kind == MessageKind::Done {
                    assert_eq!(decode_error(&message), None);
                    return listed;
                }
                let mut event = FlowEvent::default();
                decode_listed(message.bytes, &mut event).expect("a flow");
                listed.push(event);
            }
        }
    }
}

impl Kernel {
    /// All expectations.
    pub(crate) fn dump_expectations(&mut self) -> Vec<ExpectationEvent> {
        let (socket, _) = self.send(expectation::dump);
        let mut listed = Vec::new();
        loop {
            let (datagram, _) = socket.recv_from_full().expect("an answer");
            for message in messages(&datagram) {
                let message = message.expect("whole messages");
                if message.kind == MessageKind::Done {
                    return listed;
                }
                let mut event = ExpectationEvent::default();
                decode_listed_expectation(message.bytes, &mut event).expect("an expectation");
                listed.push(event);
            }
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // Nothing can be done about a failure, and a panic here would hide the test's own.
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}
