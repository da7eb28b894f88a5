//! Words for people.

/// A number of things: `1 flow`, `1234 flows`.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
