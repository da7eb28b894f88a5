//! The attributes that most flows do not have. Tables keep them beside the flows, not in them.

use super::Tuple;

/// Longest helper name: `NF_CT_HELPER_NAME_LEN` is 16 with the closing zero.
pub const HELPER_NAME_MAX: usize = 15;

/// Rare attributes of one flow; all empty for most.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Rare {
    /// `CTA_LABELS`: 128 bits as the kernel sends them; `None` without the extension.
    pub labels: Option<[u8; 16]>,
    /// `CTA_HELP_NAME`.
    pub helper: Option<HelperName>,
    /// `CTA_SEQ_ADJ_ORIG`.
    pub seqadj_orig: Option<SeqAdj>,
    /// `CTA_SEQ_ADJ_REPLY`.
    pub seqadj_reply: Option<SeqAdj>,
    /// `CTA_SYNPROXY`; `None` when all three members are zero, which is what the kernel shows for
    /// every entry made through ctnetlink.
    pub synproxy: Option<SynProxy>,
    /// `CTA_TUPLE_MASTER`: the original tuple of the flow whose expectation made this one.
    pub master: Option<Tuple>,
}

impl Rare {
    /// True if there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A helper's name, without allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct HelperName {
    bytes: [u8; HELPER_NAME_MAX],
    len: u8,
}

impl HelperName {
    /// A name from its bytes without the closing zero; `None` if empty, too long, or with anything
    /// but ASCII that can be seen: a listing is a line of words, and a peer must not write its own.
    #[must_use]
    pub fn new(name: &[u8]) -> Option<Self> {
        let is_seen = name.iter().all(u8::is_ascii_graphic);
        if name.is_empty() || name.len() > HELPER_NAME_MAX || !is_seen {
            return None;
        }
        let mut bytes = [0; HELPER_NAME_MAX];
        bytes[..name.len()].copy_from_slice(name);
        Some(Self {
            bytes,
            len: u8::try_from(name.len()).expect("at most 15"),
        })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("checked to be ASCII")
    }
}

/// `CTA_SEQ_ADJ_*`: how a NAT helper shifts sequence numbers of one direction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SeqAdj {
    /// `CTA_SEQADJ_CORRECTION_POS`.
    pub correction_pos: u32,
    /// `CTA_SEQADJ_OFFSET_BEFORE`, two's complement.
    pub offset_before: u32,
    /// `CTA_SEQADJ_OFFSET_AFTER`, two's complement.
    pub offset_after: u32,
}

/// `CTA_SYNPROXY`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SynProxy {
    /// `CTA_SYNPROXY_ISN`.
    pub isn: u32,
    /// `CTA_SYNPROXY_ITS`.
    pub its: u32,
    /// `CTA_SYNPROXY_TSOFF`.
    pub tsoff: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_name_is_one_word_that_can_be_seen() {
        for name in ["ftp", "Q.931", "netbios-ns", "fifteen-letters"] {
            let kept = HelperName::new(name.as_bytes()).expect("a helper of the kernel");
            assert_eq!(kept.as_str(), name);
        }
        for name in [
            "",
            "sixteen--letters",
            "two words",
            "line\nbreak",
            "\x1b[2J",
            "nul\0",
            "\x7f",
            "fü",
        ] {
            assert_eq!(HelperName::new(name.as_bytes()), None, "{name:?}");
        }
    }
}
