//! Elections that should not happen: PreVote (thesis, 9.6), refusal of votes under a live leader (section 6), learners,
//! returning and restarted nodes.

use plimsoll::raft::{Ballot, Config, Effect, LogId, Membership, Message, Raft, Restored, Role};

use crate::cluster::Cluster;
use crate::elections::{heartbeat, vote};
use crate::solo::{Solo, id};

/// A learner never campaigns; but it votes, since it may have been promoted without knowing yet.
#[test]
fn learner_does_not_campaign_but_votes() {
    let mut membership = Membership::of_voters([2, 3]);
    membership.learners = vec![1];
    let mut solo = Solo::restored(Restored::empty(membership));
    for _ in 0..10 {
        solo.wait(301);
        assert_eq!(solo.core.role(), Role::Follower);
    }
    assert!(solo.core.next_deadline() > solo.now, "and does not spin");
    solo.step(2, vote(1, LogId::ZERO));
    assert_eq!(
        solo.take_sent(),
        [(
            2,
            Message::VoteReply {
                term: 1,
                granted: true,
                conditional: false,
            }
        )]
    );
}

/// Thesis, 9.6: answering a pre-vote changes neither term, nor vote, nor timer.
#[test]
fn pre_vote_changes_nothing_at_the_voter() {
    let mut solo = Solo::new(3, &[], 1);
    let deadline = solo.core.next_deadline();
    solo.now += 100;
    solo.step(
        2,
        Message::PreVote {
            term: 2,
            last: LogId::ZERO,
        },
    );
    assert_eq!(
        solo.take_sent(),
        [(
            2,
            Message::PreVoteReply {
                term: 2,
                granted: true,
                conditional: false,
            }
        )]
    );
    assert_eq!(
        solo.core.ballot(),
        Ballot {
            term: 1,
            vote: None
        }
    );
    assert_eq!(solo.core.next_deadline(), deadline);
    solo.step(2, vote(2, LogId::ZERO));
    assert!(
        solo.core.next_deadline() >= solo.now + 150,
        "a real vote does grant time"
    );
}

fn pre_vote(term: u64) -> Message {
    let last = LogId::ZERO;
    Message::PreVote { term, last }
}

/// What the core said to a pre-vote just now.
fn said(solo: &mut Solo) -> bool {
    match solo.take_sent().as_slice() {
        [(_, Message::PreVoteReply { granted, .. })] => *granted,
        other => panic!("{other:?}"),
    }
}

/// Two that time out at once ask each other: one gives way, and the other leads, without another timeout.
#[test]
fn of_two_that_ask_each_other_for_pre_votes_one_leads_at_once() {
    let mut cluster = Cluster::new(3);
    cluster.crash(2);
    cluster.now += 301;
    cluster.tick(1);
    cluster.tick(3);
    cluster.settle();
    assert_eq!(cluster.leader(), Some(3));
    assert_eq!(cluster.core(3).term(), 1, "one election was enough");
}

/// The better log goes before the greater number.
#[test]
fn of_two_that_ask_each_other_the_one_with_the_better_log_leads_at_once() {
    let membership = Membership::of_voters([1, 2, 3]);
    let logs = [(1, &[1, 1][..]), (2, &[1]), (3, &[1])];
    let mut cluster = Cluster::with_logs(&membership, logs, 1);
    cluster.crash(2);
    cluster.now += 301;
    cluster.tick(1);
    cluster.tick(3);
    cluster.settle();
    assert_eq!(cluster.leader(), Some(1));
}

/// A pre-candidate whose questions nobody answers stands in nobody's way: the others may not hear it.
#[test]
fn pre_candidate_without_answers_goes_before_others_for_no_longer_than_a_heartbeat() {
    let mut restored = Restored::empty(Membership::of_voters([1, 2, 3]));
    restored.ballot.term = 1;
    let core = Raft::new(Config::new(3, 11), restored, 1_000);
    let mut solo = Solo {
        core,
        now: 1_000,
        effects: Vec::new(),
    };
    solo.wait(301);
    assert_eq!(solo.core.role(), Role::PreCandidate);
    solo.take();
    solo.now += 49;
    solo.step(1, pre_vote(2));
    assert!(!said(&mut solo), "the greater number goes first");
    solo.now += 1;
    solo.step(1, pre_vote(2));
    assert!(said(&mut solo));
}

/// Whoever was told first that this node would vote for it has the time to ask for the vote; but only so much, and only once in a term:
/// it may be gone, or unable to win.
#[test]
fn voter_favours_the_first_that_asks_for_the_shortest_timeout_and_once_a_term() {
    let mut solo = Solo::new(3, &[], 1);
    solo.step(2, pre_vote(2));
    assert!(said(&mut solo));
    let deadline = solo.core.next_deadline();
    solo.now += 100;
    solo.step(3, pre_vote(2));
    assert!(!said(&mut solo), "node 2 is about to campaign");
    solo.step(2, pre_vote(2));
    assert!(said(&mut solo));
    solo.now += 50;
    solo.step(3, pre_vote(2));
    assert!(said(&mut solo), "node 2 has had its time");
    solo.step(2, pre_vote(2));
    assert!(said(&mut solo), "nobody is favoured again in this term");
    assert_eq!(solo.core.next_deadline(), deadline);
}

/// A voter of an earlier term with the better log, and one of a later term with the worse log: each refuses the other
/// at first, and still one of them wins.
#[test]
fn pre_votes_of_mixed_terms_do_not_deadlock() {
    let membership = Membership::of_voters([1, 2, 3]);
    let logs = [(1, &[1, 1, 1][..]), (2, &[1, 1]), (3, &[1])];
    let mut cluster = Cluster::with_logs(&membership, logs, 1);
    cluster.crash(3);
    let host = cluster.nodes.get_mut(&2).unwrap();
    host.disk.ballot = Ballot {
        term: 7,
        vote: Some(3),
    };
    cluster.crash(2);
    cluster.start(2);
    cluster.run(3_000);
    assert_eq!(cluster.leader(), Some(1));
    assert!(cluster.core(1).term() > 7);
}

/// A pre-vote that arrives after its question has lost its meaning starts nothing.
#[test]
fn stale_pre_vote_reply_starts_no_campaign() {
    let mut solo = Solo::new(3, &[], 1);
    solo.wait(301);
    solo.step(2, heartbeat(1));
    solo.step(
        3,
        Message::PreVoteReply {
            term: 2,
            granted: true,
            conditional: false,
        },
    );
    assert_eq!((solo.core.role(), solo.core.term()), (Role::Follower, 1));
    let mut solo = Solo::new(3, &[], 1);
    solo.campaign();
    solo.step(
        3,
        Message::PreVoteReply {
            term: 2,
            granted: true,
            conditional: false,
        },
    );
    solo.step(
        3,
        Message::PreVoteReply {
            term: 3,
            granted: true,
            conditional: false,
        },
    );
    assert_eq!((solo.core.role(), solo.core.term()), (Role::Candidate, 2));
}

/// Section 6: "If a server receives a RequestVote RPC within the minimum election timeout of hearing from a current
/// leader, it does not update its term or grant its vote."
#[test]
fn votes_are_refused_while_a_live_leader_is_heard() {
    let mut solo = Solo::new(3, &[], 1);
    solo.step(2, heartbeat(1));
    solo.take();
    solo.now += 149;
    solo.step(3, vote(8, id(8, 8)));
    assert_eq!((solo.take(), solo.core.term()), (Vec::new(), 1));
    solo.step(
        3,
        Message::PreVote {
            term: 8,
            last: id(8, 8),
        },
    );
    assert_eq!(
        solo.take_sent(),
        [(
            3,
            Message::PreVoteReply {
                term: 1,
                granted: false,
                conditional: false,
            }
        )]
    );
    solo.now += 1;
    solo.step(3, vote(8, id(8, 8)));
    assert_eq!(
        solo.take_sent(),
        [(
            3,
            Message::VoteReply {
                term: 8,
                granted: true,
                conditional: false,
            }
        )]
    );

    let mut solo = Solo::new(3, &[], 1);
    solo.lead();
    solo.step(3, vote(8, id(8, 8)));
    assert_eq!(
        (solo.core.role(), solo.core.term()),
        (Role::Leader, 2),
        "nor is a leader deposed by a vote"
    );
}

/// A node that was cut off, or removed without knowing, comes back without disturbing the leader or raising terms.
#[test]
fn isolated_node_returns_without_disturbing_the_leader() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let term = cluster.core(1).term();
    for _ in 0..5 {
        cluster.isolate(3);
        cluster.run(5_000);
        assert_eq!(
            cluster.core(3).term(),
            term,
            "it asks first, and asks in vain"
        );
        cluster.heal();
        cluster.run(1_000);
        assert_eq!((cluster.leader(), cluster.core(1).term()), (Some(1), term));
        assert_eq!(cluster.core(3).leader(), Some(1));
    }
}

/// A leader that restarts does not lead its old term again: what it said in it may be lost.
#[test]
fn restarted_leader_leads_only_a_later_term() {
    let mut cluster = Cluster::new(1);
    cluster.run(100);
    let mut last = 0;
    for _ in 0..5 {
        let term = cluster.core(1).term();
        assert!(cluster.core(1).role() == Role::Leader && term > last);
        last = term;
        cluster.crash(1);
        cluster.start(1);
        cluster.run(100);
    }
}

/// An entry of a term proves the term, though the crash came between the log and the ballot.
#[test]
fn log_of_a_later_term_than_the_ballot_raises_the_term() {
    let mut restored = Restored::empty(Membership::of_voters([1, 2, 3]));
    restored.runs = crate::solo::runs(1, &[1, 4]);
    restored.last_index = 2;
    restored.ballot = Ballot {
        term: 3,
        vote: Some(2),
    };
    let mut core = Raft::new(Config::new(1, 1), restored, 0);
    let ballot = Ballot {
        term: 4,
        vote: None,
    };
    assert_eq!(core.ballot(), ballot);
    assert!(core.take_effects().contains(&Effect::SaveBallot(ballot)));
}
