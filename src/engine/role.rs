//! The role of this node: standby, promoting, active.
//!
//! | from | on | to | what it sets off |
//! | --- | --- | --- | --- |
//! | standby | promote | promoting | the term grows, the replicas are committed |
//! | promoting | the commit ended | active | |
//! | promoting | promote | promoting | another commit queues |
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
                let reply = self.jobs.queue(Work::Promotion);
                if matches!(reply, Reply::Started(_)) {
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

    /// The one door for changes of role. The term grows when a promotion begins.
    fn change_role(&mut self, to: Role) {
        let from = self.role;
        if from == to {
            return;
        }
        if (from, to) == (Role::Standby, Role::Promoting) {
            let highest = self
                .peers()
                .iter()
                .filter_map(Peer::told)
                .map(|told| told.term)
                .max();
            self.term = self.term.max(highest.unwrap_or(0)) + 1;
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
            (Work::Promotion, Role::Promoting | Role::Active) => {
                self.change_role(Role::Active);
                result
            }
            (Work::Promotion, Role::Standby) => {
                JobResult::Failed("this node was demoted while it was being promoted".into())
            }
            (Work::Commit | Work::Flush, _) => result,
        };
        self.notify(Notice::JobDone { job, result });
    }
}
