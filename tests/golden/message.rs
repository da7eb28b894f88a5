//! A message of a real kernel out of `ctnetlink.txt`, by its name.

/// Its bytes.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    let mut lines = include_str!("ctnetlink.txt")
        .lines()
        .filter_map(|line| line.split_once(' '));
    let (_, hex) = lines
        .find(|&(found, _)| found == name)
        .expect("the message is among the golden ones");
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(digit).collect()
}
