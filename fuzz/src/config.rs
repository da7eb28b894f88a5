//! The text of a configuration: settings, or errors that each say where they are.

use std::path::Path;

use ctsyncd::config;

/// Reads any bytes as a configuration; what is not UTF-8 is replaced, as `load` refuses it before.
pub fn run(bytes: &[u8]) -> usize {
    let text = String::from_utf8_lossy(bytes);
    match config::parse_on_host(&text, Path::new("f"), || Some("host".to_owned())) {
        Ok(settings) => {
            assert!(!settings.links.is_empty(), "settings cannot be invalid");
            1
        }
        Err(diagnostics) => {
            assert!(!diagnostics.list().is_empty(), "refused without a reason");
            for diagnostic in diagnostics.list() {
                let place = diagnostic.place.as_ref().expect("what is read has places");
                let lines = text.matches('\n').count() + 1;
                assert!((1..=lines).contains(&place.line), "{place:?}");
                assert!(place.column >= 1, "{place:?}");
                assert!(!diagnostic.message.is_empty());
            }
            assert!(diagnostics.to_string().starts_with("f:"));
            0
        }
    }
}
