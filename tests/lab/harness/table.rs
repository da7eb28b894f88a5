//! The kernel's table as `conntrack -L` prints it, cut into comparable entries.

use std::collections::BTreeMap;

use super::namespace::Namespace;
use super::{Context as _, Result};

/// One line of a listing: what tells the flow apart, what is said of it, and the ticking timeout.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// Protocol, original tuple and zones.
    pub(crate) key: String,
    /// State, reply tuple, status words, mark, zone, helper, labels: all that stands still.
    pub(crate) rest: String,
    /// Seconds left.
    pub(crate) timeout: u64,
}

/// A listing, by key.
pub(crate) type Table = BTreeMap<String, Entry>;

/// The kernel's entries of both families, with labels.
pub(crate) fn kernel(namespace: &Namespace) -> Result<Table> {
    let mut lines = Vec::new();
    for family in ["ipv4", "ipv6"] {
        // Without `-o labels`: that prints names from a file of the machine, and the command
        // knows no numbers for those it cannot name.
        let text = namespace.output("conntrack", &["-L", "-f", family])?;
        lines.extend(text.lines().map(str::to_owned));
    }
    parse(&lines)
}

/// Reads the lines of `conntrack -L`, or of `ctsyncd dump`, which takes its form.
pub(crate) fn parse(lines: &[String]) -> Result<Table> {
    let mut table = Table::new();
    for line in lines.iter().filter(|line| !line.trim().is_empty()) {
        let entry = entry(line).with_context(|| format!("reading {line}"))?;
        table.insert(entry.key.clone(), entry);
    }
    Ok(table)
}

fn entry(line: &str) -> Result<Entry> {
    let mut words = line.split_whitespace().peekable();
    // `-o extended` puts the family in front.
    if words.peek().is_some_and(|word| word.starts_with("ipv")) {
        words.next();
        words.next();
    }
    let name = words.next().context("a protocol")?;
    let number = words.next().context("its number")?;
    let timeout = words.next().context("a timeout")?.parse()?;
    let (mut key, mut rest) = (format!("{name} {number}"), String::new());
    let mut sources = 0;
    let mut zone = String::new();
    for word in words {
        let field = word.split('=').next().unwrap_or(word);
        match field {
            "src" => sources += 1,
            // How often an entry is in use is no part of a flow, and accounting counts what a
            // commit cannot restore.
            "use" | "packets" | "bytes" | "delta-time" => continue,
            _ => {}
        }
        if field == "zone" {
            zone = format!(" {word}");
        }
        let is_of_original = sources == 1 && !word.starts_with('[');
        let target = if is_of_original { &mut key } else { &mut rest };
        target.push(' ');
        target.push_str(word);
    }
    key.push_str(&zone);
    Ok(Entry { key, rest, timeout })
}

/// What differs between two tables, in words; empty if they agree and no timeout differs by more
/// than `timeout_slack` seconds. `None` leaves the timeouts out.
pub(crate) fn differences(
    (left_name, left): (&str, &Table),
    (right_name, right): (&str, &Table),
    timeout_slack: Option<u64>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (key, entry) in left {
        let Some(other) = right.get(key) else {
            found.push(format!("only {left_name} has {key}{}", entry.rest));
            continue;
        };
        if entry.rest != other.rest {
            found.push(format!(
                "{key}:\n  {left_name} says{}\n  {right_name} says{}",
                entry.rest, other.rest
            ));
        }
        let apart = entry.timeout.abs_diff(other.timeout);
        if timeout_slack.is_some_and(|slack| apart > slack) {
            found.push(format!(
                "{key}: timeout {} in {left_name}, {} in {right_name}",
                entry.timeout, other.timeout
            ));
        }
    }
    let missing = right.iter().filter(|(key, _)| !left.contains_key(*key));
    found.extend(missing.map(|(key, entry)| format!("only {right_name} has {key}{}", entry.rest)));
    found
}

/// Panics with the first differences, if there are any.
#[track_caller]
pub(crate) fn assert_equal(left: (&str, &Table), right: (&str, &Table), slack: Option<u64>) {
    let found = differences(left, right, slack);
    let shown: Vec<_> = found.iter().take(10).map(String::as_str).collect();
    assert!(
        found.is_empty(),
        "{} differences between {} ({} flows) and {} ({} flows), the first:\n{}",
        found.len(),
        left.0,
        left.1.len(),
        right.0,
        right.1.len(),
        shown.join("\n")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: &str = "udp      17 29 src=192.0.2.10 dst=198.51.100.10 sport=5 dport=53 \
        src=198.51.100.10 dst=198.51.100.1 sport=53 dport=5 [ASSURED] mark=0 use=1";

    fn table(line: &str) -> Table {
        parse(&[line.to_owned()]).expect("a line of conntrack -L")
    }

    fn differences_from(line: &str, slack: Option<u64>) -> usize {
        differences(("one", &table(FLOW)), ("other", &table(line)), slack).len()
    }

    #[test]
    fn a_listing_differs_in_key_rest_or_timeout() {
        assert_eq!(differences_from(FLOW, Some(0)), 0);
        assert_eq!(
            differences_from(&FLOW.replace("use=1", "use=2"), Some(0)),
            0
        );
        assert_eq!(
            differences_from(&FLOW.replace("mark=0", "mark=1"), Some(0)),
            1
        );
        assert_eq!(
            differences_from(&FLOW.replace("[ASSURED] ", ""), Some(0)),
            1
        );
        // Another flow: one is missing here, one there.
        assert_eq!(
            differences_from(&FLOW.replace("use=1", "zone=9 use=1"), Some(0)),
            2
        );
        assert_eq!(
            differences_from(&FLOW.replace("sport=5 dport=53", "sport=6 dport=53"), None),
            2
        );
        assert_eq!(differences_from(&FLOW.replace(" 29 ", " 26 "), Some(2)), 1);
        assert_eq!(differences_from(&FLOW.replace(" 29 ", " 26 "), None), 0);
    }

    #[test]
    fn a_line_that_is_no_flow_is_refused() {
        assert!(parse(&["tcp      6 ESTABLISHED".to_owned()]).is_err());
    }
}
