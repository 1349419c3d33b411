//! `raft::quorum` against the quorum cases of the crate `raft`: what a majority, simple or joint, has committed, and how a vote
//! stands.
//!
//! Two things have no counterpart here, are counted, and must stay as many as they are:
//! - *Group commit* (`group_committed`): commitment that waits for replicas of two different groups. We have no such rule.
//! - *No voters at all* (no `cfg`): "commits everything, wins every vote" there. A group without voters cannot exist here
//!   (`ChangeError::NoVoters`); the one half of a joint membership that may be empty is the outgoing one, and those cases run.

use plimsoll::raft::quorum::{Tally, reached, tally};
use plimsoll::raft::{Membership, NodeId};

use crate::testdata::{self, Case};

/// Nodes that are no voters, and claim everything: they must never count.
const OUTSIDERS: [NodeId; 2] = [900, 901];

/// The membership of a case, and its voters in the order in which the values are listed.
fn membership(case: &Case) -> (Membership, Vec<NodeId>) {
    let ids = |key| -> Vec<NodeId> {
        let values = case.values(key).unwrap_or_default().iter();
        let values = values.filter(|value| *value != "zero" && !value.is_empty());
        values.map(|value| value.parse().unwrap()).collect()
    };
    let (incoming, outgoing) = (ids("cfg"), ids("cfgj"));
    let mut listed: Vec<NodeId> = Vec::new();
    for &id in incoming.iter().chain(&outgoing) {
        if !listed.contains(&id) {
            listed.push(id);
        }
    }
    let membership = Membership {
        voters_outgoing: Membership::of_voters(outgoing).voters,
        learners: vec![OUTSIDERS[0]],
        ..Membership::of_voters(incoming)
    };
    (membership, listed)
}

/// The other order of the two halves, if both have voters.
fn swapped(membership: &Membership) -> Option<Membership> {
    let joint = !membership.voters_outgoing.is_empty();
    joint.then(|| Membership {
        voters: membership.voters_outgoing.clone(),
        voters_outgoing: membership.voters.clone(),
        learners: membership.learners.clone(),
    })
}

/// What `node` is listed with under `key`; `None` for `_`.
fn listed<'a>(case: &'a Case, key: &str, voters: &[NodeId], node: NodeId) -> Option<&'a str> {
    let position = voters.iter().position(|&voter| voter == node)?;
    let values = case.values(key).expect("values for every voter");
    assert_eq!(values.len(), voters.len(), "{}", case.place);
    Some(values[position].as_str()).filter(|&value| value != "_")
}

fn committed(case: &Case) {
    let (membership, voters) = membership(case);
    let index_of = |node| {
        if OUTSIDERS.contains(&node) {
            return 1_000_000;
        }
        listed(case, "idx", &voters, node).map_or(0, |index| index.parse().unwrap())
    };
    let expected: u64 = case.expected.lines().last().unwrap().parse().unwrap();
    assert_eq!(reached(&membership, index_of), expected, "{}", case.place);
    if let Some(swapped) = swapped(&membership) {
        assert_eq!(reached(&swapped, index_of), expected, "{}", case.place);
    } else {
        let twice = Membership {
            voters_outgoing: membership.voters.clone(),
            ..membership
        };
        assert_eq!(reached(&twice, index_of), expected, "{}", case.place);
    }
}

fn vote(case: &Case) {
    let (membership, voters) = membership(case);
    let vote_of = |node| {
        if OUTSIDERS.contains(&node) {
            return Some(true);
        }
        listed(case, "votes", &voters, node).map(|vote| vote == "y")
    };
    let expected = match case.expected.trim() {
        "VoteWon" => Tally::Won,
        "VoteLost" => Tally::Lost,
        "VotePending" => Tally::Open,
        other => panic!("{}: {other}", case.place),
    };
    assert_eq!(tally(&membership, vote_of), expected, "{}", case.place);
    if let Some(swapped) = swapped(&membership) {
        assert_eq!(tally(&swapped, vote_of), expected, "{}", case.place);
    }
}

#[test]
fn commit_indexes_and_votes_are_those_of_the_other_raft() {
    let (mut committed_cases, mut votes, mut group_commits, mut without_voters) = (0, 0, 0, 0);
    for case in testdata::read("quorum", 5).iter().flat_map(|file| &file.1) {
        match case.command.as_str() {
            "group_committed" => group_commits += 1,
            _ if case.values("cfg").is_none() => without_voters += 1,
            "committed" => {
                committed(case);
                committed_cases += 1;
            }
            "vote" => {
                vote(case);
                votes += 1;
            }
            other => panic!("{}: unknown command {other}", case.place),
        }
    }
    assert_eq!(
        (committed_cases, votes, group_commits, without_voters),
        (65, 59, 14, 3),
        "cases run, and cases without a counterpart"
    );
}
