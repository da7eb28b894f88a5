//! What makes this run unlike any other.

use anyhow::Context;

/// Sixteen random bytes.
pub(super) fn random() -> anyhow::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("the system gives no random numbers")?;
    Ok(bytes)
}

/// Two random words.
pub(super) fn random_words() -> anyhow::Result<[u64; 2]> {
    let bytes = random()?;
    let (first, second) = bytes.split_at(8);
    let word = |half: &[u8]| {
        half.iter()
            .fold(0, |word, &byte| word << 8 | u64::from(byte))
    };
    Ok([word(first), word(second)])
}
