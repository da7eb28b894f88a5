//! The command line, as people and scripts meet it: the binary itself, with and without a daemon.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use ctsyncd::control::message::{DumpFormat, DumpTable, FlushWhat, Request, Response, ResyncWhat};
use ctsyncd::control::server::{Call, ControlServer};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

const GOOD_CONFIG: &str = r#"
[node]
name = "fw1"
[control]
socket = "SOCKET"
[security]
insecure = true
[[link]]
interface = "eth2"
multicast = "225.0.0.50:3780"
"#;

#[test]
fn bad_usage_exits_with_2_and_says_what_would_be_right() {
    for (args, expected) in [
        (&[][..], "ctsyncd: no command is given\n\n"),
        (&[], "Usage: ctsyncd"),
        (&["comit"], "a similar subcommand exists: 'commit'"),
        (&["flush"], "<WHAT>"),
        (
            &["flush", "all"],
            "[possible values: local, replica, kernel]",
        ),
        (&["resync", "local"], "[possible values: kernel, peers]"),
        (&["dump"], "<TABLE>"),
        (&["status", "--jsn"], "a similar argument exists: '--json'"),
        (&["notify", "INSTANCE", "VI_1"], "<STATE>"),
        (
            &["commit", "--socket"],
            "a value is required for '--socket <PATH>'",
        ),
    ] {
        let output = ctsyncd(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let complaint = stderr(&output);
        assert!(complaint.starts_with("ctsyncd: "), "{complaint}");
        assert!(complaint.contains(expected), "{complaint}");
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn help_and_version_are_answers() {
    let help = ctsyncd(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for command in [
        "run",
        "status",
        "commit",
        "promote",
        "notify",
        "check-config",
        "keygen",
    ] {
        assert!(stdout(&help).contains(command), "{command}");
    }
    let version = ctsyncd(&["--version"]);
    assert_eq!(
        stdout(&version),
        concat!("ctsyncd ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn without_a_daemon_every_command_exits_with_3_and_names_the_socket() {
    let place = Place::new();
    let socket = place.socket().display().to_string();
    for args in [
        &["status"][..],
        &["status", "--check"],
        &["commit"],
        &["promote"],
        &["demote"],
        &["notify", "INSTANCE", "VI_1", "MASTER", "100"],
        &["flush", "local"],
        &["resync", "peers"],
        &["dump", "local"],
        &["stats"],
    ] {
        let output = ctsyncd(&[&["--socket", &socket], args].concat());
        assert_eq!(output.status.code(), Some(3), "{args:?}");
        let complaint = stderr(&output);
        assert!(
            complaint.starts_with("ctsyncd: no daemon answers on "),
            "{complaint}"
        );
        assert!(complaint.contains(&socket), "{complaint}");
        assert_eq!(complaint.lines().count(), 1);
    }
}

#[test]
fn the_socket_comes_from_the_configuration_before_or_after_the_command() {
    let place = Place::new();
    let config = place.config(GOOD_CONFIG);
    let socket = place.socket().display().to_string();
    for args in [["-c", &config, "status"], ["status", "-c", &config]] {
        let output = ctsyncd(&args);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(stderr(&output).contains(&socket), "{output:?}");
    }
    let elsewhere = place.0.join("elsewhere.sock").display().to_string();
    let output = ctsyncd(&["-c", &config, "status", "--socket", &elsewhere]);
    assert!(stderr(&output).contains(&elsewhere), "{output:?}");
}

#[test]
fn a_good_configuration_is_ok_and_summed_up() {
    let place = Place::new();
    let config = place.config(GOOD_CONFIG);
    let output = ctsyncd(&["check-config", "-c", &config]);

    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        stdout(&output),
        format!(
            "{config}: OK\n\
             node    fw1\n\
             socket  {}\n\
             link    eth2 multicast 225.0.0.50:3780\n\
             INSECURE: whoever reaches a link can read and write flows; keep it off shared \
             networks\n",
            place.socket().display()
        )
    );
}

#[test]
fn a_bad_configuration_exits_with_2_with_every_error_and_nothing_starts() {
    let place = Place::new();
    let bad = GOOD_CONFIG
        .replace("multicast =", "multcast =")
        .replace("name = \"fw1\"", "name = \"\"");
    let config = place.config(&bad);
    for command in ["check-config", "run", "status"] {
        let output = ctsyncd(&[command, "-c", &config]);
        assert_eq!(output.status.code(), Some(2), "{command}: {output:?}");
        let complaint = stderr(&output);
        assert!(
            complaint.starts_with("ctsyncd: the configuration cannot be used"),
            "{complaint}"
        );
        assert!(complaint.contains("multcast"), "{complaint}");
        assert!(
            complaint.contains("cannot be the name of a node"),
            "{complaint}"
        );
        assert_eq!(
            complaint.contains("--socket PATH asks"),
            command == "status"
        );
        assert!(!place.socket().exists());
    }
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let place = Place::new();
    let missing = place.0.join("missing.toml").display().to_string();
    for command in ["check-config", "run", "status"] {
        let output = ctsyncd(&[command, "-c", &missing]);
        assert_eq!(output.status.code(), Some(2), "{command}: {output:?}");
        assert!(stderr(&output).contains(&missing), "{output:?}");
    }
}

#[test]
fn status_is_text_json_and_a_check() {
    let daemon = Daemon::start(|request| match request {
        Request::Status => vec![Response::Done(standby(true))],
        _ => refused(),
    });

    let text = daemon.ctsyncd(&["status"]);
    assert_eq!(text.status.code(), Some(0), "{text:?}");
    assert!(
        stdout(&text).starts_with("fw2  standby, term 0, ready: it can take over now\nINSECURE:"),
        "{text:?}"
    );
    assert!(!stdout(&text).contains('\x1b'), "no colours into a pipe");

    let json = daemon.ctsyncd(&["status", "--json"]);
    let value: Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
    assert_eq!(value, standby(true));

    let check = daemon.ctsyncd(&["status", "--check"]);
    assert_eq!(check.status.code(), Some(0));
    assert_eq!(stdout(&check), "fw2: standby, ready\n");
}

#[test]
fn a_node_that_is_not_ready_fails_the_check_only() {
    let daemon = Daemon::start(|_| vec![Response::Done(standby(false))]);

    assert_eq!(daemon.ctsyncd(&["status"]).status.code(), Some(0));
    let check = daemon.ctsyncd(&["status", "--check"]);
    assert_eq!(check.status.code(), Some(1));
    assert_eq!(
        stdout(&check),
        "fw2: standby, not ready: no peer has been heard\n"
    );
    let json = daemon.ctsyncd(&["status", "--check", "--json"]);
    assert_eq!(json.status.code(), Some(1));
}

#[test]
fn commit_and_promote_say_how_many_of_each_outcome() {
    let daemon = Daemon::start(|request| match request {
        Request::Commit { .. } => vec![Response::Done(committed(480, json!([])))],
        Request::Promote => vec![Response::Done(
            json!({"role": "active", "term": 4, "commit": committed(480, json!([]))}),
        )],
        _ => refused(),
    });

    let line = "500 flows: 480 created, 15 already there, 5 replaced; 0 failed; 12 ms\n";
    let commit = daemon.ctsyncd(&["commit"]);
    assert_eq!(commit.status.code(), Some(0));
    assert_eq!(stdout(&commit), line);
    let promote = daemon.ctsyncd(&["promote"]);
    assert_eq!(promote.status.code(), Some(0));
    assert_eq!(stdout(&promote), format!("active, term 4\n{line}"));
}

#[test]
fn a_commit_that_leaves_flows_behind_has_failed() {
    let daemon = Daemon::start(|_| {
        let full = json!([{"reason": "the kernel's table is full", "flows": 3}]);
        vec![Response::Done(committed(477, full))]
    });

    let output = daemon.ctsyncd(&["commit"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).ends_with("  3 failed: the kernel's table is full\n"),
        "{output:?}"
    );
}

#[test]
fn a_refusal_exits_with_1_and_the_daemons_words() {
    let daemon = Daemon::start(|_| refused());
    for args in [
        &["commit"][..],
        &["status"],
        &["dump", "local"],
        &["flush", "kernel"],
    ] {
        let output = daemon.ctsyncd(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert_eq!(stderr(&output), "ctsyncd: not today\n");
    }
}

#[test]
fn a_listing_goes_through_line_by_line() {
    let daemon = Daemon::start(|request| match request {
        Request::Dump { format, .. } => {
            let mut answer: Vec<Response> = (0..1_000)
                .map(|number| match format {
                    DumpFormat::Text => Response::Line(format!("tcp 6 sport={number}")),
                    DumpFormat::Json => Response::Line(format!("{{\"sport\":{number}}}")),
                })
                .collect();
            answer.push(Response::Done(Value::Null));
            answer
        }
        _ => refused(),
    });

    let text = daemon.ctsyncd(&["dump", "replica"]);
    assert_eq!(text.status.code(), Some(0));
    assert_eq!(stdout(&text).lines().count(), 1_000);
    assert_eq!(stdout(&text).lines().next(), Some("tcp 6 sport=0"));
    let json = daemon.ctsyncd(&["dump", "local", "--json"]);
    assert_eq!(stdout(&json).lines().last(), Some("{\"sport\":999}"));
    assert_eq!(
        daemon.asked(),
        [
            Request::Dump {
                table: DumpTable::Replica,
                format: DumpFormat::Text,
                expectations: false,
            },
            Request::Dump {
                table: DumpTable::Local,
                format: DumpFormat::Json,
                expectations: false,
            },
        ]
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let daemon = Daemon::start(|_| {
        let mut answer = vec![Response::Line("x".repeat(100)); 50_000];
        answer.push(Response::Done(Value::Null));
        answer
    });

    let mut child = daemon
        .command(&["dump", "local"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "");
}

#[test]
fn notify_takes_what_keepalived_passes_and_more() {
    let daemon = Daemon::start(|_| vec![Response::Done(json!({"role": "active", "term": 1}))]);
    let forms: [&[&str]; 6] = [
        &["INSTANCE", "VI_1", "MASTER", "100"],
        &["GROUP", "VG 1", "BACKUP", "50", "whatever", "comes"],
        &["INSTANCE", "VI_1", "FAULT"],
        &["instance", "VI_1", "stop", "0"],
        &["INSTANCE", "VI_1", "DELETED", "none"],
        &["INSTANCE", "VI_1", "MASTER", "65536"],
    ];
    for form in forms {
        let output = daemon.ctsyncd(&[&["notify"], form].concat());
        assert_eq!(output.status.code(), Some(0), "{form:?}: {output:?}");
        assert_eq!(stdout(&output), "active, term 1\n");
    }
    assert_eq!(
        daemon.asked(),
        [
            notified("INSTANCE", "VI_1", "MASTER", Some(100)),
            notified("GROUP", "VG 1", "BACKUP", Some(50)),
            notified("INSTANCE", "VI_1", "FAULT", None),
            notified("INSTANCE", "VI_1", "STOP", Some(0)),
            notified("INSTANCE", "VI_1", "DELETED", None),
            notified("INSTANCE", "VI_1", "MASTER", None),
        ]
    );
}

#[test]
fn flush_resync_demote_and_stats_ask_what_they_say() {
    let daemon = Daemon::start(|request| {
        vec![Response::Done(match request {
            Request::Flush { .. } => json!({"flows": 7}),
            Request::Stats => json!({"kernel": {"events": 12}}),
            _ => Value::Null,
        })]
    });
    for (args, expected) in [
        (&["flush", "local"][..], "flush local: 7 flows\n"),
        (&["flush", "replica"], "flush replica: 7 flows\n"),
        (&["flush", "kernel"], "flush kernel: 7 flows\n"),
        (&["resync", "kernel"], "resync kernel: done\n"),
        (&["resync", "peers"], "resync peers: done\n"),
        (&["demote"], "demote: done\n"),
        (&["stats"], "kernel.events  12\n"),
    ] {
        let output = daemon.ctsyncd(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(stdout(&output), expected);
    }
    assert_eq!(
        daemon.asked(),
        [
            Request::Flush {
                what: FlushWhat::Local
            },
            Request::Flush {
                what: FlushWhat::Replica
            },
            Request::Flush {
                what: FlushWhat::Kernel
            },
            Request::Resync {
                what: ResyncWhat::Kernel
            },
            Request::Resync {
                what: ResyncWhat::Peers
            },
            Request::Demote,
            Request::Stats,
        ]
    );
}

/// A pretend daemon, on a thread of its own, that answers each request by a rule and remembers what
/// it was asked.
struct Daemon {
    place: Place,
    asked: Arc<Mutex<Vec<Request>>>,
    /// Dropped at the end, which the thread takes as its end.
    _stop: oneshot::Sender<()>,
}

impl Daemon {
    fn start(rule: impl Fn(&Request) -> Vec<Response> + Send + 'static) -> Self {
        let place = Place::new();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = oneshot::channel();
        let (bound, wait) = std::sync::mpsc::channel();
        let (socket, heard) = (place.socket(), asked.clone());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let server = ControlServer::bind(&socket).expect("bind");
                bound.send(()).expect("the test waits");
                let (calls_in, calls) = mpsc::channel(4);
                tokio::select! {
                    () = server.serve(calls_in) => {}
                    () = answer(calls, rule, &heard) => {}
                    _ = stopped => {}
                }
            });
        });
        wait.recv().expect("the daemon starts");
        Self {
            place,
            asked,
            _stop: stop,
        }
    }

    fn asked(&self) -> Vec<Request> {
        self.asked.lock().expect("nobody panicked").clone()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ctsyncd"));
        command.args(args).arg("--socket").arg(self.place.socket());
        command
    }

    fn ctsyncd(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("it starts")
    }
}

async fn answer(
    mut calls: mpsc::Receiver<Call>,
    rule: impl Fn(&Request) -> Vec<Response>,
    heard: &Mutex<Vec<Request>>,
) {
    while let Some(call) = calls.recv().await {
        let answer = rule(&call.request);
        heard.lock().expect("nobody panicked").push(call.request);
        for response in answer {
            if call.reply.send(response).await.is_err() {
                break;
            }
        }
    }
}

fn ctsyncd(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ctsyncd"))
        .args(args)
        .output()
        .expect("it starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn refused() -> Vec<Response> {
    vec![Response::Failed("not today".to_owned())]
}

fn notified(kind: &str, name: &str, state: &str, priority: Option<u16>) -> Request {
    Request::Notify {
        kind: kind.to_owned(),
        name: name.to_owned(),
        state: state.to_owned(),
        priority,
    }
}

fn committed(created: u64, failed: Value) -> Value {
    json!({
        "running": false, "elapsed_ms": 12, "total": 500, "created": created, "already": 15,
        "replaced": 5, "without_helper": 0, "failed": failed,
    })
}

/// A status with a field that this command line does not know, as a newer daemon may send.
fn standby(ready: bool) -> Value {
    json!({
        "version": 1, "node": "fw2", "role": "standby", "term": 0, "insecure": true,
        "ready": ready,
        "cause": if ready { Value::Null } else { json!("no peer has been heard") },
        "local": {"flows": 17, "tracked": 23, "tombstones": 0},
        "kernel": {"complete": true, "dirty": false, "events": 1, "echoes": 0, "overruns": 0,
                   "dumps": 1},
        "links": [], "peers": [], "commit": null, "from_the_future": 1,
    })
}

#[test]
fn keygen_makes_a_file_for_its_owner_only_and_never_overwrites_one() {
    let place = Place::new();
    let path = place.0.join("cluster.key");
    let file = path.display().to_string();
    let output = ctsyncd(&["keygen", &file]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        stdout(&output),
        format!("{file}: a new key; copy it to every node\n")
    );
    assert_eq!(mode(&path), 0o600);
    let key = std::fs::read_to_string(&path).expect("was written");
    assert_is_key(&key);

    let output = ctsyncd(&["keygen", &file]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        stderr(&output).contains(&format!("cannot write the key file {file}")),
        "{output:?}"
    );
    assert_eq!(std::fs::read_to_string(&path).expect("is there"), key);
}

#[test]
fn keygen_without_a_file_prints_a_key_each_time_another() {
    let keys = [(); 2].map(|()| {
        let output = ctsyncd(&["keygen"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_is_key(&stdout(&output));
        stdout(&output)
    });
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn nothing_runs_with_a_key_that_others_may_read_and_the_check_says_so() {
    let place = Place::new();
    let path = place.0.join("cluster.key");
    let file = path.display().to_string();
    let config =
        place.config(&GOOD_CONFIG.replace("insecure = true", &format!("key_file = {file:?}")));
    let check = || stdout(&ctsyncd(&["check-config", "-c", &config]));
    let run = || stderr(&ctsyncd(&["run", "-c", &config]));
    let lacking = format!("cannot read the key file {file}: No such file or directory");
    assert!(
        check().contains(&format!("key     not usable yet: {lacking}")),
        "{}",
        check()
    );
    assert!(run().contains(&lacking), "{}", run());

    ctsyncd(&["keygen", &file]);
    assert!(
        check().contains(&format!("key     {file}\n")),
        "{}",
        check()
    );
    set_mode(&path, 0o640);
    let open = format!("the key file {file} may be read by others (mode 0640)");
    assert!(check().contains(&open), "{}", check());
    assert!(run().contains(&open), "{}", run());
    assert_eq!(ctsyncd(&["run", "-c", &config]).status.code(), Some(1));
}

fn assert_is_key(line: &str) {
    let digits = line.strip_suffix('\n').expect("one line");
    assert_eq!(digits.len(), 64, "{line}");
    assert!(
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{line}"
    );
}

fn mode(path: &Path) -> u32 {
    let metadata = std::fs::metadata(path).expect("is there");
    metadata.permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("is ours");
}

/// A directory of its own; it goes with the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ctsyncd-cli-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("make the directory");
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    /// Writes a configuration whose socket is ours, and returns its path.
    fn config(&self, text: &str) -> String {
        let path: &Path = &self.0.join("ctsyncd.toml");
        let text = text.replace("SOCKET", &self.socket().display().to_string());
        std::fs::write(path, text).expect("write");
        path.display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
