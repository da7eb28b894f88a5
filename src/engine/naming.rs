//! Peers that an order names.

use super::jobs::Work;
use super::{Engine, Reply};
use crate::wire::Name;

impl Engine {
    /// A commit, or its dry run, of all replicas or of those of some peers.
    pub(super) fn queue_commit(&mut self, work: Work, from: &[String]) -> Reply {
        match self.named(from) {
            Ok(from) => self.jobs.queue(work, from),
            Err(reason) => Reply::Refused(reason),
        }
    }

    /// The peers that an order names, each once; or why there is none of that name.
    pub(super) fn named(&self, names: &[String]) -> Result<Vec<Name>, String> {
        let mut named: Vec<Name> = Vec::new();
        for name in names {
            let is_it = |known: &&Name| known.as_str() == name;
            let mut known: Vec<Name> = self.peers().iter().map(|peer| peer.name()).collect();
            known.sort_by(|one, other| one.as_str().cmp(other.as_str()));
            let Some(&found) = known.iter().find(is_it) else {
                return Err(nobody(name, &known));
            };
            let peer = self.peers().iter().find(|peer| peer.name() == found);
            if peer.is_none_or(|peer| peer.replica().is_none()) {
                return Err(format!(
                    "there is no replica of {name:?}: no session with it yet"
                ));
            }
            if !named.contains(&found) {
                named.push(found);
            }
        }
        Ok(named)
    }
}

/// That nobody is called so, who is, and who may be meant.
fn nobody(name: &str, known: &[Name]) -> String {
    let words: Vec<&str> = known.iter().map(Name::as_str).collect();
    if words.is_empty() {
        return format!("no peer is called {name:?}: none has been met yet");
    }
    let mut text = format!("no peer is called {name:?}; known: {}", words.join(", "));
    let distance = |word: &str| strsim::damerau_levenshtein(name, word);
    let nearest = words.iter().min_by_key(|word| distance(word));
    // A third of the letters may be wrong: more than that is another word.
    let limit = |word: &str| name.len().max(word.len()).div_ceil(3);
    if let Some(word) = nearest.filter(|word| distance(word) <= limit(word)) {
        text += &format!("; did you mean {word:?}?");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_has_is_answered_with_those_that_there_are() {
        let name = |text: &str| Name::new(text.as_bytes()).expect("a name");
        assert_eq!(
            nobody("fw9", &[]),
            "no peer is called \"fw9\": none has been met yet"
        );
        assert_eq!(
            nobody("wf1", &[name("fw1"), name("london")]),
            "no peer is called \"wf1\"; known: fw1, london; did you mean \"fw1\"?"
        );
        assert_eq!(
            nobody("paris", &[name("fw1")]),
            "no peer is called \"paris\"; known: fw1"
        );
    }
}
