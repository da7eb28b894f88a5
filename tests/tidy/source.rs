//! The files that are looked at.

use std::fs;
use std::path::Path;

use crate::lexer::code_only;

/// One file.
pub(crate) struct Source {
    /// Its path from the root of the package.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
    /// Its text without comments and strings.
    pub(crate) code: String,
    /// Where its tests begin, as an offset into both texts.
    pub(crate) tests_at: usize,
}

impl Source {
    /// A file from its text.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = code_only(text);
        let whole = path.ends_with("/tests.rs") || path.contains("/tests/");
        let tests_at = if whole {
            0
        } else {
            tests_at(&code).unwrap_or(code.len())
        };
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            tests_at,
        }
    }

    /// The folder below `src/`, if it is in one.
    pub(crate) fn folder(&self) -> Option<&str> {
        Some(self.path.strip_prefix("src/")?.split_once('/')?.0)
    }

    /// The code up to its tests.
    pub(crate) fn own_code(&self) -> &str {
        &self.code[..self.tests_at]
    }

    /// A message about a place.
    pub(crate) fn at(&self, offset: usize, message: &str) -> String {
        let line = self.text[..offset].matches('\n').count() + 1;
        format!("{}:{line}: {message}", self.path)
    }
}

/// The offset of `#[cfg(test)]` in front of a module that is written out; house style has it last.
fn tests_at(code: &str) -> Option<usize> {
    code.match_indices("#[cfg(test)]").find_map(|(at, mark)| {
        let item = code[at + mark.len()..].trim_start();
        let body = item.find(['{', ';'])?;
        (item.starts_with("mod ") && item.as_bytes()[body] == b'{').then_some(at)
    })
}

/// All files below a folder, in the order of their paths; none if there is no such folder.
pub(crate) fn read(root: &Path, folder: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(root.join(&folder)) else {
            continue;
        };
        for entry in entries {
            let entry = entry.expect("an entry of a folder that can be read");
            let name = entry.file_name().into_string().expect("names are UTF-8");
            let path = format!("{folder}/{name}");
            if entry.path().is_dir() {
                if name != "target" {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(entry.path()).expect("a file that can be read");
                sources.push(Source::new(&path, &text));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}
