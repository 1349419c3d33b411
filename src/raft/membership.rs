//! Who belongs to a group, as the log says.
//!
//! Owns the set of members and its history along the log: a membership counts from the moment its entry is appended,
//! committed or not (section 6 of the paper), and ceases to count when that entry is truncated. It must not know how
//! quorums are counted. On the walk append.

use super::NodeId;

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
