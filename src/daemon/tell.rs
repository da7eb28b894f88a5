//! Notices of the engine as log lines.

use tracing::{debug, error, info, warn};

use crate::engine::status::CommitStatus;
use crate::engine::{Notice, Transition};
use crate::replication::PeerNotice;

/// Writes a notice to the log.
pub(super) fn tell(notice: &Notice) {
    match notice {
        Notice::Peer(peer) => tell_peer(*peer),
        Notice::Role { from, to, term } => info!(?from, ?to, term, "role changed"),
        Notice::Committed(status) => tell_commit(status),
        Notice::JobDone { .. } => {}
        Notice::Faded { shortened } => info!(
            shortened,
            "the entries that the new active has were shortened; they age out here"
        ),
        Notice::MadeStrict { cleared, set_back } => info!(
            cleared,
            set_back, "committed TCP flows that talk are strict again"
        ),
        Notice::Transition { transition, .. } => tell_transition(transition),
        Notice::Standing(standing) => debug!(?standing, "keepalived's priority"),
        Notice::SplitBrain { cause } => error!("split brain: {cause}"),
        Notice::SplitBrainOver { peer, lasted } => warn!(
            peer = peer.as_str(),
            ms = lasted.as_millis(),
            "split brain is over, or out of sight"
        ),
        Notice::Overrun => warn!(
            "the kernel dropped events: raise [kernel] event_buffer if this happens often; \
             the table is listed anew"
        ),
        Notice::TableWhole { tracked, swept } => {
            info!(tracked, swept, "the kernel's table is mirrored in full");
        }
        Notice::TableFull => {
            warn!("the local cache is full, flows are missing in it: raise [cache] flows_max");
        }
    }
}

/// One line when it is over.
fn tell_transition(transition: &Transition) {
    let Some(done_ms) = transition.done_ms else {
        return;
    };
    let silences = transition.peers.iter();
    let silences: Vec<_> = silences
        .map(|peer| format!("{} {} ms", peer.name, peer.silent_ms))
        .collect();
    let commit = transition.commit.as_ref();
    info!(
        kind = ?transition.kind,
        trigger = transition.trigger,
        term = transition.term,
        peers_silent = silences.join(", "),
        commit_started_ms = transition.commit_started_ms,
        done_ms,
        flows = commit.map(|commit| commit.total),
        created = commit.map(|commit| commit.created),
        failed = transition.failed,
        "transition over"
    );
}

fn tell_commit(status: &CommitStatus) {
    let failed: u64 = status.failed.iter().map(|failed| failed.flows).sum();
    info!(
        total = status.total,
        created = status.created,
        already = status.already,
        replaced = status.replaced,
        without_helper = status.without_helper,
        failed,
        elapsed_ms = status.elapsed_ms,
        "commit done"
    );
    for failed in &status.failed {
        warn!(flows = failed.flows, "not committed: {}", failed.reason);
    }
    if status.without_labels > 0 {
        warn!(
            flows = status.without_labels,
            "committed without their labels: no rule of this node uses `ct label`"
        );
    }
    for missing in &status.missing {
        warn!("the committed flows lack something: {missing}");
    }
}

fn tell_peer(notice: PeerNotice) {
    match notice {
        PeerNotice::SessionStarted { name, epoch } => {
            info!(peer = name.as_str(), %epoch, "session started");
        }
        PeerNotice::InSync { name, flows } => {
            info!(peer = name.as_str(), flows, "replica proven equal");
        }
        PeerNotice::Different { name } => {
            info!(
                peer = name.as_str(),
                "replica differs from the peer's table"
            );
        }
        PeerNotice::Reconciled { name, cost, took } => info!(
            peer = name.as_str(),
            touched = cost.touched,
            buried = cost.buried,
            questions = cost.questions,
            list_entries = cost.list_entries,
            bytes = cost.question_bytes + cost.answer_bytes,
            ms = took.as_millis(),
            "{}",
            match cost.unanswered {
                0 => "its replica of our flows is reconciled",
                _ => "reconcile given up: the peer does not answer",
            }
        ),
        PeerNotice::Unrepaired {
            name,
            attempts,
            wait,
        } => warn!(
            peer = name.as_str(),
            attempts,
            next_s = wait.as_secs(),
            "its replica of our flows still differs: see its status for the cause"
        ),
        PeerNotice::Incompatible {
            name,
            versions: (min, max),
        } => warn!(
            peer = name.as_str(),
            "speaks protocol versions {min} to {max} and we none of them: upgrade the older node"
        ),
        PeerNotice::Stranger { name, why } => {
            warn!(
                "{:?} is heard and cannot be understood: {why}",
                name.as_str()
            );
        }
        PeerNotice::Retired { name } => warn!(
            "a run of {:?} that was left is heard again: two nodes with this [node] name, or a \
             recording that is played back",
            name.as_str()
        ),
        PeerNotice::NoRoom { name } => warn!(
            "{:?} is ignored: a cluster has at most eight nodes, and that many were heard",
            name.as_str()
        ),
        PeerNotice::DuplicateName { name } => warn!(
            "another node calls itself {:?} as this one does, or somebody plays back a recording of \
             an earlier run: give each node its own [node] name",
            name.as_str()
        ),
    }
}
