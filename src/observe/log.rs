//! Log lines on standard error, for people or for machines.
//!
//! When standard error is the journal, a line carries no time (the journal has its own) and starts
//! with `<N>`, the syslog priority that sd-daemon(3) describes, so that `journalctl -p` works.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use anyhow::Context;
use tracing::{Event, Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::config::settings::{LogFormat, LogLevel, LogSettings};

/// Where the lines go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// The journal: with priority, without time.
    Journal,
    /// A person's terminal: with colours.
    Terminal,
    /// A file or a pipe.
    File,
}

impl Destination {
    /// What standard error is.
    #[must_use]
    pub fn of_stderr() -> Self {
        if is_journal() {
            Self::Journal
        } else if io::stderr().is_terminal() {
            Self::Terminal
        } else {
            Self::File
        }
    }

    /// What a line of an error that is no log line has to start with here.
    #[must_use]
    pub fn error_prefix(self) -> &'static str {
        match self {
            Self::Journal => "<3>",
            Self::Terminal | Self::File => "",
        }
    }
}

/// Sends the log lines of this process to standard error, from now on.
///
/// # Errors
///
/// When something in this process takes them already.
pub fn init(settings: LogSettings) -> anyhow::Result<()> {
    let subscriber = subscriber(settings, Destination::of_stderr(), io::stderr);
    tracing::subscriber::set_global_default(subscriber).context("cannot set up the log")
}

fn subscriber<W>(
    settings: LogSettings,
    destination: Destination,
    writer: W,
) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let plain = tracing_subscriber::fmt::layer()
        .with_ansi(destination == Destination::Terminal)
        .with_writer(writer);
    let layer = match (settings.format, destination) {
        (LogFormat::Text, Destination::Journal) => plain
            .map_event_format(|format| {
                Prioritised(format.without_time().with_level(false).with_target(false))
            })
            .boxed(),
        (LogFormat::Text, Destination::Terminal | Destination::File) => {
            plain.with_target(false).boxed()
        }
        (LogFormat::Json, Destination::Journal) => plain
            .json()
            .map_event_format(|format| Prioritised(format.without_time().flatten_event(true)))
            .boxed(),
        (LogFormat::Json, Destination::Terminal | Destination::File) => {
            plain.with_ansi(false).json().flatten_event(true).boxed()
        }
    };
    tracing_subscriber::registry().with(layer.with_filter(filter(settings.level)))
}

/// Our own lines at the level asked for; those of libraries only when they warn.
fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("ctsyncd", level)
}

/// Puts `<N>` before each line.
struct Prioritised<F>(F);

impl<S, N, F> FormatEvent<S, N> for Prioritised<F>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

/// sd-daemon(3): `SD_ERR`, `SD_WARNING`, `SD_INFO`, `SD_DEBUG`.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// systemd.exec(5), `$JOURNAL_STREAM`: device and inode of the journal's end. The variable is
/// inherited by everything a service starts, so only equality with what we write to counts.
fn is_journal() -> bool {
    let Some(announced) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    let stderr = io::stderr();
    let metadata = stderr
        .as_fd()
        .try_clone_to_owned()
        .and_then(|fd| File::from(fd).metadata());
    metadata.is_ok_and(|it| announced == *format!("{}:{}", it.dev(), it.ino()))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_file_gets_time_and_level_and_no_colours() {
        let line = logged(LogFormat::Text, Destination::File);
        assert!(line.starts_with("20"), "{line:?}");
        assert!(
            line.ends_with("WARN peer is silent peer=\"fw2\" flows=3\n"),
            "{line:?}"
        );
        assert!(!line.contains('\x1b'), "{line:?}");
    }

    #[test]
    fn a_terminal_gets_colours() {
        assert!(logged(LogFormat::Text, Destination::Terminal).contains("\x1b["));
    }

    #[test]
    fn the_journal_gets_the_priority_and_no_time() {
        let line = logged(LogFormat::Text, Destination::Journal);
        assert_eq!(line, "<4>peer is silent peer=\"fw2\" flows=3\n");
    }

    #[test]
    fn json_is_one_object_per_line_wherever_it_goes() {
        for (destination, prefix) in [
            (Destination::File, ""),
            (Destination::Terminal, ""),
            (Destination::Journal, "<4>"),
        ] {
            let line = logged(LogFormat::Json, destination);
            let object = line.strip_prefix(prefix).expect("the prefix is there");
            let object: serde_json::Value = serde_json::from_str(object).expect("it is JSON");
            assert_eq!(object["message"], "peer is silent");
            assert_eq!(object["peer"], "fw2");
            assert_eq!(object["level"], "WARN");
            assert_eq!(
                object.get("timestamp").is_none(),
                destination == Destination::Journal
            );
        }
    }

    #[test]
    fn the_level_is_ours_and_libraries_only_warn() {
        let lines = Lines::default();
        let settings = LogSettings {
            level: LogLevel::Debug,
            format: LogFormat::Text,
        };
        let subscriber = subscriber(settings, Destination::Journal, lines.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("ours");
            tracing::trace!("ours, too fine");
            tracing::info!(target: "netlink", "a library's");
            tracing::warn!(target: "netlink", "a library's warning");
        });
        assert_eq!(lines.text(), "<7>ours\n<4>a library's warning\n");
    }

    fn logged(format: LogFormat, destination: Destination) -> String {
        let lines = Lines::default();
        let settings = LogSettings {
            level: LogLevel::Info,
            format,
        };
        let subscriber = subscriber(settings, destination, lines.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(peer = "fw2", flows = 3, "peer is silent");
            tracing::debug!("not at this level");
        });
        lines.text()
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn text(&self) -> String {
            let bytes = self.0.lock().expect("nobody panicked").clone();
            String::from_utf8(bytes).expect("logs are text")
        }
    }

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .lock()
                .expect("nobody panicked")
                .extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }
}
