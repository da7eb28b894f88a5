//! Rust's text without its comments and strings, and the paths in it.

/// The text with everything in comments, strings and characters turned into blanks; lines and
/// columns stay.
pub(crate) fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let before = at.checked_sub(1).map(|index| bytes[index]);
        let skip = if rest.starts_with(b"//") {
            rest.iter()
                .position(|&byte| byte == b'\n')
                .unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            block_comment(rest)
        } else if rest[0] == b'"' {
            string(rest)
        } else if rest[0] == b'r' && !before.is_some_and(is_word) {
            raw_string(rest)
        } else if rest[0] == b'\'' {
            character(rest)
        } else {
            0
        };
        if skip == 0 {
            out.push(rest[0]);
            at += 1;
        } else {
            let skipped = &rest[..skip];
            out.extend(
                skipped
                    .iter()
                    .map(|&byte| if byte == b'\n' { b'\n' } else { b' ' }),
            );
            at += skip;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Length of a comment with those inside it.
fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of `r"…"` or `r#"…"#`; 0 if it is not one.
fn raw_string(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let body = &rest[2 + hashes..];
    let length = body
        .windows(end.len())
        .position(|window| window == end)
        .unwrap_or(body.len());
    (2 + hashes + length + end.len()).min(rest.len())
}

/// Length of a character; 0 if it is a lifetime.
fn character(rest: &[u8]) -> usize {
    match rest.get(1) {
        Some(b'\\') => {
            let end = rest[3..].iter().position(|&byte| byte == b'\'');
            end.map_or(0, |end| 3 + end + 1)
        }
        Some(_) => {
            // A character has up to four bytes.
            let end = rest.iter().take(6).skip(2).position(|&byte| byte == b'\'');
            let length = end.map_or(0, |end| end + 3);
            let one = std::str::from_utf8(&rest[1..length.saturating_sub(1).max(1)]);
            if one.is_ok_and(|one| one.chars().count() == 1) {
                length
            } else {
                0
            }
        }
        None => 0,
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where `word` stands in `code` as a whole word (or path), as byte offsets.
pub(crate) fn find_word(code: &str, word: &str) -> Vec<usize> {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(|&at| {
            let before = at.checked_sub(1).map(|index| code.as_bytes()[index]);
            let after = code.as_bytes().get(at + word.len()).copied();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
        .collect()
}

/// The paths of up to `depth` names that begin with `root::`, `use` trees taken apart, with the
/// offset of `root`. `crate::{a::b, c}` gives `[a, b]` and `[c]`; `self` adds nothing.
pub(crate) fn paths<'c>(code: &'c str, root: &str, depth: usize) -> Vec<(usize, Vec<&'c str>)> {
    let mut found = Vec::new();
    for at in find_word(code, root) {
        if let Some(tree) = code[at + root.len()..].strip_prefix("::") {
            let mut branches = Vec::new();
            branch(tree, &mut Vec::new(), &mut branches);
            for mut path in branches {
                path.truncate(depth);
                found.push((at, path));
            }
        }
    }
    found
}

/// Reads one branch of a `use` tree (or one path) and gives what is left of the text.
fn branch<'c>(
    mut text: &'c str,
    prefix: &mut Vec<&'c str>,
    found: &mut Vec<Vec<&'c str>>,
) -> &'c str {
    let depth = prefix.len();
    loop {
        text = text.trim_start();
        if let Some(mut group) = text.strip_prefix('{') {
            loop {
                group = branch(group, prefix, found).trim_start();
                if let Some(next) = group.strip_prefix(',') {
                    group = next.trim_start();
                }
                if let Some(after) = group.strip_prefix('}') {
                    prefix.truncate(depth);
                    return after;
                }
                // Not a tree after all, or cut short.
                if group.is_empty() || !group.starts_with(|char: char| is_start(char)) {
                    prefix.truncate(depth);
                    return group;
                }
            }
        }
        let end = text
            .find(|char: char| !char.is_ascii_alphanumeric() && char != '_' && char != '#')
            .unwrap_or(text.len());
        let (name, after) = text.split_at(end);
        if !name.is_empty() && name != "self" {
            prefix.push(name);
        }
        let Some(next) = after.strip_prefix("::") else {
            found.push(prefix.clone());
            prefix.truncate(depth);
            // `a as b`: the new name is no path.
            let renamed = after.trim_start().strip_prefix("as ");
            return renamed.map_or(after, |name| {
                name.trim_start_matches(|char: char| char.is_ascii_alphanumeric() || char == '_')
            });
        };
        text = next;
        if let Some(after) = text.strip_prefix('*') {
            found.push(prefix.clone());
            prefix.truncate(depth);
            return after;
        }
    }
}

fn is_start(char: char) -> bool {
    char.is_ascii_alphabetic() || char == '_' || char == '{' || char == '*'
}
