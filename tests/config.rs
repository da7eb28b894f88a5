//! What a person reads when the configuration is wrong, and what the shipped file says.
//!
//! Each `tests/config/NAME.toml` is a configuration with something wrong in it and `NAME.err` the
//! exact text that must come of it. After a change that is meant, `BLESS=1 cargo test --test
//! config` writes the texts anew; read the difference before you commit it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use ctsyncd::config::settings::{
    Addressing, CacheSettings, CommitSettings, ControlSettings, GateSettings, KeepalivedSettings,
    KernelSettings, LinkSettings, LogFormat, LogLevel, LogSettings, NodeSettings, Security,
    Settings, StandbySettings,
};
use ctsyncd::config::{self, sections};
use ctsyncd::flow::filter::{Exclusion, Filters, LocalAddresses, MarkMatch, Networks, Policy};
use ctsyncd::flow::{Flow, Tuple};

#[test]
fn every_wrong_file_is_answered_with_exactly_its_text() {
    let bless = std::env::var_os("BLESS").is_some_and(|value| value == "1");
    let mut differing = Vec::new();
    let fixtures = fixtures();
    assert!(fixtures.len() >= 20, "only {} fixtures", fixtures.len());
    for fixture in fixtures {
        let text = fs::read_to_string(&fixture).expect("a fixture can be read");
        let name = fixture.file_name().expect("a fixture has a name");
        let found = match config::parse_on_host(&text, Path::new(name), || Some("host".into())) {
            Ok(settings) => panic!("{} is accepted: {settings:?}", fixture.display()),
            Err(diagnostics) => format!("{diagnostics}\n"),
        };
        let expected_path = fixture.with_extension("err");
        if bless {
            fs::write(&expected_path, &found).expect("a text can be written");
        }
        let expected = fs::read_to_string(&expected_path).unwrap_or_default();
        if found != expected {
            let path = expected_path.display();
            differing.push(format!(
                "{path}\n--- expected\n{expected}--- found\n{found}"
            ));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn a_link_and_the_word_insecure_are_enough() {
    let settings = parse(MINIMAL);
    assert_eq!(settings, minimal());
}

#[test]
fn the_shipped_file_is_the_defaults_sealed_and_an_example_of_a_link() {
    let settings = parse(&shipped());
    let expected = Settings {
        security: Security::Sealed {
            key_file: PathBuf::from("/etc/ctsyncd/cluster.key"),
            other_key_file: None,
        },
        ..minimal()
    };
    assert_eq!(settings, expected);
}

#[test]
fn the_shipped_file_shows_every_option_in_its_section() {
    let text = shipped();
    for section in sections() {
        let header = section.header();
        let below = text
            .split_once(&format!("\n{header}\n"))
            .unwrap_or_else(|| panic!("conf/ctsyncd.toml has no {header}"))
            .1;
        let body = below.split("\n[").next().expect("split yields one part");
        for option in section.options {
            let shown = body.lines().any(|line| {
                line.strip_prefix('#')
                    .unwrap_or(line)
                    .starts_with(&format!("{option} = "))
            });
            assert!(
                shown,
                "conf/ctsyncd.toml does not show {option} in {header}"
            );
        }
    }
}

#[test]
fn every_option_of_the_shipped_file_is_read_also_those_behind_a_hash() {
    let text = shipped();
    let hidden: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| line.split_once(" = ").is_some_and(|(key, _)| is_key(key)))
        .collect();
    // name, what may stand beside or in place of the key, the unicast form of a link, and the paths
    // that keepalived has to name too.
    assert_eq!(hidden.len(), 7, "{hidden:?}");
    for line in hidden {
        let (key, _) = line.split_once(" = ").expect("it was filtered by that");
        let whole = match key {
            "name" => format!("{MINIMAL}[node]\n{line}\n"),
            "bind" => format!(
                "{SECURITY}[[link]]\ninterface = \"e\"\npeers = [\"192.0.2.2:3780\"]\n{line}\n"
            ),
            "peers" => format!(
                "{SECURITY}[[link]]\ninterface = \"e\"\nbind = \"192.0.2.1:3780\"\n{line}\n"
            ),
            "other_key_file" => MINIMAL.replace(
                "insecure = true",
                &format!("key_file = \"/etc/fw.key\"\n{line}"),
            ),
            "insecure" => MINIMAL.replace("insecure = true", line),
            "notify_fifo" | "track_file" => format!("{MINIMAL}[keepalived]\n{line}\n"),
            other => panic!("no test for {other}"),
        };
        parse(&whole);
    }
}

#[test]
fn every_option_arrives_in_the_settings() {
    let settings = parse(
        r#"
[node]
name = "fw-1.example_net"
[control]
socket = "/tmp/c.sock"
[security]
key_file = "/etc/fw.key"
other_key_file = "/etc/fw-old.key"
insecure = false
[[link]]
interface = "eth2"
multicast = "[ff02::3780]:3780"
receive_buffer = "2MiB"
send_buffer = 131072
[[link]]
interface = "eth3"
bind = "192.0.2.1:3781"
peers = ["192.0.2.2:3781", "192.0.2.3:3781"]
[replicate]
all = false
protocols = ["tcp", "50"]
networks = ["10.0.0.0/8", "2001:db8::/32"]
ignore = ["10.1.0.0/16", "10.2.3.4"]
zones = [7, 0]
marks = ["0x10/0xf0", "7"]
tcp_states = ["established"]
assured = false
min_age = "1500ms"
own = true
[standby]
mode = "cold"
[kernel]
event_buffer = "64MiB"
scrub_interval = "5m"
set_events_sysctl = false
[cache]
flows_max = 2000
tombstones_max = 500
[commit]
grace = "90s"
tcp_liberal = false
[keepalived]
notify_fifo = "/run/k.fifo"
track_file = "/run/k.track"
unready_priority = 20
[gate]
interfaces = ["eth0", "eth1"]
allow = ["203.0.113.0/24", "2001:db8::7"]
timeout = "4s"
open_after = "1500ms"
[log]
level = "debug"
format = "json"
"#,
    );
    let v4 = |text: &str| text.parse().expect("a literal address");
    let v6 = |text: &str| text.parse().expect("a literal address");
    let expected = Settings {
        node: NodeSettings {
            name: "fw-1.example_net".to_owned(),
        },
        control: ControlSettings {
            socket: PathBuf::from("/tmp/c.sock"),
        },
        security: Security::Sealed {
            key_file: PathBuf::from("/etc/fw.key"),
            other_key_file: Some(PathBuf::from("/etc/fw-old.key")),
        },
        links: vec![
            LinkSettings {
                interface: "eth2".to_owned(),
                addressing: Addressing::Multicast {
                    group: address("[ff02::3780]:3780"),
                },
                receive_buffer_bytes: 2 << 20,
                send_buffer_bytes: 128 << 10,
            },
            LinkSettings {
                interface: "eth3".to_owned(),
                addressing: Addressing::Unicast {
                    bind: address("192.0.2.1:3781"),
                    peers: vec![address("192.0.2.2:3781"), address("192.0.2.3:3781")],
                },
                receive_buffer_bytes: LinkSettings::RECEIVE_BUFFER_BYTES,
                send_buffer_bytes: LinkSettings::SEND_BUFFER_BYTES,
            },
        ],
        kernel: KernelSettings {
            event_buffer_bytes: 64 << 20,
            scrub_interval: std::time::Duration::from_secs(300),
            set_events_sysctl: false,
        },
        cache: CacheSettings {
            flows_max: 2000,
            tombstones_max: 500,
        },
        policy: Policy::Filtered(Filters {
            protocols: Some([6, 50].into_iter().collect()),
            networks: Some(Networks::new(
                [(v4("10.0.0.0"), v4("10.255.255.255"))],
                [(
                    v6("2001:db8::"),
                    v6("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
                )],
            )),
            ignore: Networks::new(
                [
                    (v4("10.1.0.0"), v4("10.1.255.255")),
                    (v4("10.2.3.4"), v4("10.2.3.4")),
                ],
                [],
            ),
            zones: vec![0, 7],
            marks: vec![
                MarkMatch {
                    value: 0x10,
                    mask: 0xf0,
                },
                MarkMatch {
                    value: 7,
                    mask: u32::MAX,
                },
            ],
            tcp_states: [3].into_iter().collect(),
            assured: false,
            min_age_secs: 2,
            own: true,
        }),
        standby: StandbySettings { is_hot: false },
        commit: CommitSettings {
            grace: std::time::Duration::from_secs(90),
            tcp_liberal: false,
        },
        keepalived: KeepalivedSettings {
            notify_fifo: Some(PathBuf::from("/run/k.fifo")),
            track_file: Some(PathBuf::from("/run/k.track")),
            unready_priority: 20,
        },
        gate: Some(GateSettings {
            interfaces: vec!["eth0".into(), "eth1".into()],
            allow: vec![
                "203.0.113.0/24".parse().expect("a network"),
                "2001:db8::7/128".parse().expect("a network"),
            ],
            timeout: std::time::Duration::from_secs(4),
            open_after: std::time::Duration::from_millis(1500),
        }),
        log: LogSettings {
            level: LogLevel::Debug,
            format: LogFormat::Json,
        },
    };
    assert_eq!(settings, expected);
}

#[test]
fn all_means_no_policy() {
    let settings = parse(&format!("{MINIMAL}[replicate]\nall = true\n"));
    assert_eq!(settings.policy, Policy::Everything);
}

#[test]
fn an_ignored_network_of_the_file_is_ignored_by_the_policy() {
    let settings = parse(&format!(
        "{MINIMAL}[replicate]\nignore = [\"192.0.2.0/25\"]\n"
    ));
    let flow = |src: &str| Flow {
        orig: Tuple::new(6, ip(src), ip("198.51.100.1"), 1, 2),
        reply: Tuple::new(6, ip("198.51.100.1"), ip(src), 2, 1),
        ..Flow::default()
    };
    let ask = |src| {
        settings
            .policy
            .tracks(&flow(src), &LocalAddresses::default())
    };
    assert_eq!(
        ask("192.0.2.127"),
        Err(Exclusion::Ignored(ip("192.0.2.127")))
    );
    assert_eq!(ask("192.0.2.128"), Ok(()));
}

#[test]
fn without_a_name_the_host_gives_one() {
    let parse = |host: Option<&str>| {
        let host = host.map(str::to_owned);
        config::parse_on_host(MINIMAL, Path::new("f"), || host)
    };
    let named = parse(Some("fw7")).expect("a good name");
    assert_eq!(named.node.name, "fw7");
    assert!(parse(None).is_err());
    assert!(parse(Some("no name")).is_err());
    assert!(parse(Some(&"x".repeat(65))).is_err());
}

#[test]
fn the_room_for_tombstones_follows_a_small_cache() {
    let settings = parse(&format!("{MINIMAL}[cache]\nflows_max = 5000\n"));
    assert_eq!(settings.cache.tombstones_max, 5000);
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_reason() {
    let path = std::env::temp_dir().join(format!("ctsyncd-config-{}", std::process::id()));
    let load = || {
        config::load(&path)
            .expect_err("it cannot be read")
            .to_string()
    };
    let shown = path.display();
    assert_eq!(
        load(),
        format!("{shown}: cannot read the configuration: No such file or directory (os error 2)")
    );
    fs::write(&path, b"[node]\nname = \"\xff\"\n").expect("a file in the temporary folder");
    let not_text = load();
    fs::write(&path, vec![b'#'; (1 << 20) + 1]).expect("a file in the temporary folder");
    let large = load();
    fs::write(&path, MINIMAL).expect("a file in the temporary folder");
    let good = config::load(&path);
    fs::remove_file(&path).expect("the file is there");
    assert_eq!(not_text, format!("{shown}: line 2 is not UTF-8 text"));
    assert!(large.contains("larger than 1048576 bytes"), "{large}");
    assert!(good.is_ok(), "{good:?}");
}

proptest! {
    /// Whatever an editor leaves behind is settled or explained, and neither takes for ever.
    #[test]
    fn a_mangled_file_is_answered_and_never_a_panic(
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), "[a-z0-9\"\\[\\]{}=.,#\n ü-]{0,3}", 0..4_usize),
            1..6,
        ),
    ) {
        let options = shipped().lines().filter(|line| !line.starts_with('#')).fold(
            String::new(),
            |text, line| text + line + "\n",
        );
        let mut mangled: Vec<char> = options.chars().collect();
        for (place, put, gone) in &edits {
            let at = place.index(mangled.len());
            let end = (at + gone).min(mangled.len());
            mangled.splice(at..end, put.chars());
        }
        let mangled: String = mangled.iter().collect();
        match config::parse_on_host(&mangled, Path::new("f"), || Some("host".to_owned())) {
            Ok(settings) => prop_assert!(!settings.links.is_empty()),
            Err(diagnostics) => {
                prop_assert!(!diagnostics.list().is_empty());
                prop_assert!(diagnostics.to_string().starts_with("f:"));
            }
        }
    }
}

const SECURITY: &str = "[security]\ninsecure = true\n";
const MINIMAL: &str = "[security]
insecure = true
[[link]]
interface = \"eth2\"
multicast = \"225.0.0.50:3780\"
";

/// What `MINIMAL` means: the defaults, and the one link.
#[test]
fn hot_standby_is_asked_for_by_its_name() {
    // Beside a gate it is refused, so it has a file of its own.
    let settings = parse(&format!("{MINIMAL}[standby]\nmode = \"hot\"\n"));
    assert!(settings.standby.is_hot);
}

#[test]
fn protocols_are_heard_as_replicated_except_in_hot_standby() {
    let heard = |text: &str| parse(&format!("{MINIMAL}{text}")).heard_protocols();
    let some = "[replicate]\nprotocols = [\"tcp\", \"50\"]\n";
    assert_eq!(heard(some), Some([6, 50].into_iter().collect()));
    assert_eq!(heard(&format!("{some}[standby]\nmode = \"hot\"\n")), None);
    assert_eq!(heard("[replicate]\nall = true\n"), None);
    assert_eq!(heard(""), None);
}

#[test]
fn gate_that_stands_nowhere_is_none() {
    let settings = parse(&format!("{MINIMAL}[gate]\ninterfaces = []\n"));
    assert_eq!(settings.gate, None);
}

fn minimal() -> Settings {
    Settings {
        node: NodeSettings {
            name: "host".to_owned(),
        },
        control: ControlSettings {
            socket: PathBuf::from("/run/ctsyncd/control.sock"),
        },
        security: Security::Insecure,
        links: vec![LinkSettings {
            interface: "eth2".to_owned(),
            addressing: Addressing::Multicast {
                group: address("225.0.0.50:3780"),
            },
            receive_buffer_bytes: LinkSettings::RECEIVE_BUFFER_BYTES,
            send_buffer_bytes: LinkSettings::SEND_BUFFER_BYTES,
        }],
        kernel: KernelSettings::default(),
        cache: CacheSettings::default(),
        policy: Policy::default(),
        standby: StandbySettings { is_hot: false },
        commit: CommitSettings::default(),
        keepalived: KeepalivedSettings::default(),
        gate: None,
        log: LogSettings::default(),
    }
}

fn parse(text: &str) -> Settings {
    config::parse_on_host(text, Path::new("f"), || Some("host".to_owned()))
        .unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

fn shipped() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/ctsyncd.toml");
    fs::read_to_string(path).expect("the shipped file can be read")
}

#[test]
fn the_examples_are_accepted_on_any_host() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/examples");
    let mut seen = 0;
    for entry in fs::read_dir(folder).expect("the folder of the examples") {
        let path = entry.expect("an entry").path().join("ctsyncd.toml");
        let text = fs::read_to_string(&path).expect("each has a ctsyncd.toml");
        assert_eq!(parse(&text).node.name, "host", "{}", path.display());
        seen += 1;
    }
    assert_eq!(seen, 3);
}

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let mut fixtures: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder of the fixtures")
        .map(|entry| entry.expect("an entry of the folder").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    fixtures.sort();
    fixtures
}

fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("a literal address")
}

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().expect("a literal address")
}
