//! A voter that may have lost entries it once acknowledged: what its vote is worth, and how it becomes a voter like others.
//!
//! `History` holds every leader against all that was ever committed, so a scenario that elects a shorter log fails there.

use plimsoll::raft::{LogId, Membership, Message, NodeId, Restored, Role, Term};

use crate::cluster::Cluster;
use crate::solo::{Solo, append, id, runs};

/// Voters 1 to 3 in term 1, led by 1, with everything durable everywhere.
fn three() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.propose(1, 5);
    cluster.settle();
    cluster
}

fn all_trusted(cluster: &Cluster) -> bool {
    cluster
        .ids()
        .into_iter()
        .all(|node| !cluster.core(node).tail_suspect())
}

fn assert_serves(cluster: &mut Cluster) {
    let leader = cluster.leader().expect("there is a leader");
    let before = cluster.history.committed_index();
    assert!(cluster.propose(leader, 1));
    cluster.run(1_000);
    assert!(cluster.history.committed_index() > before);
    assert!(all_trusted(cluster));
}

#[test]
fn one_suspect_of_three_gets_back_what_it_lost_from_the_others() {
    let mut cluster = three();
    let last = cluster.core(1).last_index();
    cluster.lose_tail(3, 3);
    cluster.start(3);
    assert!(cluster.core(3).tail_suspect());
    cluster.run(2_000);
    assert!(cluster.core(3).commit_index() > last);
    assert!(!cluster.core(3).tail_suspect());
    assert_serves(&mut cluster);
}

/// Entries were committed by 1 and 3; 3 lost them, 1 is away. The vote of 3 must not help 2, which never had them.
#[test]
fn suspect_vote_does_not_help_a_shorter_log_while_another_voter_is_away() {
    let mut cluster = three();
    cluster.isolate(2);
    cluster.propose(1, 3);
    cluster.settle();
    let committed = cluster.history.committed_index();
    assert!(committed > cluster.core(2).last_index());
    cluster.crash(1);
    cluster.lose_tail(3, 3);
    cluster.heal();
    cluster.start(3);
    cluster.run(10_000);
    assert_eq!(cluster.leader(), None, "nobody may lead without 1");
    cluster.start(1);
    cluster.run(2_000);
    assert_eq!(cluster.leader(), Some(1));
    assert_serves(&mut cluster);
}

/// A log that is longer than what the suspect has left is no proof: it may still be shorter than what it had.
#[test]
fn suspect_vote_does_not_help_a_log_between_what_it_has_and_what_it_had() {
    let mut cluster = three();
    cluster.propose(1, 2);
    cluster.settle();
    cluster.isolate(2);
    cluster.propose(1, 3);
    cluster.settle();
    cluster.crash(1);
    cluster.lose_tail(3, 4);
    cluster.heal();
    cluster.start(3);
    assert!(cluster.core(2).last_index() > cluster.core(3).last_index());
    cluster.run(10_000);
    assert_eq!(cluster.leader(), None);
    cluster.start(1);
    cluster.run(2_000);
    assert_serves(&mut cluster);
}

#[test]
fn group_comes_back_by_itself_when_all_are_suspect_and_the_best_log_wins() {
    for best in 1..=3 {
        let mut cluster = three();
        for node in 1..=3 {
            cluster.lose_tail(node, if node == best { 0 } else { node });
        }
        for node in 1..=3 {
            cluster.start(node);
        }
        cluster.run(5_000);
        assert_serves(&mut cluster);
    }
}

#[test]
fn two_suspects_wait_for_the_third_however_long() {
    let mut cluster = three();
    cluster.crash(3);
    for node in [1, 2] {
        cluster.lose_tail(node, 2);
        cluster.start(node);
    }
    cluster.run(20_000);
    assert_eq!(cluster.leader(), None);
    cluster.start(3);
    cluster.run(3_000);
    assert_serves(&mut cluster);
}

#[test]
fn suspect_that_is_alone_leads() {
    let mut cluster = Cluster::new(1);
    cluster.elect(1);
    cluster.lose_tail(1, 0);
    cluster.start(1);
    cluster.run(1_000);
    assert_serves(&mut cluster);
}

#[test]
fn suspicion_outlives_restarts_until_it_is_settled() {
    let mut cluster = three();
    cluster.crash(2);
    cluster.lose_tail(3, 2);
    cluster.isolate(3);
    for _ in 0..3 {
        cluster.start(3);
        cluster.run(1_000);
        assert!(cluster.core(3).tail_suspect());
        cluster.crash(3);
    }
    cluster.heal();
    cluster.start(2);
    cluster.start(3);
    cluster.run(2_000);
    assert_serves(&mut cluster);
}

/// The leader takes a follower to have what it acknowledged in this term: a later term makes all that void.
#[test]
fn suspect_ends_the_term_of_its_former_life_once_and_no_other() {
    let mut cluster = three();
    let term = cluster.core(1).term();
    cluster.lose_tail(3, 3);
    cluster.start(3);
    cluster.run(3_000);
    let leader = cluster.leader().unwrap();
    let after = cluster.core(leader).term();
    assert!(after > term && after <= term + 3, "{term} became {after}");
    cluster.run(10_000);
    assert_eq!(cluster.core(leader).term(), after);
}

/// Node 1 of three with the log `terms`, in term 5, after a loss.
fn suspect(terms: &[Term]) -> Solo {
    let mut restored = Restored::empty(Membership::of_voters(1..=3));
    restored.ballot.term = 5;
    restored.runs = runs(1, terms);
    restored.last_index = terms.len() as u64;
    restored.suspect_tail = true;
    Solo::restored(restored)
}

#[test]
fn leader_of_the_former_life_is_told_a_later_term() {
    for message in [
        append(5, id(4, 2), &[5], 0),
        Message::Heartbeat {
            term: 5,
            commit: 1,
            round: 1,
        },
    ] {
        let mut solo = suspect(&[4, 4]);
        solo.step(2, message);
        assert_eq!((solo.core.term(), solo.core.leader()), (6, None));
        assert_eq!(solo.core.last_index(), 2, "nothing of it is taken");
        let replies = solo.take_sent();
        assert!(
            replies
                .iter()
                .all(|(to, reply)| *to == 2 && reply.term() == 6)
        );
        assert_eq!(replies.len(), 1);
    }
}

/// Entries of old terms, however many, prove nothing: an entry that was lost may follow them.
#[test]
fn only_a_durable_entry_of_a_later_term_settles_it() {
    let mut solo = suspect(&[4, 4]);
    solo.step(2, append(7, id(4, 2), &[5, 5], 4));
    solo.sync();
    assert!(solo.core.tail_suspect());
    solo.step(2, append(7, id(5, 4), &[7], 4));
    assert!(solo.core.tail_suspect(), "it is not durable yet");
    solo.sync();
    assert!(!solo.core.tail_suspect());
}

#[test]
fn votes_and_pre_votes_of_a_suspect_are_conditional() {
    let mut solo = suspect(&[4, 4]);
    solo.wait(10);
    solo.take();
    let last = id(5, 9);
    solo.step(2, Message::PreVote { term: 6, last });
    let (granted, conditional) = (true, true);
    let reply = Message::PreVoteReply {
        term: 6,
        granted,
        conditional,
    };
    assert_eq!(solo.take_sent(), [(2, reply)]);
    let vote = Message::Vote {
        term: 6,
        last,
        transfer: false,
    };
    solo.step(2, vote);
    let reply = Message::VoteReply {
        term: 6,
        granted,
        conditional,
    };
    assert_eq!(solo.take_sent(), [(2, reply)]);
    let refused = Message::Vote {
        term: 7,
        last: LogId::ZERO,
        transfer: false,
    };
    solo.step(3, refused);
    let reply = Message::VoteReply {
        term: 7,
        granted: false,
        conditional: false,
    };
    assert_eq!(solo.take_sent(), [(3, reply)]);
}

/// What voters 2 to 5 answer: yes, yes on condition, no, nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    Yes,
    OnCondition,
    No,
    Nothing,
}

/// Every combination of answers in groups of three and five, and in a joint one, against the rule in its plainest words.
#[test]
fn conditional_votes_count_only_if_every_voter_agrees() {
    let joint = Membership {
        voters_outgoing: vec![1, 2, 3],
        ..Membership::of_voters([1, 4, 5])
    };
    for membership in [
        Membership::of_voters(1..=3),
        Membership::of_voters(1..=5),
        joint,
    ] {
        let others = membership.members().len() - 1;
        for number in 0..4_usize.pow(others as u32) {
            let said = |node: NodeId| match number / 4_usize.pow(node as u32 - 2) % 4 {
                0 => Said::Yes,
                1 => Said::OnCondition,
                2 => Said::No,
                _ => Said::Nothing,
            };
            let all = |voters: &[NodeId]| {
                let yes = |node: &NodeId| matches!(said(*node), Said::Yes | Said::OnCondition);
                voters.iter().all(|node| *node == 1 || yes(node))
            };
            let most = |voters: &[NodeId]| {
                let yes = |node: &&NodeId| **node == 1 || said(**node) == Said::Yes;
                voters.is_empty() || voters.iter().filter(yes).count() * 2 > voters.len()
            };
            let (new, old) = (&membership.voters[..], &membership.voters_outgoing[..]);
            let wins = (most(new) && most(old)) || (all(new) && all(old));
            assert_eq!(
                wins_with(&membership, said),
                wins,
                "{membership:?}: {:?}",
                (2..=membership.members().len() as u64)
                    .map(said)
                    .collect::<Vec<_>>()
            );
        }
    }
}

/// Whether node 1 becomes a leader of `membership` by what the others said.
fn wins_with(membership: &Membership, said: impl Fn(NodeId) -> Said) -> bool {
    let mut restored = Restored::empty(membership.clone());
    restored.ballot.term = 1;
    let mut solo = Solo::restored(restored);
    solo.campaign();
    for voter in solo.others() {
        let answer = said(voter);
        if answer != Said::Nothing {
            let reply = Message::VoteReply {
                term: 2,
                granted: answer != Said::No,
                conditional: answer == Said::OnCondition,
            };
            solo.step(voter, reply);
        }
    }
    solo.core.role() == Role::Leader
}
