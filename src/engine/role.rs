//! The role of this node: standby, promoting, active.
//!
//! | from | on | to | what it sets off |
//! | --- | --- | --- | --- |
//! | standby | promote | promoting | the term grows, the replicas are committed |
//! | promoting | the commit ended | active | |
//! | promoting | promote | promoting | another commit queues, the first that ends decides |
//! | active | promote | active | nothing |
//! | promoting, active | demote | standby | what our kernel holds is stale from now on |
//! | standby | demote | standby | nothing |

use super::command::Reply;
use super::jobs::{Ended, Work};
use super::notice::{JobResult, Notice};
use super::status::Role;
use super::{Engine, Peer};

impl Engine {
    pub(super) fn promote(&mut self) -> Reply {
        match self.role {
            Role::Active => Reply::Done,
            Role::Standby | Role::Promoting => {
                let term = match self.role {
                    Role::Standby => self.next_term(),
                    Role::Promoting | Role::Active => self.term,
                };
                let reply = self.jobs.queue(Work::Promotion { term });
                if matches!(reply, Reply::Started(_)) {
                    self.term = term;
                    self.change_role(Role::Promoting);
                }
                reply
            }
        }
    }

    pub(super) fn demote(&mut self) -> Reply {
        if self.role != Role::Standby {
            // From now on the flows live elsewhere: what our kernel holds of them goes stale.
            self.mirror.era = self.mirror.era.wrapping_add(1);
            self.change_role(Role::Standby);
        }
        Reply::Done
    }

    /// Higher than every term heard of.
    fn next_term(&self) -> u64 {
        let told = self.peers().iter().filter_map(Peer::told);
        told.map(|told| told.term).fold(self.term, u64::max) + 1
    }

    /// The one door for changes of role.
    fn change_role(&mut self, to: Role) {
        let from = self.role;
        if from == to {
            return;
        }
        self.role = to;
        self.notify(Notice::Role {
            from,
            to,
            term: self.term,
        });
    }

    pub(super) fn on_ended(&mut self, ended: Ended) {
        let Ended { job, work, result } = ended;
        if let JobResult::Committed(status) = &result {
            self.notify(Notice::Committed(status.clone()));
        }
        let result = match (work, self.role) {
            (Work::Promotion { term }, Role::Promoting | Role::Active) if term == self.term => {
                self.change_role(Role::Active);
                result
            }
            // A later promotion has a commit of its own: what lived elsewhere meanwhile is new.
            (Work::Promotion { .. }, _) => {
                JobResult::Failed("this node was demoted while it was being promoted".into())
            }
            (Work::Commit | Work::Flush, _) => result,
        };
        self.notify(Notice::JobDone { job, result });
    }
}
