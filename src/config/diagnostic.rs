//! What is wrong with a configuration file, shown so that a person can mend it: file, line, the
//! line itself with a caret, the reason, and what to do.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Longest part of a source line that is shown, in characters.
const EXCERPT_CHARS_MAX: usize = 120;
/// Characters shown before the caret when a line has to be cut.
const EXCERPT_CHARS_BEFORE: usize = 40;

/// Everything that is wrong with one file, in the order of its lines; never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostics {
    path: PathBuf,
    list: Vec<Diagnostic>,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Where; `None` when the file could not be read at all.
    pub place: Option<Place>,
    /// The reason, one sentence without its full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// A place in the file and what stands there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line, cut to a length that fits a screen, without control characters.
    excerpt: String,
    /// Where in `excerpt` the caret begins, in characters.
    caret: usize,
    /// Carets; at least one.
    carets: usize,
}

impl Diagnostics {
    /// The file could not be read.
    pub(super) fn unreadable(path: &Path, message: String) -> Self {
        let only = Diagnostic {
            place: None,
            message,
            help: None,
        };
        Self {
            path: path.to_owned(),
            list: vec![only],
        }
    }

    /// The list, in the order of the lines.
    #[must_use]
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.list.iter().enumerate() {
            if index > 0 {
                write!(f, "\n\n")?;
            }
            diagnostic.write(&self.path, f)?;
        }
        Ok(())
    }
}

impl Diagnostic {
    fn write(&self, path: &Path, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = path.display();
        let Some(place) = &self.place else {
            write!(f, "{path}: {}", self.message)?;
            if let Some(help) = &self.help {
                write!(f, "\n  = help: {help}")?;
            }
            return Ok(());
        };
        let Place {
            line,
            column,
            excerpt,
            caret,
            carets,
        } = place;
        let number = line.to_string();
        let gutter = number.len();
        writeln!(f, "{path}:{line}:{column}: {}", self.message)?;
        writeln!(f, " {:gutter$} |", "")?;
        writeln!(f, "{}", format!(" {number} | {excerpt}").trim_end())?;
        write!(f, " {:gutter$} | {:caret$}{}", "", "", "^".repeat(*carets))?;
        if let Some(help) = &self.help {
            write!(f, "\n {:gutter$} = help: {help}", "")?;
        }
        Ok(())
    }
}

/// Collects what is wrong while a text is read.
#[derive(Debug, Default)]
pub(super) struct Report {
    found: Vec<(Range<usize>, String, Option<String>)>,
}

impl Report {
    /// Something is wrong at `span` (bytes of the text).
    pub(super) fn error(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.found.push((span, message.into(), None));
    }

    /// The same, with advice.
    pub(super) fn error_help(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.found.push((span, message.into(), Some(help.into())));
    }

    /// True if nothing is wrong so far.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// What was found, sorted by place.
    pub(super) fn into_diagnostics(mut self, path: &Path, text: &str) -> Diagnostics {
        self.found.sort_by_key(|(span, _, _)| span.start);
        let list = self
            .found
            .into_iter()
            .map(|(span, message, help)| Diagnostic {
                place: Some(Place::of(text, span)),
                message,
                help,
            })
            .collect();
        Diagnostics {
            path: path.to_owned(),
            list,
        }
    }
}

impl Place {
    /// The place of a range of bytes; a range beyond the end is the end of the last line.
    fn of(text: &str, span: Range<usize>) -> Self {
        // What is missing at the end of the file is shown after the last line that has something.
        let end = text.trim_end().len();
        let start = floor_char_boundary(text, span.start.min(end));
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_text = text[line_start..].split(['\n', '\r']).next().unwrap_or("");
        let line_end = line_start + line_text.len();
        let stop = floor_char_boundary(text, span.end.clamp(start, line_end.max(start)));

        let before = text[line_start..start].chars().count();
        let cut = if line_text.chars().count() > EXCERPT_CHARS_MAX {
            before.saturating_sub(EXCERPT_CHARS_BEFORE)
        } else {
            0
        };
        let excerpt: String = line_text
            .chars()
            .skip(cut)
            .take(EXCERPT_CHARS_MAX)
            .map(|char| if char.is_control() { ' ' } else { char })
            .collect();
        let caret = before - cut;
        let room = excerpt.chars().count().saturating_sub(caret).max(1);
        Self {
            line: text[..line_start].matches('\n').count() + 1,
            column: before + 1,
            carets: text[start..stop].chars().count().clamp(1, room),
            caret,
            excerpt,
        }
    }
}

fn floor_char_boundary(text: &str, mut index: usize) -> usize {
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

/// `did you mean "…"?` when one of `known` is close to `given`.
pub(super) fn suggestion<'k>(given: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(given, candidate), *candidate))
        // A third of the letters may be wrong: more than that is another word.
        .filter(|&(distance, candidate)| distance <= given.len().max(candidate.len()).div_ceil(3))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// `"a", "b" or "c"`.
pub(super) fn one_of(words: &[&str]) -> String {
    listed(words, "or")
}

/// `"a", "b" and "c"`.
pub(super) fn and_list(words: &[&str]) -> String {
    listed(words, "and")
}

fn listed(words: &[&str], last_word: &str) -> String {
    match words {
        [] => String::new(),
        [only] => format!("{only:?}"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(|word| format!("{word:?}")).collect();
            format!("{} {last_word} {last:?}", first.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_what_is_meant() {
        let shown = show("a = 1\n\tbö = 22 # x\n", 13..15);
        assert_eq!(
            shown,
            "f:2:7: wrong\n   |\n 2 |  bö = 22 # x\n   |       ^^"
        );
    }

    #[test]
    fn a_range_over_several_lines_is_cut_at_the_first() {
        let shown = show("a = [\n 1,\n]\n", 4..11);
        assert_eq!(shown, "f:1:5: wrong\n   |\n 1 | a = [\n   |     ^");
    }

    #[test]
    fn what_is_missing_at_the_end_is_shown_after_the_last_line() {
        let shown = show("[node]\nname = \"x\"\n\n\n", 19..19);
        assert_eq!(
            shown,
            "f:2:11: wrong\n   |\n 2 | name = \"x\"\n   |           ^"
        );
        assert_eq!(show("", 0..0), "f:1:1: wrong\n   |\n 1 |\n   | ^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let text = format!("a = \"{}\" here", "x".repeat(5000));
        let place = Place::of(&text, 5007..5011);
        assert_eq!(place.column, 5008);
        assert!(place.excerpt.ends_with("xxx\" here"), "{}", place.excerpt);
        assert_eq!((place.caret, place.carets), (EXCERPT_CHARS_BEFORE, 4));
        let place = Place::of(&text, 4..5000);
        assert_eq!(place.excerpt.chars().count(), EXCERPT_CHARS_MAX);
        assert_eq!((place.caret, place.carets), (4, EXCERPT_CHARS_MAX - 4));
    }

    #[test]
    fn a_range_inside_a_character_is_no_reason_to_panic() {
        for start in 0..12 {
            for end in 0..12 {
                let place = Place::of("ä\r\nöö\nü", start..end);
                assert!((1..=3).contains(&place.line) && place.carets >= 1);
            }
        }
    }

    #[test]
    fn a_misspelt_word_finds_its_neighbour_and_another_word_does_not() {
        let known = ["multicast", "interface", "peers"];
        assert_eq!(suggestion("multcast", &known), Some("multicast"));
        assert_eq!(suggestion("iterfaec", &known), Some("interface"));
        assert_eq!(suggestion("peer", &known), Some("peers"));
        assert_eq!(suggestion("colour", &known), None);
    }

    fn show(text: &str, span: Range<usize>) -> String {
        let mut report = Report::default();
        report.error(span, "wrong");
        report.into_diagnostics(Path::new("f"), text).to_string()
    }
}
