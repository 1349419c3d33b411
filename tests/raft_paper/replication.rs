//! Log replication at a follower (5.3): the consistency check, truncation, commitment, acknowledgement.

use plimsoll::raft::{
    Append, AppendOutcome, Effect, Index, LogId, Membership, Message, Restored, Run, Term,
};

use crate::elections::vote;
use crate::solo::{Solo, append, id, runs};

pub(crate) fn accepted(term: Term, matched: LogId, commit: Index) -> Message {
    Message::AppendReply {
        term,
        outcome: AppendOutcome::Accepted { matched, commit },
    }
}

pub(crate) fn rejected(term: Term, prev_index: Index, hint: LogId, last_index: Index) -> Message {
    Message::AppendReply {
        term,
        outcome: AppendOutcome::Rejected {
            prev_index,
            hint,
            last_index,
        },
    }
}

/// Terms of the log that `solo` keeps.
fn terms(solo: &Solo) -> Vec<Term> {
    (1..=solo.core.last_index())
        .map(|index| solo.core.term_at(index).unwrap())
        .collect()
}

/// Section 5.3: "If the follower does not find an entry in its log with the same index and term, then it refuses the new
/// entries"; the refusal tells the conflicting term and its first index.
#[test]
fn follower_rejects_append_that_would_leave_a_gap_or_follow_a_conflict() {
    let cases = [
        (&[1, 1, 2][..], id(3, 5), rejected(3, 5, id(2, 3), 3)),
        (&[1, 1, 2], id(3, 3), rejected(3, 3, id(2, 3), 3)),
        (&[1, 1, 2, 2, 2], id(3, 4), rejected(3, 4, id(2, 3), 5)),
        (&[], id(1, 1), rejected(3, 1, LogId::ZERO, 0)),
        // A term that is not known here is not the term 0.
        (&[1, 1, 2], id(0, 5), rejected(3, 5, id(2, 3), 3)),
    ];
    for (ours, prev, reply) in cases {
        let mut solo = Solo::new(3, ours, 3);
        solo.step(2, append(3, prev, &[3], 0));
        assert_eq!(solo.take_sent(), [(2, reply)], "{ours:?} after {prev:?}");
        assert_eq!(terms(&solo), ours);
    }
}

/// Figure 2, receiver's rules 3 and 4: delete what conflicts and all that follows; append what is not there yet.
#[test]
fn follower_replaces_exactly_what_conflicts() {
    let cases = [
        (
            &[1, 1][..],
            id(1, 2),
            &[3, 3][..],
            None,
            Some((3, 4)),
            &[1, 1, 3, 3][..],
        ),
        (
            &[1, 1, 2, 2],
            id(1, 2),
            &[3],
            Some(2),
            Some((3, 3)),
            &[1, 1, 3],
        ),
        (
            &[1, 1, 2, 2],
            id(1, 1),
            &[1, 3, 3],
            Some(2),
            Some((3, 4)),
            &[1, 1, 3, 3],
        ),
        (&[1, 2, 3, 3], id(1, 1), &[2, 3], None, None, &[1, 2, 3, 3]),
        (&[1, 2, 3, 3], id(2, 2), &[], None, None, &[1, 2, 3, 3]),
        (
            &[1, 2],
            LogId::ZERO,
            &[1, 2, 3],
            None,
            Some((3, 3)),
            &[1, 2, 3],
        ),
    ];
    for (ours, prev, sent, cut, written, result) in cases {
        let mut solo = Solo::new(3, ours, 3);
        solo.step(2, append(3, prev, sent, 0));
        assert_eq!(terms(&solo), result);
        let effects = solo.take();
        let truncate = effects.iter().find_map(|e| {
            if let Effect::Truncate { after } = e {
                Some(*after)
            } else {
                None
            }
        });
        let write = effects.iter().find_map(|e| {
            if let Effect::AppendRemote { first, last } = e {
                Some((*first, *last))
            } else {
                None
            }
        });
        assert_eq!(
            (truncate, write),
            (cut, written),
            "{ours:?} after {prev:?} gets {sent:?}"
        );
    }
}

/// A repeated, reordered or old append takes nothing away: only a conflict does.
#[test]
fn old_append_does_not_truncate_what_came_after_it() {
    let mut solo = Solo::new(3, &[1], 2);
    let first = append(2, id(1, 1), &[2], 0);
    let second = append(2, id(2, 2), &[2, 2], 0);
    for message in [
        first.clone(),
        second.clone(),
        first.clone(),
        second,
        first,
        append(2, id(1, 1), &[], 0),
    ] {
        solo.step(2, message);
    }
    assert_eq!(terms(&solo), [1, 2, 2, 2]);
    assert_eq!(solo.core.truncations(), 0);
}

/// Entries below the kept log are committed: an append that begins there is taken from where the log begins.
#[test]
fn append_that_begins_below_the_trimmed_prefix_is_no_conflict() {
    let mut restored = Restored::empty(Membership::of_voters([1, 2, 3]));
    restored.ballot.term = 3;
    restored.prev = id(2, 5);
    restored.runs = runs(6, &[2, 2]);
    restored.last_index = 7;
    let mut solo = Solo::restored(restored);
    solo.step(2, append(3, id(1, 3), &[1, 2, 2, 2, 3], 5));
    assert_eq!(
        (
            solo.core.last_index(),
            solo.core.commit_index(),
            solo.core.truncations()
        ),
        (8, 5, 0)
    );
    assert!(
        solo.take()
            .contains(&Effect::AppendRemote { first: 8, last: 8 })
    );
    solo.sync();
    assert_eq!(solo.take_sent(), [(2, accepted(3, id(3, 8), 5))]);
    solo.step(2, append(3, LogId::ZERO, &[1], 0));
    assert_eq!(
        solo.core.last_index(),
        8,
        "an append that lies wholly below is only acknowledged"
    );
    assert_eq!(solo.take_sent(), [(2, accepted(3, id(3, 8), 5))]);
}

/// A leader that contradicts a committed entry is no leader: stopping is all that is left.
#[test]
#[should_panic(expected = "contradicts the committed entry")]
fn conflict_with_a_committed_entry_is_a_broken_assumption() {
    let mut solo = Solo::new(3, &[1, 1, 1], 2);
    solo.step(2, append(2, id(1, 3), &[], 3));
    solo.step(2, append(3, id(1, 1), &[3], 0));
}

/// An acknowledgement says "durable": it waits for the disk, covers what one fsync covered, and no more.
#[test]
fn ack_waits_for_the_disk_and_covers_what_is_durable() {
    let mut solo = Solo::new(3, &[1], 2);
    solo.step(2, append(2, id(1, 1), &[2, 2], 0));
    solo.step(2, append(2, id(2, 3), &[2], 0));
    assert_eq!(solo.take_sent(), []);
    solo.sync_to(2);
    assert_eq!(solo.take_sent(), [(2, accepted(2, id(2, 2), 0))]);
    solo.sync_to(4);
    assert_eq!(
        solo.take_sent(),
        [(2, accepted(2, id(2, 4), 0))],
        "two appends share one"
    );
    solo.sync_to(4);
    assert_eq!(solo.take_sent(), []);
}

/// An acknowledgement is for what the leader of this term has shown to match, not for all that is durable.
#[test]
fn ack_does_not_cover_entries_the_leader_has_not_shown() {
    let mut solo = Solo::new(3, &[1, 1, 1, 1], 2);
    solo.step(2, append(2, id(1, 2), &[], 0));
    assert_eq!(solo.take_sent(), [(2, accepted(2, id(1, 2), 0))]);
}

/// Acks of one burst are one message.
#[test]
fn newest_ack_replaces_the_one_before() {
    let mut solo = Solo::new(3, &[1, 1, 1], 2);
    let (term, truncations) = (solo.core.term(), solo.core.truncations());
    assert_eq!((term, truncations), (2, 0));
    for index in 1..=3 {
        solo.core.step(solo.now, 2, append(2, id(1, index), &[], 0));
    }
    let sent: Vec<Effect> = solo
        .core
        .take_effects()
        .into_iter()
        .filter(|e| matches!(e, Effect::Send { .. }))
        .collect();
    assert_eq!(
        sent,
        [Effect::Send {
            to: 2,
            message: accepted(2, id(1, 3), 0)
        }]
    );
}

/// What was owed to the leader of a term that has passed is not paid.
#[test]
fn ack_is_dropped_when_the_term_moves_on() {
    let mut solo = Solo::new(3, &[1], 2);
    solo.step(2, append(2, id(1, 1), &[2], 0));
    solo.step(3, append(3, id(1, 1), &[], 0));
    solo.take();
    solo.sync();
    assert_eq!(solo.take(), []);
}

/// Disk completions that a truncation has overtaken say nothing, even when the same entry has come back since.
#[test]
fn completion_of_a_write_from_before_a_truncation_is_ignored() {
    let mut solo = Solo::new(3, &[1], 2);
    solo.step(2, append(2, id(1, 1), &[2, 2], 0));
    solo.step(3, append(3, id(1, 1), &[3], 0));
    solo.step(2, append(4, id(1, 1), &[2, 2], 0));
    assert_eq!((terms(&solo), solo.core.truncations()), (vec![1, 2, 2], 2));
    solo.take();
    solo.act(|core, now| core.durable(now, id(2, 3), 0));
    assert_eq!((solo.core.durable_index(), solo.take()), (1, vec![]));
    solo.act(|core, now| core.durable(now, id(2, 3), 2));
    assert_eq!(solo.take_sent(), [(2, accepted(4, id(2, 3), 0))]);
}

/// Completions may come in any order, and for entries that are no longer there; durable never goes back by them.
#[test]
fn completions_out_of_order_and_of_other_terms_are_harmless() {
    let mut solo = Solo::new(3, &[1], 2);
    solo.step(2, append(2, id(1, 1), &[2, 2, 2], 0));
    solo.sync_to(4);
    solo.sync_to(2);
    assert_eq!(solo.core.durable_index(), 4);
    for wrong in [id(3, 4), id(2, 5), id(1, 2)] {
        solo.act(|core, now| core.durable(now, wrong, 0));
    }
    assert_eq!(solo.core.durable_index(), 4);
}

/// Figure 2, receiver's rule 5: "set commitIndex = min(leaderCommit, index of last new entry)".
#[test]
fn follower_commits_no_further_than_the_leader_has_shown_its_log() {
    let mut solo = Solo::new(3, &[1, 1, 1, 1], 2);
    solo.step(2, append(2, id(1, 2), &[], 4));
    assert_eq!(solo.core.commit_index(), 2);
    solo.step(2, append(2, id(1, 2), &[1], 9));
    assert_eq!(solo.core.commit_index(), 3);
}

/// A heartbeat that speaks of entries this node does not have durably breaks nothing.
#[test]
fn heartbeat_commits_only_what_is_durable_here() {
    let mut solo = Solo::new(3, &[1, 1], 2);
    solo.step(
        2,
        Message::Heartbeat {
            term: 2,
            commit: 7,
            round: 1,
        },
    );
    assert_eq!(solo.core.commit_index(), 0);
    solo.step(
        2,
        Message::Heartbeat {
            term: 2,
            commit: 2,
            round: 1,
        },
    );
    assert_eq!(solo.core.commit_index(), 2);
    assert_eq!(
        solo.take_sent(),
        [(2, Message::HeartbeatReply { term: 2, round: 1 })],
        "a round is answered once"
    );
}

/// Numbers that contradict each other come from a faulty peer, and are dropped.
#[test]
fn malformed_append_is_dropped() {
    let run = |first, term| Run { first, term };
    let cases: [(LogId, Vec<Run>, Index); 9] = [
        (id(1, 1), vec![], 3),
        (id(1, 1), vec![run(2, 2)], 1),
        (id(1, 1), vec![run(3, 2)], 3),
        (id(1, 1), vec![run(2, 0)], 3),
        (id(2, 1), vec![run(2, 1)], 3),
        (id(1, 1), vec![run(2, 2), run(2, 2)], 3),
        (id(1, 1), vec![run(2, 2), run(4, 2)], 3),
        (id(1, 1), vec![run(2, 9)], 3),
        (id(1, u64::MAX), vec![run(0, 2)], 3),
    ];
    for (prev, runs, last_index) in cases {
        let mut solo = Solo::new(3, &[1], 2);
        let malformed = Append {
            term: 2,
            prev,
            runs,
            last_index,
            memberships: vec![],
            commit: 1,
        };
        solo.step(2, Message::Append(malformed.clone()));
        assert_eq!(
            (solo.core.last_index(), solo.take()),
            (1, vec![]),
            "{malformed:?}"
        );
    }
    let mut solo = Solo::new(3, &[1], 2);
    let memberships = vec![(5, Membership::of_voters([1]))];
    let stray = Append {
        term: 2,
        prev: id(1, 1),
        runs: runs(2, &[2]),
        last_index: 2,
        memberships,
        commit: 1,
    };
    solo.step(2, Message::Append(stray));
    assert_eq!((solo.core.last_index(), solo.core.membership().0), (1, 0));
}

/// What a node hears from itself, from node 0 or with numbers no log can reach, it drops.
#[test]
fn impossible_messages_are_dropped() {
    let mut solo = Solo::new(3, &[1], 1);
    let huge = 1 << 62;
    solo.step(1, vote(5, id(5, 5)));
    solo.step(0, vote(5, id(5, 5)));
    solo.step(2, vote(u64::MAX, id(5, 5)));
    solo.step(2, append(huge, id(1, 1), &[2], 1));
    solo.step(2, append(2, id(2, huge), &[2], 1));
    assert_eq!(
        (solo.core.term(), solo.core.last_index(), solo.take()),
        (1, 1, Vec::new())
    );
}
