//! `stats`: every counter, whatever the daemon counts.

use std::io::Write;

use serde_json::Value;

use super::{CliError, Exit, text};
use crate::control::client::Client;
use crate::control::message::Request;

pub(super) fn execute(
    json: bool,
    client: &mut Client,
    out: &mut impl Write,
) -> Result<Exit, CliError> {
    let stats = client.call(&Request::Stats, |_| Ok(()))?;
    if json {
        text::write_json(&stats, out)?;
    } else {
        write!(out, "{}", render(&stats))?;
    }
    Ok(Exit::Done)
}

/// One counter per line, by its path, the values in one column.
fn render(stats: &Value) -> String {
    let mut rows = Vec::new();
    flatten(String::new(), stats, &mut rows);
    let width = rows.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
    rows.iter()
        .map(|(path, value)| format!("{path:<width$}  {value}\n"))
        .collect()
}

fn flatten(path: String, value: &Value, rows: &mut Vec<(String, String)>) {
    let below = |key: &str| match path.is_empty() {
        true => key.to_owned(),
        false => format!("{path}.{key}"),
    };
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                flatten(below(key), value, rows);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let name = item.get("name").and_then(Value::as_str);
                let key = name.map_or_else(|| index.to_string(), ToOwned::to_owned);
                flatten(below(&key), item, rows);
            }
        }
        Value::String(text) => rows.push((path, text.clone())),
        Value::Null => rows.push((path, "-".to_owned())),
        Value::Bool(_) | Value::Number(_) => rows.push((path, value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn counters_stand_in_one_column_under_their_paths() {
        let stats = json!({
            "kernel": {"events": 12, "refused": {"truncated": 1}},
            "peers": [{"name": "fw2", "acks": 7}],
            "since": null,
        });

        assert_eq!(
            render(&stats),
            "kernel.events             12\n\
             kernel.refused.truncated  1\n\
             peers.fw2.acks            7\n\
             peers.fw2.name            fw2\n\
             since                     -\n"
        );
    }
}
