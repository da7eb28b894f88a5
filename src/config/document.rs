//! From text to `File`: syntax, names and types, with all that is wrong and not the first only.
//!
//! serde stops at its first error, so names are checked by a walk of our own, and a value of the
//! wrong type is reported, taken out and the rest tried again. What was taken out is remembered:
//! a value that is there and wrong must not be called missing later.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, Deserializer};

use super::diagnostic::{Report, and_list, suggestion};
use super::file::File;
use super::keys::{Section, sections};

/// Where something stands that was given but not understood.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Spot {
    /// Name of the section.
    section: String,
    /// Which of the sections of that name.
    index: usize,
    /// Name of the option; `None` for the whole section.
    option: Option<String>,
}

impl Spot {
    fn section(name: &str) -> Self {
        Self {
            section: name.to_owned(),
            index: 0,
            option: None,
        }
    }

    fn option(section: &str, index: usize, option: &str) -> Self {
        Self {
            section: section.to_owned(),
            index,
            option: Some(option.to_owned()),
        }
    }
}

/// What was given but not understood.
#[derive(Debug, Default)]
pub(super) struct Broken(BTreeSet<Spot>);

impl Broken {
    /// True if the section was there in some form that could not be read.
    pub(super) fn section(&self, section: &str) -> bool {
        self.0.contains(&Spot::section(section))
    }

    /// True if the option of the `index`th section of that name was there in some such form.
    pub(super) fn option(&self, section: &str, index: usize, option: &str) -> bool {
        self.section(section) || self.0.contains(&Spot::option(section, index, option))
    }
}

/// Reads what can be read. `None` when the text is not TOML.
pub(super) fn read(text: &str, report: &mut Report) -> Option<(File, Broken)> {
    let (mut document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            let span = error.span().unwrap_or(text.len()..text.len());
            report.error(span, error.message().trim_end().replace('\n', "; "));
        }
        return None;
    }
    let mut names = Names {
        report,
        broken: Broken::default(),
        unknown: Vec::new(),
    };
    names.check(document.get_ref());
    let Names {
        mut broken,
        unknown,
        ..
    } = names;
    for spot in &unknown {
        remove(document.get_mut(), spot);
    }
    let file = take_out_wrong_types(&mut document, report, &mut broken)?;
    Some((file, broken))
}

/// The walk over all names.
struct Names<'r> {
    report: &'r mut Report,
    broken: Broken,
    /// What no struct has a field for.
    unknown: Vec<Spot>,
}

impl Names<'_> {
    fn check(&mut self, root: &DeTable<'_>) {
        for (key, value) in root {
            let name = key.get_ref().as_ref();
            match sections().iter().find(|section| section.name == name) {
                Some(section) => self.section(section, key, value.get_ref()),
                None => {
                    self.unknown.push(Spot::section(name));
                    self.unknown_at_root(key, value.get_ref());
                }
            }
        }
    }

    fn section(&mut self, section: &Section, key: &Spanned<DeString<'_>>, value: &DeValue<'_>) {
        if let (DeValue::Table(table), false) = (value, section.repeats) {
            self.options(section, 0, table);
        } else if let (DeValue::Array(array), true) = (value, section.repeats)
            && array.iter().all(|item| item.get_ref().is_table())
        {
            for (index, table) in tables(value).into_iter().enumerate() {
                self.options(section, index, table);
            }
        } else {
            let header = section.header();
            self.report.error_help(
                key.span(),
                format!("{:?} is a section that is written {header}", section.name),
                format!("write {header} on a line of its own, and its options below it"),
            );
            self.unknown.push(Spot::section(section.name));
            self.broken.0.insert(Spot::section(section.name));
        }
    }

    fn options(&mut self, section: &Section, index: usize, table: &DeTable<'_>) {
        for (key, _) in table {
            let name = key.get_ref().as_ref();
            if section.options.contains(&name) {
                continue;
            }
            self.unknown.push(Spot::option(section.name, index, name));
            let header = section.header();
            let message = format!("unknown key {name:?} in {header}");
            if let Some(owner) = owner_of(name) {
                let help = format!("{name:?} belongs into {}", owner.header());
                self.report.error_help(key.span(), message, help);
                self.broken.0.insert(Spot::option(owner.name, 0, name));
            } else if let Some(meant) = suggestion(name, section.options) {
                let help = format!("did you mean {meant:?}?");
                self.report.error_help(key.span(), message, help);
                self.broken
                    .0
                    .insert(Spot::option(section.name, index, meant));
            } else {
                let help = format!("{header} has {}", and_list(section.options));
                self.report.error_help(key.span(), message, help);
            }
        }
    }

    fn unknown_at_root(&mut self, key: &Spanned<DeString<'_>>, value: &DeValue<'_>) {
        let name = key.get_ref().as_ref();
        let names = sections().map(|section| section.name);
        let all = format!("the sections are {}", and_list(&names));
        if value.is_table() || !tables(value).is_empty() {
            let message = format!("unknown section [{name}]");
            match suggestion(name, &names) {
                Some(meant) => {
                    let help = format!("did you mean {meant:?}?");
                    self.report.error_help(key.span(), message, help);
                    self.broken.0.insert(Spot::section(meant));
                }
                None => self.report.error_help(key.span(), message, all),
            }
        } else {
            let message = format!("{name:?} stands outside of any section");
            match owner_of(name) {
                Some(owner) => {
                    let help = format!("{name:?} belongs into {}", owner.header());
                    self.report.error_help(key.span(), message, help);
                    self.broken.0.insert(Spot::option(owner.name, 0, name));
                }
                None => self.report.error_help(key.span(), message, all),
            }
        }
    }
}

/// The section that has an option of that name.
fn owner_of(option: &str) -> Option<Section> {
    sections()
        .into_iter()
        .find(|section| section.options.contains(&option))
}

/// The table that a value is, or the tables of which it is an array.
fn tables<'t, 'i>(value: &'t DeValue<'i>) -> Vec<&'t DeTable<'i>> {
    if let Some(table) = value.as_table() {
        return vec![table];
    }
    let array = value.as_array().map_or(&[][..], |array| array);
    array
        .iter()
        .filter_map(|item| item.get_ref().as_table())
        .collect()
}

/// Deserializes, reporting and removing values of a wrong type until the rest fits.
///
/// Each turn removes one option, so there are at most as many turns as options.
fn take_out_wrong_types(
    document: &mut Spanned<DeTable<'_>>,
    report: &mut Report,
    broken: &mut Broken,
) -> Option<File> {
    loop {
        let error = match File::deserialize(Deserializer::from(document.clone())) {
            Ok(file) => return Some(file),
            Err(error) => error,
        };
        let span = error.span().unwrap_or_else(|| document.span());
        let Some(spot) = option_at(document.get_ref(), &span) else {
            report.error(span, error.message());
            return None;
        };
        let option = spot.option.as_deref().unwrap_or_default();
        report.error(
            span,
            format!("{option}: {}", in_plain_words(error.message())),
        );
        remove(document.get_mut(), &spot);
        broken.0.insert(spot);
    }
}

/// serde's names of Rust types say nothing to an operator.
fn in_plain_words(message: &str) -> String {
    message
        .replace("expected i64", "expected a whole number")
        .replace(
            "expected a sequence",
            "expected a list such as [\"a\", \"b\"]",
        )
        .replace("expected a boolean", "expected true or false")
}

/// The option whose value holds `span`.
fn option_at(root: &DeTable<'_>, span: &Range<usize>) -> Option<Spot> {
    let holds = |range: Range<usize>| range.start <= span.start && span.end <= range.end;
    for (section, value) in root {
        for (index, table) in tables(value.get_ref()).into_iter().enumerate() {
            for (option, value) in table {
                if holds(value.span()) || holds(option.span()) {
                    return Some(Spot::option(section.get_ref(), index, option.get_ref()));
                }
            }
        }
    }
    None
}

fn remove(root: &mut DeTable<'_>, spot: &Spot) {
    let Some(option) = spot.option.as_deref() else {
        root.remove(spot.section.as_str());
        return;
    };
    match root.get_mut(spot.section.as_str()).map(Spanned::get_mut) {
        Some(DeValue::Table(table)) => {
            table.remove(option);
        }
        Some(DeValue::Array(array)) => {
            if let Some(DeValue::Table(table)) = array.get_mut(spot.index).map(Spanned::get_mut) {
                table.remove(option);
            }
        }
        _ => {}
    }
}
