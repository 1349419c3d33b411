//! Memberships as entries of the log (section 6): when they come into force, when they cease to be, and what counts then.

use plimsoll::raft::{
    Append, ChangeError, Effect, LogId, Membership, Message, Restored, Role, Target,
};

use crate::cluster::Cluster;
use crate::solo::{Solo, append, id, runs};

/// From voters 1, 2 and 3 to 3, 4 and 5, in between, and 6 learning.
fn joint() -> Membership {
    Membership {
        voters: vec![3, 4, 5],
        voters_outgoing: vec![1, 2, 3],
        learners: vec![6],
    }
}

fn append_membership(term: u64, prev: LogId, membership: &Membership) -> Message {
    let last_index = prev.index + 1;
    let memberships = vec![(last_index, membership.clone())];
    Message::Append(Append {
        term,
        prev,
        runs: runs(last_index, &[term]),
        last_index,
        memberships,
        commit: 0,
    })
}

/// Section 6: "Once a given server adds the new configuration entry to its log, it uses that configuration for all future
/// decisions (a server always uses the latest configuration in its log, regardless of whether the entry is committed)."
#[test]
fn membership_is_in_force_from_the_moment_it_is_appended() {
    let mut solo = Solo::new(3, &[1], 1);
    solo.step(2, append_membership(2, id(1, 1), &joint()));
    assert_eq!(solo.core.membership(), (2, &joint()));
    assert_eq!(solo.core.commit_index(), 0);
}

/// A membership whose entry is truncated was never in force: the one before it is again.
#[test]
fn truncated_membership_gives_way_to_the_one_before() {
    let mut solo = Solo::new(3, &[1], 1);
    let (first, second) = (Membership::of_voters([1, 2, 3, 4]), joint());
    solo.step(2, append_membership(2, id(1, 1), &first));
    solo.step(2, append_membership(2, id(2, 2), &second));
    solo.step(3, append(3, id(2, 2), &[3], 0));
    assert_eq!(solo.core.membership(), (2, &first));
    solo.step(3, append(4, id(1, 1), &[4], 0));
    assert_eq!(
        solo.core.membership(),
        (0, &Membership::of_voters([1, 2, 3]))
    );
}

/// An append that repeats a membership entry does not repeat its effect.
#[test]
fn repeated_membership_entry_counts_once() {
    let mut solo = Solo::new(3, &[1], 1);
    let message = append_membership(2, id(1, 1), &joint());
    solo.step(2, message.clone());
    solo.step(2, append(2, id(2, 2), &[2], 0));
    solo.step(2, message);
    assert_eq!((solo.core.membership().0, solo.core.last_index()), (2, 3));
}

/// A restart finds the membership where the log has it, trimmed or not; it never falls back to how the group began.
#[test]
fn membership_survives_restart_and_trimming() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.propose(1, 5);
    cluster.settle();
    assert_eq!(
        cluster.core(2).membership().0,
        2,
        "the log itself says who belongs to the group"
    );
    for trimmed in [false, true] {
        if trimmed {
            cluster.trim(2, 4);
            assert_eq!(cluster.core(2).membership().0, 2);
        }
        cluster.crash(2);
        cluster.start(2);
        assert_eq!(
            cluster.core(2).membership(),
            (2, &Membership::of_voters([1, 2, 3]))
        );
        cluster.run(1_000);
    }
    assert_eq!(
        cluster.core(2).commit_index(),
        cluster.core(1).commit_index()
    );
}

/// Section 6: during a joint change, "agreement (for elections and entry commitment) requires separate majorities from
/// both the old and new configurations."
#[test]
fn joint_membership_needs_both_majorities_to_elect() {
    let mut restored = Restored::empty(joint());
    restored.ballot.term = 1;
    for (granting, wins) in [
        (&[2, 4][..], false),
        (&[4, 5], false),
        (&[2, 4, 5], true),
        (&[3, 4], true),
        (&[3], false),
    ] {
        let mut solo = Solo::restored(restored.clone());
        solo.campaign();
        for &voter in granting {
            solo.step(
                voter,
                Message::VoteReply {
                    term: 2,
                    granted: true,
                    conditional: false,
                },
            );
        }
        assert_eq!(
            solo.core.role() == Role::Leader,
            wins,
            "votes of {granting:?} beside its own"
        );
    }
}

/// The same for commitment; the learner counts in neither.
#[test]
fn joint_membership_needs_both_majorities_to_commit() {
    for (holding, commits) in [
        (&[2, 6][..], false),
        (&[4, 5, 6], false),
        (&[2, 4, 5], true),
        (&[3, 4], true),
        (&[3, 6], false),
    ] {
        let mut restored = Restored::empty(joint());
        restored.ballot.term = 1;
        let mut solo = Solo::restored(restored);
        solo.lead();
        solo.sync();
        for &peer in holding {
            solo.acknowledge(peer, 0);
            solo.act(|core, now| core.sent(now, peer, 2, 10));
            solo.acknowledge(peer, 2);
        }
        assert_eq!(
            solo.core.commit_index() == 2,
            commits,
            "{holding:?} beside the leader, which is in the old set"
        );
    }
}

/// A leader that is not among the voters does not count itself.
#[test]
fn leader_outside_the_new_voters_is_not_counted_there() {
    let membership = Membership {
        voters: vec![2, 3, 4],
        voters_outgoing: vec![1],
        learners: vec![],
    };
    let mut restored = Restored::empty(membership);
    restored.ballot.term = 1;
    let mut solo = Solo::restored(restored);
    solo.lead();
    solo.sync();
    for (peer, commit) in [(2, 0), (3, 2)] {
        solo.acknowledge(peer, 0);
        solo.act(|core, now| core.sent(now, peer, 2, 10));
        solo.acknowledge(peer, 2);
        assert_eq!(solo.core.commit_index(), commit);
    }
}

/// A learner receives the log and the commit index, and is no part of any quorum.
#[test]
fn learner_follows_without_counting() {
    let membership = Membership {
        voters: vec![1, 2],
        voters_outgoing: vec![],
        learners: vec![3],
    };
    let mut cluster = Cluster::with_logs(&membership, [(1, &[][..]), (2, &[]), (3, &[])], 0);
    cluster.elect(1);
    cluster.propose(1, 3);
    cluster.settle();
    assert_eq!(cluster.core(3).commit_index(), 5);
    cluster.isolate(2);
    cluster.propose(1, 1);
    cluster.settle();
    assert_eq!(
        cluster.core(1).commit_index(),
        5,
        "leader and learner are no majority of two voters"
    );
    cluster.run(400);
    assert_ne!(
        cluster.core(1).role(),
        Role::Leader,
        "nor do they keep it in office"
    );
}

/// Appends carry the memberships among their entries.
#[test]
fn append_carries_the_memberships_among_its_entries() {
    let mut solo = Solo::new(3, &[], 1);
    solo.lead();
    solo.acknowledge(2, 0);
    let message = solo.act(|core, now| core.sent(now, 2, 1, 10));
    let Message::Append(Append { memberships, .. }) = message else {
        panic!("an append")
    };
    assert_eq!(memberships, []);
    let message = solo.act(|core, now| core.sent(now, 2, 2, 10));
    let Message::Append(Append { memberships, .. }) = message else {
        panic!("an append")
    };
    assert_eq!(memberships, [(2, Membership::of_voters([1, 2, 3]))]);
    assert!(
        !solo
            .take()
            .iter()
            .any(|effect| matches!(effect, Effect::Truncate { .. }))
    );
}

/// Whoever has appended a membership asks by it for votes, committed or not: by the one before, two leaders could be elected.
#[test]
fn candidate_needs_the_quorum_of_what_it_has_appended() {
    let mut solo = Solo::new(3, &[1], 1);
    solo.step(2, append_membership(2, id(1, 1), &joint()));
    solo.sync();
    solo.campaign();
    let granted = Message::VoteReply {
        term: 3,
        granted: true,
        conditional: false,
    };
    for (voter, role) in [
        (2, Role::Candidate),
        (4, Role::Candidate),
        (5, Role::Leader),
    ] {
        solo.step(voter, granted.clone());
        assert_eq!(solo.core.role(), role, "after the vote of {voter}");
    }
}

/// A leader that finds itself in a joint membership leaves it, as the one that began it would have done.
#[test]
fn later_leader_leaves_the_joint_membership_it_finds() {
    let joint = Membership {
        voters: vec![1, 2],
        voters_outgoing: vec![1, 2, 3],
        learners: vec![],
    };
    let mut restored = Restored::empty(Membership::of_voters([1, 2, 3]));
    restored.ballot.term = 1;
    restored.runs = runs(1, &[1, 1]);
    restored.last_index = 2;
    restored.memberships.push((2, joint));
    let mut solo = Solo::restored(restored);
    solo.lead();
    solo.sync();
    solo.acknowledge(2, 2);
    solo.act(|core, now| core.sent(now, 2, 3, 10));
    solo.acknowledge(2, 3);
    assert_eq!(solo.core.membership(), (4, &Membership::of_voters([1, 2])));
}

/// The mistake of single-server changes (Ongaro, 2015): a new leader may not know yet that a change before its term is committed.
#[test]
fn new_leader_changes_nothing_before_its_term_has_a_commit() {
    let mut solo = Solo::new(3, &[1], 1);
    solo.lead();
    let target = Target {
        voters: vec![1, 2, 3],
        learners: vec![4],
    };
    let refused = solo.act(|core, now| core.propose_membership(now, target.clone()));
    assert_eq!(refused, Err(ChangeError::Unsettled));
}
