//! What a replica says of itself: the numbers for readers, and those for operators.
//!
//! Owns the shapes and how they are read off the state. It must not change anything.

use super::replica::Replica;
use super::watermark::Published;
use crate::raft::{Index, NodeId, ProgressState, Role, Term};

/// What a replica knows of itself and its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// The group.
    pub group: u64,
    /// Its role now.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The leader of the term, if known.
    pub leader: Option<NodeId>,
    /// Last committed index known here; inclusive.
    pub commit_index: Index,
    /// Last index; inclusive.
    pub last_index: Index,
    /// Last index fsynced here; inclusive.
    pub durable_index: Index,
    /// End offset of what may be read here; exclusive.
    pub high_watermark: u64,
    /// First offset kept.
    pub log_start: u64,
    /// Proposals that wait for their commit.
    pub pending: usize,
    /// Index of the entry that set the membership in force; 0 for the one the group was created with. It is committed
    /// if this is at most `commit_index`.
    pub membership_index: Index,
    /// Voters in force.
    pub voters: Vec<NodeId>,
    /// Voters on the way out, while a change is under way; empty otherwise.
    pub voters_outgoing: Vec<NodeId>,
    /// Members without a vote.
    pub learners: Vec<NodeId>,
    /// How a leader sees the others; empty at others.
    pub peers: Vec<PeerStatus>,
}

/// How a leader sees a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub node: NodeId,
    /// Highest index known to be durable there.
    pub match_index: Index,
    /// How entries are being sent.
    pub state: ProgressState,
    /// Whether it is a learner that may become a voter.
    pub caught_up: bool,
    /// Bytes sent and not acknowledged.
    pub in_flight_bytes: u64,
    /// Entries it lacks.
    pub lag_entries: u64,
    /// Bytes of the entries it lacks, to within some sixty entries; those appended before this node
    /// started are left out.
    pub lag_bytes: u64,
}

/// What a replica holds in memory that others could make grow. Each count has its limit, in [`super::ReplicaConfig`] or at the mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes of proposals that wait for their commit.
    pub uncommitted_bytes: u64,
    /// Bytes of frames that are not known to be durable here.
    pub unwritten_bytes: u64,
    /// Bytes of states being given to peers, or received.
    pub state_bytes: u64,
    /// Bytes of proposals on their way to the leader.
    pub forward_bytes: u64,
    /// Requests of all kinds that wait for an answer.
    pub waiting: usize,
}

impl Replica {
    /// What it holds in memory for others.
    pub fn held(&self) -> Held {
        let waiting = self.reads.len() + self.transfers.len() + self.changes.len();
        Held {
            uncommitted_bytes: self.pending.bytes(),
            unwritten_bytes: self.tail.held_bytes(),
            state_bytes: self.installs.bytes(),
            forward_bytes: self.forward_bytes,
            waiting: waiting + self.pending.len() + self.forwards.len(),
        }
    }

    /// What the replica knows of itself and its peers.
    pub fn status(&self) -> GroupStatus {
        let published = self.status_to_publish();
        let (membership_index, membership) = self.raft.membership();
        GroupStatus {
            group: self.config.group,
            role: self.raft.role(),
            term: published.term,
            leader: published.leader,
            commit_index: published.commit_index,
            last_index: self.raft.last_index(),
            durable_index: self.raft.durable_index(),
            high_watermark: published.high_watermark,
            log_start: published.log_start,
            pending: self.pending.len(),
            membership_index,
            voters: membership.voters.clone(),
            voters_outgoing: membership.voters_outgoing.clone(),
            learners: membership.learners.clone(),
            peers: self
                .peers()
                .into_iter()
                .filter_map(|peer| self.peer_status(peer))
                .collect(),
        }
    }

    fn peer_status(&self, peer: NodeId) -> Option<PeerStatus> {
        let view = self.raft.progress(peer)?;
        let last = self.raft.last_index();
        Some(PeerStatus {
            node: peer,
            match_index: view.match_index,
            state: view.state,
            caught_up: self.raft.is_caught_up(peer),
            in_flight_bytes: view.in_flight_bytes,
            lag_entries: last.saturating_sub(view.match_index),
            lag_bytes: self.tail.bytes_after(view.match_index),
        })
    }

    /// All members but this node.
    pub(super) fn peers(&self) -> Vec<NodeId> {
        let (_, membership) = self.raft.membership();
        let mut peers = membership.members();
        peers.retain(|peer| *peer != self.raft.node());
        peers
    }

    pub(super) fn status_to_publish(&self) -> Published {
        let applied = self.tail.base();
        // Until the log on disk begins anew, readers see it as it was.
        let before = self.published.filter(|_| self.installs.under_way());
        let readable = (applied.next_offset, applied.id.index, self.log_start);
        let (high_watermark, applied_index, log_start) = before.map_or(readable, |before| {
            (
                before.high_watermark,
                before.applied_index,
                before.log_start,
            )
        });
        Published {
            high_watermark,
            applied_index,
            commit_index: self.raft.commit_index(),
            log_start,
            term: self.raft.term(),
            leader: self.raft.leader(),
        }
    }
}
