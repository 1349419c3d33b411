//! Who belongs to a group, as the log says.
//!
//! Owns the set of members and its history along the log: a membership counts from the moment its entry is appended,
//! committed or not (section 6 of the paper), and ceases to count when that entry is truncated. It must not know how
//! quorums are counted. On the walk append.

use super::{Index, NodeId};

/// Voters of a group at most: every acknowledgement counts them all.
pub const VOTERS_MAX: usize = 15;

/// Nodes in a membership at most; during a joint change, both sets of voters count.
pub const MEMBERS_MAX: usize = 1024;

/// The members of a group. All lists are sorted and free of repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Nodes that vote and count for commitment.
    pub voters: Vec<NodeId>,
    /// During a joint change, the voters being replaced: both majorities are needed. Empty otherwise.
    pub voters_outgoing: Vec<NodeId>,
    /// Nodes that receive the log but neither vote nor count.
    pub learners: Vec<NodeId>,
}

impl Membership {
    /// A group of `voters`, in any order, and nobody else.
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Membership {
        let mut voters: Vec<NodeId> = voters.into_iter().collect();
        voters.sort_unstable();
        voters.dedup();
        Membership {
            voters,
            ..Membership::default()
        }
    }

    /// Whether `node` votes, in either set.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.voters_outgoing.contains(&node)
    }

    /// Whether `node` receives the log without a vote.
    pub fn is_learner(&self, node: NodeId) -> bool {
        self.learners.contains(&node) && !self.is_voter(node)
    }

    /// Whether a change of voters is under way: both majorities are needed.
    pub fn joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// Whether this can be a membership at all. It may come from a faulty peer.
    pub(super) fn is_well_formed(&self) -> bool {
        let lists = [&self.voters, &self.voters_outgoing, &self.learners];
        let ascending = |list: &&Vec<NodeId>| {
            list.is_sorted_by(|a, b| a < b) && list.first().is_none_or(|&node| node != 0)
        };
        !self.voters.is_empty()
            && lists.iter().all(ascending)
            && lists.iter().map(|list| list.len()).sum::<usize>() <= MEMBERS_MAX
            && !self.learners.iter().any(|node| self.voters.contains(node))
    }

    /// Everyone who receives the log, each once, in ascending order.
    pub fn members(&self) -> Vec<NodeId> {
        let mut members = [&self.voters[..], &self.voters_outgoing, &self.learners].concat();
        members.sort_unstable();
        members.dedup();
        members
    }
}

/// What a group shall become; see [`super::Raft::propose_membership`]. In any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Nodes that shall vote: voters, or learners that have caught up.
    pub voters: Vec<NodeId>,
    /// Nodes that shall receive the log without a vote.
    pub learners: Vec<NodeId>,
}

/// Why a membership cannot be changed (so), or not now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Only a leader can change the membership.
    #[error("this replica is not the leader; ask {leader:?}")]
    NotLeader {
        /// Whom to ask instead, if known.
        leader: Option<NodeId>,
    },
    /// The leader has not committed an entry of its term yet, or is handing leadership over: try again soon.
    #[error("the leader is new, or is handing leadership over; try again")]
    Unsettled,
    /// The change before this one is not concluded yet.
    #[error("the change of membership at index {index} is not concluded yet; try again after it")]
    InProgress {
        /// Index of its latest entry.
        index: Index,
    },
    /// A group without voters could never decide anything again.
    #[error("a group needs at least one voter")]
    NoVoters,
    /// A node is named twice.
    #[error("node {0} is named twice; a node is either a voter or a learner, once")]
    Duplicate(NodeId),
    /// No node has this number.
    #[error("{0} is no node number; they start at 1")]
    NotANode(NodeId),
    /// A new voter must have been a learner until it had (nearly) all of the log.
    #[error("node {0} cannot vote yet; add it as a learner and wait until it has caught up")]
    NotCaughtUp(NodeId),
    /// The group is what it shall become.
    #[error("the group has this membership already")]
    Nothing,
    /// More nodes than a group can have.
    #[error("too many nodes; a group has at most {VOTERS_MAX} voters and {MEMBERS_MAX} members")]
    TooMany,
}

/// The memberships of the kept log.
#[derive(Clone, Debug)]
pub(super) struct MembershipHistory {
    /// By index of their entries, ascending, never empty. The first is the base: it is in force at the start of the kept
    /// log, and no truncation can reach it.
    entries: Vec<(Index, Membership)>,
}

impl MembershipHistory {
    pub(super) fn new(entries: Vec<(Index, Membership)>) -> MembershipHistory {
        assert!(
            !entries.is_empty(),
            "a group has a membership from its creation on"
        );
        assert!(
            entries.is_sorted_by(|a, b| a.0 < b.0),
            "memberships come in the order of the log"
        );
        MembershipHistory { entries }
    }

    /// The membership in force, and the index of its entry (0: the one the group was created with).
    pub(super) fn current(&self) -> (Index, &Membership) {
        let (index, membership) = self.entries.last().expect("never empty");
        (*index, membership)
    }

    /// The membership in force at `index` and those after it: if that much is committed, one of them is the last that ever
    /// will be in force of those that are here.
    pub(super) fn possible(&self, index: Index) -> &[(Index, Membership)] {
        let past = self.entries.partition_point(|entry| entry.0 <= index);
        &self.entries[past.saturating_sub(1)..]
    }

    /// The membership that was in force once the entry at `index` was appended, or the base.
    pub(super) fn at(&self, index: Index) -> &Membership {
        let past = self.entries.partition_point(|entry| entry.0 <= index);
        &self.entries[past.saturating_sub(1)].1
    }

    pub(super) fn push(&mut self, index: Index, membership: Membership) {
        assert!(
            index > self.current().0,
            "memberships come in the order of the log"
        );
        self.entries.push((index, membership));
    }

    /// The memberships whose entries lie in `first ..= last`.
    pub(super) fn between(&self, first: Index, last: Index) -> Vec<(Index, Membership)> {
        self.entries
            .iter()
            .filter(|(index, _)| (first..=last).contains(index))
            .cloned()
            .collect()
    }

    /// The entries after `index` are gone: what they said is no longer in force.
    pub(super) fn truncate_after(&mut self, index: Index) {
        let keep = self.entries.partition_point(|entry| entry.0 <= index);
        assert!(
            keep > 0,
            "the base membership is committed and cannot be truncated"
        );
        self.entries.truncate(keep);
    }

    /// The log begins anew, with `membership` in force since the entry at `index`, which precedes it.
    pub(super) fn begin_anew(&mut self, index: Index, membership: Membership) {
        self.entries = vec![(index, membership)];
    }

    /// The entries up to `index` are trimmed: what is in force there becomes the base.
    pub(super) fn trim_to(&mut self, index: Index) {
        let past = self.entries.partition_point(|entry| entry.0 <= index);
        self.entries.drain(..past.saturating_sub(1));
    }
}
