//! Words and numbers for people.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::Value;

/// Whether the reader sees colours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Colour {
    /// Plain text.
    Never,
    /// ANSI escapes.
    Always,
}

/// What a word means to the reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tone {
    /// As it should be.
    Good,
    /// Look at it.
    Bad,
    /// Stands out.
    Bold,
}

impl Colour {
    /// Colours for a terminal, unless `NO_COLOR` asks for none (no-color.org) or it has none.
    pub(super) fn of(terminal: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        match terminal && !unwanted && !dumb {
            true => Self::Always,
            false => Self::Never,
        }
    }

    /// The text in the colour of its tone.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "1;31",
            Tone::Bold => "1",
        };
        match self {
            Self::Never => text.to_owned(),
            Self::Always => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things: `1 flow`, `1,234 flows`.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    format!(
        "{} {}",
        grouped(number),
        if number == 1 { one } else { many }
    )
}

/// Milliseconds with as many digits as one cares about: `12 ms`, `3.4 s`, `2 min 5 s`, `3 h 20 min`.
pub(super) fn span(ms: u64) -> String {
    let secs = Duration::from_millis(ms).as_secs();
    match secs {
        0 => format!("{ms} ms"),
        1..60 => format!("{secs}.{} s", ms % 1000 / 100),
        60..3600 => format!("{} min {} s", secs / 60, secs % 60),
        3600.. => format!("{} h {} min", secs / 3600, secs % 3600 / 60),
    }
}

/// The value, indented.
pub(super) fn write_json(value: &Value, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{value:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(counted(1, "flow", "flows"), "1 flow");
        assert_eq!(counted(0, "flow", "flows"), "0 flows");
    }

    #[test]
    fn spans_lose_the_digits_nobody_reads() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1.0 s"),
            (59_999, "59.9 s"),
            (125_000, "2 min 5 s"),
            (12_000_000, "3 h 20 min"),
        ] {
            assert_eq!(span(ms), text);
        }
    }
}
