//! Counting: what a quorum of a membership has reached, and how a vote stands.
//!
//! Owns the arithmetic of majorities, simple and joint. Pure functions of a [`Membership`]; who reached what is asked of
//! the caller, and nodes outside the voters are never asked: learners, removed nodes, or a leader that is no voter. Public so that a
//! test can hold it against another implementation.

use super::{Membership, NodeId};

/// How a vote stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// A quorum said yes.
    Won,
    /// A quorum can no longer say yes.
    Lost,
    /// It depends on answers that are still out.
    Open,
}

/// Smallest number of voters that any two groups of as many share one of.
fn majority(voters: usize) -> usize {
    match super::mutation::is("half is a majority") {
        true => (voters / 2).max(1),
        false => voters / 2 + 1,
    }
}

/// The largest value that a majority of `voters` has reached; 0 if there are no voters.
fn reached_by(voters: &[NodeId], value_of: &impl Fn(NodeId) -> u64) -> u64 {
    // Quadratic and without an allocation: groups have 3, 5 or 7 voters, and this runs on every acknowledgement.
    let reaches = |value: u64| {
        voters
            .iter()
            .filter(|&&voter| value_of(voter) >= value)
            .count()
    };
    let values = voters.iter().map(|&voter| value_of(voter));
    values
        .filter(|&value| reaches(value) >= majority(voters.len()))
        .max()
        .unwrap_or(0)
}

/// The largest value that a quorum has reached: during a joint change, a majority of both sets of voters.
pub fn reached(membership: &Membership, value_of: impl Fn(NodeId) -> u64) -> u64 {
    let incoming = reached_by(&membership.voters, &value_of);
    if !membership.joint() {
        incoming
    } else {
        incoming.min(reached_by(&membership.voters_outgoing, &value_of))
    }
}

fn tally_of(voters: &[NodeId], vote_of: &impl Fn(NodeId) -> Option<bool>) -> Tally {
    let granted = voters
        .iter()
        .filter(|&&voter| vote_of(voter) == Some(true))
        .count();
    let refused = voters
        .iter()
        .filter(|&&voter| vote_of(voter) == Some(false))
        .count();
    if granted >= majority(voters.len()) {
        Tally::Won
    } else if voters.len() - refused < majority(voters.len()) {
        Tally::Lost
    } else {
        Tally::Open
    }
}

/// How a vote stands: won if won in both sets of voters, lost if lost in either.
pub fn tally(membership: &Membership, vote_of: impl Fn(NodeId) -> Option<bool>) -> Tally {
    let incoming = tally_of(&membership.voters, &vote_of);
    if !membership.joint() {
        return incoming;
    }
    match (incoming, tally_of(&membership.voters_outgoing, &vote_of)) {
        (Tally::Won, Tally::Won) => Tally::Won,
        (Tally::Lost, _) | (_, Tally::Lost) => Tally::Lost,
        _ => Tally::Open,
    }
}

#[cfg(test)]
mod tests;
