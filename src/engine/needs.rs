//! What flows need of the kernel beyond a place in its table, and what of it is missing.

use super::text::counted;
use crate::ctnetlink::host::{Rules, Seen};
use crate::ctnetlink::request::{Answer, Outcome};
use crate::flow::rare::HelperName;
use crate::flow::{Family, Flow, Rare};

/// Helpers that are named; a kernel has a dozen.
pub(super) const HELPERS_MAX: usize = 16;

/// What the flows of a commit need.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Needs {
    flows: u64,
    translated_v4: u64,
    translated_v6: u64,
    labelled: u64,
}

impl Needs {
    /// Counts a flow in.
    pub(super) fn count(&mut self, flow: &Flow, rare: Option<&Rare>, is_translated: bool) {
        self.flows += 1;
        if is_translated {
            match flow.orig.family {
                Family::V4 => self.translated_v4 += 1,
                Family::V6 => self.translated_v6 += 1,
            }
        }
        if rare.is_some_and(|rare| rare.labels.is_some()) {
            self.labelled += 1;
        }
    }

    /// What of it the rules of this namespace do not give: a sentence each, with its mend. What is
    /// not known is not missing.
    pub(super) fn missing(&self, rules: Rules) -> Vec<String> {
        let mut missing = Vec::new();
        for (count, nat, family, table) in [
            (self.translated_v4, rules.nat_v4, "IPv4", "ip"),
            (self.translated_v6, rules.nat_v6, "IPv6", "ip6"),
        ] {
            if count > 0 && nat == Seen::No {
                missing.push(format!(
                    "no chain of type nat sees {family} on this node, and {} translated: packets \
                     of theirs leave untranslated; load the ruleset of the active node, or an empty \
                     chain: `nft 'add table {table} nat; add chain {table} nat post {{ type nat \
                     hook postrouting priority srcnat; }}'`",
                    counted(count, "flow of it is", "flows of it are")
                ));
            }
        }
        if self.flows > 0 && rules.tracking == Seen::No {
            missing.push(
                "no rule of this node uses conntrack: its kernel tracks no packet and looks at no \
                 flow; load the ruleset of the active node"
                    .into(),
            );
        }
        if self.labelled > 0 && rules.labels == Seen::No {
            missing.push(format!(
                "no rule of this node uses `ct label`: its kernel drops the labels of {}; load the \
                 ruleset of the active node before the commit",
                counted(self.labelled, "flow", "flows")
            ));
        }
        missing
    }
}

/// What one flow may lose on its way into the kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct MayBeLost {
    /// The flow, if it has labels.
    pub(super) labelled: Option<Flow>,
    /// The helper that it went without.
    pub(super) helper: Option<HelperName>,
}

/// What the flows of a commit have lost. The kernel drops labels without a word, so one of the flows
/// that were created with labels is looked at in the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Lost {
    labelled: u64,
    look: Look,
    helpers: Vec<HelperName>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Look {
    /// No flow with labels was created.
    #[default]
    Needless,
    /// This one is to be looked at.
    Wanted(Flow),
    /// The kernel was asked.
    Asked,
    /// The labels are there, or nobody can tell.
    Kept,
    /// They are not.
    Dropped,
}

impl Lost {
    /// A flow was created.
    pub(super) fn on_created(&mut self, what: MayBeLost) {
        if let Some(flow) = what.labelled {
            self.labelled += 1;
            if self.look == Look::Needless {
                self.look = Look::Wanted(flow);
            }
        }
    }

    /// A flow was created without its helper.
    pub(super) fn on_helper(&mut self, what: MayBeLost) {
        self.on_created(what);
        if let Some(name) = what.helper
            && self.helpers.len() < HELPERS_MAX
            && !self.helpers.contains(&name)
        {
            self.helpers.push(name);
        }
    }

    /// True if a flow has still to be looked at.
    pub(super) fn wants_look(&self) -> bool {
        matches!(self.look, Look::Wanted(_))
    }

    /// The flow to look at.
    pub(super) fn take_look(&mut self) -> Option<Flow> {
        let Look::Wanted(flow) = self.look else {
            return None;
        };
        self.look = Look::Asked;
        Some(flow)
    }

    /// The kernel has answered. A flow that has ended meanwhile tells nothing.
    pub(super) fn on_look(&mut self, answer: Option<Answer>) {
        self.look = match answer.map(|answer| answer.outcome) {
            Some(Outcome::Found(found)) if found.rare.labels.is_none() => Look::Dropped,
            Some(Outcome::Found(_) | Outcome::Refused(_)) | None => Look::Kept,
        };
    }

    /// Flows that are there without their labels.
    pub(super) fn without_labels(&self) -> u64 {
        match self.look {
            Look::Dropped => self.labelled,
            Look::Needless | Look::Wanted(_) | Look::Asked | Look::Kept => 0,
        }
    }

    /// What has to be mended, in words.
    pub(super) fn missing(&self) -> Vec<String> {
        self.helpers.iter().map(unknown_helper).collect()
    }
}

/// What to do about a helper that the kernel does not know.
pub(super) fn unknown_helper(name: &HelperName) -> String {
    format!(
        "this kernel does not know the helper {:?}: load its module as on the active node, and name \
         it in /etc/modules-load.d/",
        name.as_str()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Tuple;

    fn flow(address: &str) -> Flow {
        let address = address.parse().expect("an address");
        let orig = Tuple::new(6, address, address, 1, 2);
        Flow {
            orig,
            reply: orig.inverse(),
            ..Flow::default()
        }
    }

    fn needs() -> Needs {
        let labelled = Rare {
            labels: Some([1; 16]),
            ..Rare::default()
        };
        let mut needs = Needs::default();
        needs.count(&flow("192.0.2.1"), Some(&labelled), true);
        needs.count(&flow("2001:db8::1"), None, true);
        needs.count(&flow("2001:db8::1"), None, false);
        needs
    }

    #[test]
    fn each_thing_that_is_missing_is_told_once_with_the_flows_that_need_it() {
        let nothing = Rules {
            nat_v4: Seen::No,
            nat_v6: Seen::No,
            tracking: Seen::No,
            labels: Seen::No,
        };
        let missing = needs().missing(nothing);
        let has = |text: &str| missing.iter().filter(|line| line.contains(text)).count();
        assert_eq!(missing.len(), 4, "{missing:?}");
        assert_eq!(
            has("type nat sees IPv4 on this node, and 1 flow of it is"),
            1
        );
        assert_eq!(
            has("type nat sees IPv6 on this node, and 1 flow of it is"),
            1
        );
        assert_eq!(has("uses conntrack"), 1);
        assert_eq!(has("the labels of 1 flow"), 1);
        // What no flow needs is not missing.
        assert_eq!(Needs::default().missing(nothing), [""; 0]);
    }

    #[test]
    fn what_is_there_or_in_doubt_is_not_missing() {
        for seen in [Seen::Yes, Seen::Unknown] {
            let rules = Rules {
                nat_v4: seen,
                nat_v6: seen,
                tracking: seen,
                labels: seen,
            };
            assert_eq!(needs().missing(rules), [""; 0]);
        }
    }
}
