//! Who belongs to a group, as the log says.
//!
//! Owns the set of members and its history along the log: a membership counts from the moment its entry is appended,
//! committed or not (section 6 of the paper), and ceases to count when that entry is truncated. It must not know how
//! quorums are counted. On the walk append.

use super::{Index, NodeId};

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

    /// Everyone who receives the log, each once, in ascending order.
    pub fn members(&self) -> Vec<NodeId> {
        let mut members = [&self.voters[..], &self.voters_outgoing, &self.learners].concat();
        members.sort_unstable();
        members.dedup();
        members
    }
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

    /// The entries up to `index` are trimmed: what is in force there becomes the base.
    pub(super) fn trim_to(&mut self, index: Index) {
        let past = self.entries.partition_point(|entry| entry.0 <= index);
        self.entries.drain(..past.saturating_sub(1));
    }
}
