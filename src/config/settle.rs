//! From the file as written to the settings as used: what has to be there, what goes together,
//! and what the numbers may be.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::diagnostic::{Report, one_of, suggestion};
use super::document::Broken;
use super::file::{self, File, Given};
use super::settings::{
    CacheSettings, CommitSettings, ControlSettings, KernelSettings, LogFormat, LogLevel,
    LogSettings, NODE_NAME_LEN_MAX, NodeSettings, SOCKET_DEFAULT, Security, Settings,
};
use super::units::{Period, Size};
use super::{gate, keepalived, links, replicate};

/// Longest path of a Unix socket: `sun_path` is 108 bytes with the closing zero, unix(7).
const SOCKET_PATH_LEN_MAX: usize = 107;
/// Buffers of sockets: below, the kernel's own default is larger; above, it grants no more
/// (SO_RCVBUFFORCE doubles the figure, and the double is an `int`).
pub(super) const SOCKET_BUFFER_BYTES: RangeInclusive<Size> = Size(64 << 10)..=Size(1 << 30);
/// Every listing walks the whole table of the kernel; after an hour the last one is history.
const SCRUB_INTERVAL: RangeInclusive<Period> = secs(5)..=secs(3600);
/// One flow per slot, and slots are numbered with room to spare below 2^32.
const FLOWS_MAX: RangeInclusive<i64> = 1_024..=16_777_216;
/// Fewer would make each short silence of a peer a reconciliation.
const TOMBSTONES_MIN: i64 = 256;
/// Less than a second kills what the failover was for; a day is longer than any failover.
const GRACE: RangeInclusive<Period> = secs(1)..=secs(86_400);

pub(super) const fn secs(secs: u64) -> Period {
    Period(Duration::from_secs(secs))
}

/// Everything a check needs besides the section it looks at.
pub(super) struct Check<'c> {
    /// What was given but not understood, and is therefore not missing.
    pub(super) broken: &'c Broken,
    /// The end of the file, which is where whole sections are missing.
    pub(super) end: Range<usize>,
    /// What is wrong.
    pub(super) report: &'c mut Report,
}

/// Settles the file. What comes out may only be used if nothing was reported; `None` when so much
/// is missing that there is nothing to show for it.
pub(super) fn settle(
    file: &File,
    broken: &Broken,
    end: Range<usize>,
    hostname: impl FnOnce() -> Option<String>,
    report: &mut Report,
) -> Option<Settings> {
    let mut check = Check {
        broken,
        end,
        report,
    };
    let security = check.security(file.security.as_ref());
    let links = links::settle(&file.link, &mut check);
    let node = check.node(file.node.as_ref(), hostname);
    let control = check.control(file.control.as_ref());
    let policy = replicate::settle(file.replicate.as_ref(), &mut check);
    check.standby(file.standby.as_ref());
    let kernel = check.kernel(file.kernel.as_ref());
    let cache = check.cache(file.cache.as_ref());
    let commit = check.commit(file.commit.as_ref());
    let keepalived = keepalived::settle(file.keepalived.as_ref(), &mut check);
    let gate = gate::settle(file, &mut check);
    let log = check.log(file.log.as_ref());
    Some(Settings {
        node: node?,
        control,
        security: security?,
        links,
        kernel,
        cache,
        policy,
        commit,
        keepalived,
        gate,
        log,
    })
}

impl Check<'_> {
    fn node(
        &mut self,
        section: Option<&Spanned<file::Node>>,
        hostname: impl FnOnce() -> Option<String>,
    ) -> Option<NodeSettings> {
        const RULE: &str = "a name has 1 to 64 letters, digits, \"-\", \"_\" and \".\"";
        if let Some(given) = section.and_then(|section| section.get_ref().name.as_ref()) {
            let name = given.get_ref();
            if !is_node_name(name) {
                let message = format!("{name:?} cannot be the name of a node");
                self.report.error_help(given.span(), message, RULE);
                return None;
            }
            return Some(NodeSettings { name: name.clone() });
        }
        if self.broken.option("node", 0, "name") {
            return None;
        }
        let place = section.map_or_else(|| self.end.clone(), Spanned::span);
        let help = "give the node a name, unique in the cluster: name = \"fw1\" in [node]";
        match hostname() {
            Some(name) if is_node_name(&name) => Some(NodeSettings { name }),
            Some(name) => {
                let message = format!(
                    "no name in [node], and the host's name {name:?} cannot be one: {RULE}"
                );
                self.report.error_help(place, message, help);
                None
            }
            None => {
                let message = "no name in [node], and the host has none either";
                self.report.error_help(place, message, help);
                None
            }
        }
    }

    fn control(&mut self, section: Option<&Spanned<file::Control>>) -> ControlSettings {
        let given = section.and_then(|section| section.get_ref().socket.as_ref());
        let Some(given) = given else {
            return ControlSettings {
                socket: PathBuf::from(SOCKET_DEFAULT),
            };
        };
        let path = given.get_ref();
        if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
            let message = format!("{path:?} is not the absolute path of a socket");
            let help = format!("the usual one is {SOCKET_DEFAULT:?}");
            self.report.error_help(given.span(), message, help);
        } else if path.len() > SOCKET_PATH_LEN_MAX {
            let message = format!(
                "the path has {} bytes; that of a Unix socket has {SOCKET_PATH_LEN_MAX} at most",
                path.len()
            );
            self.report.error(given.span(), message);
        }
        ControlSettings {
            socket: PathBuf::from(path),
        }
    }

    fn security(&mut self, section: Option<&Spanned<file::SecuritySection>>) -> Option<Security> {
        const WHY: &str = "whoever reaches a link that is not sealed can read and write flows";
        const HELP: &str = "make a key with `ctsyncd keygen FILE`, copy it to every node, and name it \
                            with key_file; or set insecure = true, on a link nobody else can reach";
        let Some(section) = section else {
            if !self.broken.section("security") {
                let message = format!("no [security] section: {WHY}, so it has to be said aloud");
                self.report.error_help(self.end.clone(), message, HELP);
            }
            return None;
        };
        let given = section.get_ref();
        let insecure = given
            .insecure
            .as_ref()
            .filter(|insecure| *insecure.get_ref());
        match (&given.key_file, insecure) {
            (Some(_), Some(insecure)) => {
                let message = "insecure = true beside a key_file: is the link sealed or not?";
                self.report
                    .error_help(insecure.span(), message, "leave one of them out");
                None
            }
            (None, _) if given.other_key_file.is_some() => {
                let other = given.other_key_file.as_ref().map_or(0..0, Spanned::span);
                let message = "other_key_file without a key_file: which key seals?";
                self.report
                    .error_help(other, message, "name the key that seals with key_file");
                None
            }
            (Some(key_file), None) => Some(Security::Sealed {
                key_file: key_file.get_ref().into(),
                other_key_file: given
                    .other_key_file
                    .as_ref()
                    .map(|other| other.get_ref().into()),
            }),
            (None, Some(_)) => Some(Security::Insecure),
            (None, None) => {
                let is_broken = ["insecure", "key_file", "other_key_file"]
                    .iter()
                    .any(|option| self.broken.option("security", 0, option));
                if !is_broken {
                    let message =
                        format!("[security] has neither key_file nor insecure = true: {WHY}");
                    self.report.error_help(section.span(), message, HELP);
                }
                None
            }
        }
    }

    /// There is one mode so far, so nothing comes out of it but the refusal of the others.
    fn standby(&mut self, section: Option<&Spanned<file::Standby>>) {
        let given = section.and_then(|section| section.get_ref().mode.as_ref());
        let Some(given) = given else { return };
        let cold = self.word("mode", given, &[("cold", true), ("hot", false)]);
        if cold == Some(false) {
            self.report.error_help(
                given.span(),
                "mode = \"hot\" is not yet supported: it comes with a later release",
                "use mode = \"cold\": the flows are put into the kernel at promotion",
            );
        }
    }

    fn kernel(&mut self, section: Option<&Spanned<file::Kernel>>) -> KernelSettings {
        let default = KernelSettings::default();
        let Some(section) = section.map(Spanned::get_ref) else {
            return default;
        };
        KernelSettings {
            event_buffer_bytes: self
                .size("event_buffer", &section.event_buffer, &SOCKET_BUFFER_BYTES)
                .unwrap_or(default.event_buffer_bytes),
            scrub_interval: self
                .period("scrub_interval", &section.scrub_interval, &SCRUB_INTERVAL)
                .unwrap_or(default.scrub_interval),
            set_events_sysctl: section
                .set_events_sysctl
                .as_ref()
                .map_or(default.set_events_sysctl, |given| *given.get_ref()),
        }
    }

    fn cache(&mut self, section: Option<&Spanned<file::Cache>>) -> CacheSettings {
        let default = CacheSettings::default();
        let Some(section) = section.map(Spanned::get_ref) else {
            return default;
        };
        let flows_max = self
            .count("flows_max", section.flows_max.as_ref(), &FLOWS_MAX)
            .unwrap_or(default.flows_max);
        let bounds = TOMBSTONES_MIN..=*FLOWS_MAX.end();
        let given = section.tombstones_max.as_ref();
        let tombstones_max = self.count("tombstones_max", given, &bounds);
        if let (Some(given), Some(tombstones_max)) = (given, tombstones_max)
            && tombstones_max > flows_max
        {
            let message = format!(
                "tombstones_max is {tombstones_max}, above flows_max, which is {flows_max}"
            );
            let help = "there are never more ended flows to remember than there were flows";
            self.report.error_help(given.span(), message, help);
        }
        CacheSettings {
            flows_max,
            tombstones_max: tombstones_max.unwrap_or(default.tombstones_max.min(flows_max)),
        }
    }

    fn commit(&mut self, section: Option<&Spanned<file::Commit>>) -> CommitSettings {
        let default = CommitSettings::default();
        let Some(section) = section.map(Spanned::get_ref) else {
            return default;
        };
        CommitSettings {
            grace: self
                .period("grace", &section.grace, &GRACE)
                .unwrap_or(default.grace),
            tcp_liberal: section
                .tcp_liberal
                .as_ref()
                .map_or(default.tcp_liberal, |given| *given.get_ref()),
        }
    }

    fn log(&mut self, section: Option<&Spanned<file::Log>>) -> LogSettings {
        const LEVELS: [(&str, LogLevel); 5] = [
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ];
        const FORMATS: [(&str, LogFormat); 2] =
            [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let default = LogSettings::default();
        let Some(section) = section.map(Spanned::get_ref) else {
            return default;
        };
        let level = section.level.as_ref();
        let format = section.format.as_ref();
        LogSettings {
            level: level
                .and_then(|given| self.word("level", given, &LEVELS))
                .unwrap_or(default.level),
            format: format
                .and_then(|given| self.word("format", given, &FORMATS))
                .unwrap_or(default.format),
        }
    }

    /// One of a few words, in letters of either case.
    pub(super) fn word<T: Copy>(
        &mut self,
        option: &str,
        given: &Spanned<String>,
        words: &[(&str, T)],
    ) -> Option<T> {
        let text = given.get_ref().as_str();
        if let Some(&(_, meaning)) = words
            .iter()
            .find(|&&(word, _)| word.eq_ignore_ascii_case(text))
        {
            return Some(meaning);
        }
        let names: Vec<&str> = words.iter().map(|&(word, _)| word).collect();
        let message = format!("{option}: {text:?} is not {}", one_of(&names));
        let folded = text.to_ascii_lowercase();
        match suggestion(&folded, &names) {
            Some(meant) => {
                let help = format!("did you mean {meant:?}?");
                self.report.error_help(given.span(), message, help);
            }
            None => self.report.error(given.span(), message),
        }
        None
    }

    /// A number of bytes within bounds.
    pub(super) fn size(
        &mut self,
        option: &str,
        given: &Given<Size>,
        bounds: &RangeInclusive<Size>,
    ) -> Option<usize> {
        let given = given.as_ref()?;
        let size = self.within(option, given, bounds)?;
        Some(usize::try_from(size.0).expect("the bounds are below 2^32"))
    }

    /// A duration within bounds.
    pub(super) fn period(
        &mut self,
        option: &str,
        given: &Given<Period>,
        bounds: &RangeInclusive<Period>,
    ) -> Option<Duration> {
        let given = given.as_ref()?;
        Some(self.within(option, given, bounds)?.0)
    }

    fn count(
        &mut self,
        option: &str,
        given: Option<&Spanned<i64>>,
        bounds: &RangeInclusive<i64>,
    ) -> Option<u32> {
        let count = self.within(option, given?, bounds)?;
        Some(u32::try_from(count).expect("the bounds are below 2^32"))
    }

    /// A value within bounds.
    pub(super) fn within<T: PartialOrd + Copy + Display>(
        &mut self,
        option: &str,
        given: &Spanned<T>,
        bounds: &RangeInclusive<T>,
    ) -> Option<T> {
        let value = *given.get_ref();
        if bounds.contains(&value) {
            return Some(value);
        }
        let (low, high) = (bounds.start(), bounds.end());
        let message = format!("{option}: {value} is out of bounds, which are {low} to {high}");
        self.report.error(given.span(), message);
        None
    }
}

/// 1 to 64 bytes of letters, digits, `-`, `_` and `.`: names go into log lines, metrics and
/// datagrams as they are.
fn is_node_name(name: &str) -> bool {
    (1..=NODE_NAME_LEN_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
