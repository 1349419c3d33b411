//! Leadership transfer (thesis, 3.10).

use plimsoll::raft::{Message, NotLeader, Role, TransferError};

use crate::cluster::Cluster;
use crate::solo::Solo;

/// "The prior leader sends a TimeoutNow request to the target server", which campaigns at once, past the refusal of votes
/// that a live leader would cause.
#[test]
fn leadership_moves_to_an_up_to_date_target_at_once() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let now = cluster.now;
    assert_eq!(
        cluster.act(1, &[], |core| core.transfer_leader(now, 3)),
        Ok(())
    );
    cluster.settle();
    assert_eq!(
        (cluster.leader(), cluster.now),
        (Some(3), now),
        "no timeout was needed"
    );
    assert_eq!(
        (cluster.core(1).role(), cluster.core(1).leader()),
        (Role::Follower, Some(3))
    );
}

/// "The prior leader fully updates the target server's log to match its own" first.
#[test]
fn target_is_brought_up_to_date_first() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.nodes.get_mut(&3).unwrap().disk.stalled = true;
    cluster.propose(1, 20);
    cluster.settle();
    let now = cluster.now;
    cluster
        .act(1, &[], |core| core.transfer_leader(now, 3))
        .unwrap();
    cluster.settle();
    assert_eq!(cluster.leader(), Some(1));
    cluster.nodes.get_mut(&3).unwrap().disk.stalled = false;
    cluster.settle();
    assert_eq!(cluster.leader(), Some(3));
}

/// "The prior leader stops accepting new client requests", and goes on "if leadership transfer does not complete after
/// about an election timeout".
#[test]
fn transfer_refuses_proposals_and_is_given_up_after_an_election_timeout() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(3);
    let now = cluster.now;
    cluster
        .act(1, &[], |core| core.transfer_leader(now, 3))
        .unwrap();
    assert_eq!(cluster.core(1).transfer_target(), Some(3));
    assert_eq!(
        cluster.act(1, &[], |core| core.propose(1)),
        Err(NotLeader { leader: None })
    );
    assert_eq!(
        cluster.act(1, &[], |core| core.transfer_leader(now, 2)),
        Err(TransferError::InProgress(3))
    );
    cluster.run(299);
    assert!(!cluster.propose(1, 1));
    cluster.run(2);
    assert_eq!(
        (cluster.leader(), cluster.core(1).transfer_target()),
        (Some(1), None)
    );
    assert!(cluster.propose(1, 1));
    cluster.settle();
    assert_eq!(cluster.core(1).commit_index(), 3);
}

#[test]
fn impossible_targets_are_refused() {
    let mut solo = Solo::new(3, &[], 1);
    assert_eq!(
        solo.act(|core, now| core.transfer_leader(now, 2)),
        Err(TransferError::NotLeader { leader: None })
    );
    solo.lead();
    assert_eq!(
        solo.act(|core, now| core.transfer_leader(now, 1)),
        Err(TransferError::ToSelf)
    );
    assert_eq!(
        solo.act(|core, now| core.transfer_leader(now, 9)),
        Err(TransferError::NotAVoter(9))
    );
    assert_eq!(solo.core.transfer_target(), None);
}

/// A request to campaign that comes late, twice, or from somebody who does not lead, is ignored.
#[test]
fn stale_request_to_campaign_is_ignored() {
    let mut solo = Solo::new(3, &[], 4);
    solo.step(2, Message::TimeoutNow { term: 4 });
    solo.step(
        2,
        Message::Heartbeat {
            term: 4,
            commit: 0,
            round: 1,
        },
    );
    solo.step(3, Message::TimeoutNow { term: 4 });
    solo.step(2, Message::TimeoutNow { term: 3 });
    assert_eq!((solo.core.role(), solo.core.term()), (Role::Follower, 4));
    solo.step(2, Message::TimeoutNow { term: 4 });
    assert_eq!((solo.core.role(), solo.core.term()), (Role::Candidate, 5));
    solo.step(2, Message::TimeoutNow { term: 4 });
    assert_eq!(solo.core.term(), 5, "a repeat starts nothing");
}

/// Of those who may campaign, a learner is none, even if it is told to.
#[test]
fn learner_told_to_campaign_does_not() {
    let mut membership = plimsoll::raft::Membership::of_voters([2, 3]);
    membership.learners = vec![1];
    let mut solo = Solo::restored(plimsoll::raft::Restored::empty(membership));
    solo.step(
        2,
        Message::Heartbeat {
            term: 1,
            commit: 0,
            round: 1,
        },
    );
    solo.step(2, Message::TimeoutNow { term: 1 });
    assert_eq!(solo.core.role(), Role::Follower);
}
