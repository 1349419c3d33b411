//! How a leader finds the end of a follower's log, feeds it, and counts what comes back (5.3).

use plimsoll::raft::{
    Append, AppendOutcome, AppendPlan, Config, Effect, LogId, Membership, Message, ProgressState,
    Raft, Restored, Role, Run,
};

use crate::cluster::Cluster;
use crate::replication::{accepted, rejected};
use crate::solo::{Solo, id, runs};

/// Leads term 2 with a log of one entry before it; peers 2 and 3 hold all of it, and the pipelines are open.
fn settled_leader() -> Solo {
    let mut solo = Solo::new(3, &[1], 1);
    solo.lead();
    solo.sync();
    for peer in [2, 3] {
        solo.acknowledge(peer, 1);
        let plan = solo.core.next_append(peer).expect("the pipeline is open");
        solo.act(|core, now| core.sent(now, peer, plan.last, 100));
        solo.acknowledge(peer, plan.last);
    }
    assert_eq!(solo.core.commit_index(), 3, "no-op and membership");
    solo.take();
    solo
}

/// Section 5.3: "The leader ... issues AppendEntries RPCs in parallel to each of the other servers", each with the entry
/// before.
#[test]
fn leader_offers_new_entries_to_every_peer_before_its_own_disk_has_them() {
    let mut solo = settled_leader();
    let first = solo.act(|core, _| core.propose(5)).unwrap();
    assert_eq!(first, id(2, 4));
    for peer in [2, 3] {
        let plan = solo.core.next_append(peer).unwrap();
        assert_eq!((plan.first, plan.last), (4, 8));
        let message = solo.act(|core, now| core.sent(now, peer, 8, 500));
        let expected = Append {
            term: 2,
            prev: id(2, 3),
            runs: runs(4, &[2; 5]),
            last_index: 8,
            memberships: vec![],
            commit: 3,
        };
        assert_eq!(message, Message::Append(expected));
        assert_eq!(solo.core.next_append(peer), None);
    }
}

/// Section 5.3, and 10.2.1 of the thesis: the leader's own disk is one of the quorum, and counts when it is done.
#[test]
fn leader_counts_itself_only_when_its_disk_is_done() {
    let mut solo = settled_leader();
    solo.act(|core, _| core.propose(1)).unwrap();
    for peer in [2, 3] {
        solo.act(|core, now| core.sent(now, peer, 4, 100));
    }
    solo.acknowledge(2, 4);
    assert_eq!(
        solo.core.commit_index(),
        3,
        "one follower alone is no majority"
    );
    solo.sync();
    assert_eq!(solo.core.commit_index(), 4);

    let mut solo = settled_leader();
    solo.act(|core, _| core.propose(1)).unwrap();
    for peer in [2, 3] {
        solo.act(|core, now| core.sent(now, peer, 4, 100));
        solo.acknowledge(peer, 4);
    }
    assert_eq!(
        (solo.core.commit_index(), solo.core.durable_index()),
        (4, 3),
        "two followers are a majority"
    );
}

/// An acknowledgement names an entry, not only a place: one that the leader does not have proves nothing.
#[test]
fn ack_of_an_entry_the_leader_does_not_have_is_ignored() {
    let mut solo = settled_leader();
    solo.act(|core, _| core.propose(2)).unwrap();
    solo.sync();
    for matched in [id(1, 5), id(3, 5), id(2, 9)] {
        solo.step(2, accepted(2, matched, 0));
    }
    assert_eq!(solo.core.commit_index(), 3);
    assert_eq!(solo.core.progress(2).unwrap().match_index, 3);
}

/// Replies of an earlier term, repeats, and replies of strangers change nothing.
#[test]
fn stale_and_foreign_acks_do_not_count() {
    let mut solo = settled_leader();
    solo.act(|core, _| core.propose(2)).unwrap();
    solo.sync();
    solo.step(2, accepted(1, id(2, 5), 0));
    solo.step(9, accepted(2, id(2, 5), 0));
    assert_eq!(solo.core.commit_index(), 3);
    solo.acknowledge(2, 5);
    solo.acknowledge(2, 4);
    assert_eq!(
        (
            solo.core.commit_index(),
            solo.core.progress(2).unwrap().match_index
        ),
        (5, 5)
    );
    solo.step(2, rejected(2, 3, id(1, 1), 2));
    assert_eq!(
        solo.core.progress(2).unwrap().state,
        ProgressState::Pipeline,
        "nor does an old rejection"
    );
}

/// An ack of a leadership gone by is void, even if both still have the entry: a leader in between may have cut it off there. Were
/// it believed, the refusals that tell so would look like old ones, and the peer would never get what it lacks.
#[test]
fn ack_of_an_earlier_leadership_is_void_although_the_entry_is_ours() {
    let mut solo = Solo::new(3, &[1, 1, 1], 1);
    solo.lead();
    solo.step(2, accepted(1, id(1, 3), 0));
    assert_eq!(solo.core.progress(2).unwrap().match_index, 0);
    solo.step(2, rejected(2, 3, id(1, 1), 1));
    assert_eq!(
        solo.core.progress(2).unwrap().next_index,
        2,
        "it asks further back"
    );
}

/// The window of a peer is bounded in bytes, is filled exactly, and is emptied by acknowledgements and by falling back.
#[test]
fn window_is_bounded_in_bytes_and_given_back() {
    let mut solo = settled_leader();
    let max = 8 << 20;
    solo.act(|core, _| core.propose(100)).unwrap();
    let mut next = 4;
    for sent in 0..8 {
        let plan = solo.core.next_append(2).unwrap();
        assert_eq!(
            plan,
            AppendPlan {
                first: next,
                last: 103,
                bytes_max: max - (sent << 20)
            },
            "nothing is skipped"
        );
        solo.act(|core, now| core.sent(now, 2, next + 1, 1 << 20));
        next += 2;
    }
    assert_eq!(solo.core.next_append(2), None, "full");
    assert_eq!(solo.core.progress(2).unwrap().in_flight_bytes, max);
    solo.acknowledge(2, 6);
    assert_eq!(
        solo.core.progress(2).unwrap().in_flight_bytes,
        max - (1 << 20),
        "whole messages only"
    );
    assert_eq!(solo.core.next_append(2).unwrap().first, next);
    assert_eq!(
        solo.core.next_append(3).unwrap().bytes_max,
        max,
        "another peer's window is its own"
    );
    solo.act(|core, _| core.peer_unreachable(2));
    assert_eq!(solo.core.progress(2).unwrap().in_flight_bytes, 0);
    solo.acknowledge(2, next - 1);
    assert_eq!(solo.core.next_append(2).unwrap().bytes_max, max);
}

/// Section 5.3: followers that lack entries are brought up to date, however their logs end, in a few round trips: whole
/// terms are skipped.
#[test]
fn leader_finds_the_end_of_the_common_log_by_skipping_terms() {
    let mut long = vec![1];
    long.extend([2; 1000]);
    let mut stale = long.clone();
    stale.extend([3; 1000]);
    long.extend([4; 1000]);
    for (ours, theirs) in [
        (&long, &stale),
        (&long, &vec![1; 1]),
        (&long, &vec![]),
        (&stale, &vec![1, 2, 2]),
    ] {
        let membership = Membership::of_voters([1, 2, 3]);
        let logs = [(1, &ours[..]), (2, &theirs[..]), (3, &ours[..])];
        let mut cluster = Cluster::with_logs(&membership, logs, 5);
        cluster.now += 301;
        cluster.tick(1);
        let mut rejections = 0;
        for _ in 0..100 {
            cluster.work_disks();
            cluster.pump(1);
            for packet in std::mem::take(&mut cluster.network) {
                let outcome = if let Message::AppendReply { outcome, .. } = packet.message {
                    Some(outcome)
                } else {
                    None
                };
                rejections += u32::from(matches!(outcome, Some(AppendOutcome::Rejected { .. })));
                cluster.deliver(packet);
            }
        }
        assert_eq!(cluster.terms(2), cluster.terms(1));
        assert!(rejections <= 2, "{rejections} round trips were lost");
    }
}

/// A lost append in a pipeline leaves a gap: the follower refuses what follows, and the leader starts over from there.
#[test]
fn lost_append_is_found_and_sent_again() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    for _ in 0..3 {
        cluster.propose(1, 2);
        cluster.pump(1);
    }
    let lost = cluster
        .network
        .iter()
        .position(|packet| packet.to == 2 && !packet.entries.is_empty())
        .unwrap();
    cluster.network.remove(lost);
    cluster.settle();
    assert_eq!(cluster.terms(2), cluster.terms(1));
    assert_eq!(
        cluster.core(1).progress(2).unwrap().state,
        ProgressState::Pipeline
    );
}

/// Section 5.3: "the leader retries AppendEntries RPCs indefinitely": also when the lost append was the last one, when
/// the probe is lost, and when the connection broke.
#[test]
fn silence_of_a_peer_makes_the_leader_ask_again() {
    for lost_probes in 0..4 {
        let mut cluster = Cluster::new(3);
        cluster.elect(1);
        cluster.propose(1, 2);
        cluster.pump(1);
        cluster.network.retain(|packet| packet.to != 2);
        cluster.settle();
        for _ in 0..lost_probes {
            cluster.now += 60;
            cluster.act(1, &[], |core| core.peer_unreachable(2));
            cluster.tick(1);
            cluster.network.retain(|packet| packet.to != 2);
            cluster.settle();
        }
        assert_ne!(cluster.terms(2), cluster.terms(1));
        cluster.run(400);
        assert_eq!(cluster.terms(2), cluster.terms(1));
        assert_eq!(cluster.core(1).role(), Role::Leader);
    }
}

/// A broken connection costs one question, not the whole window once more: what had arrived is not sent again.
#[test]
fn after_a_broken_connection_only_what_was_lost_is_sent_again() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.nodes.get_mut(&2).unwrap().disk.stalled = true;
    cluster.propose(1, 4);
    cluster.settle();
    cluster.propose(1, 3);
    cluster.pump(1);
    cluster.network.retain(|packet| packet.to != 2);
    cluster.act(1, &[], |core| core.peer_unreachable(2));
    cluster.nodes.get_mut(&2).unwrap().disk.stalled = false;
    let mut resent = 0;
    for _ in 0..10 {
        cluster.work_disks();
        cluster.pump(1);
        for packet in std::mem::take(&mut cluster.network) {
            resent += if packet.to == 2 {
                packet.entries.len()
            } else {
                0
            };
            cluster.deliver(packet);
        }
    }
    assert_eq!((cluster.terms(2), resent), (cluster.terms(1), 3));
}

/// A peer that lacks only what is still kept gets just that, although it was taken to lack more: whoever restores its log by
/// other means is not given a state.
#[test]
fn peer_that_holds_the_entry_before_the_kept_log_is_not_given_a_state() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(3);
    cluster.propose(1, 20);
    cluster.settle();
    let commit = cluster.core(1).commit_index();
    cluster.trim(1, commit - 5);
    let prefix = cluster.nodes[&2].disk.log.clone();
    cluster.crash(3);
    cluster.nodes.get_mut(&3).unwrap().disk.log = prefix;
    cluster.start(3);
    cluster.heal();
    cluster.run(1_000);
    assert_eq!(cluster.core(3).commit_index(), commit);
    assert_eq!(cluster.core(3).first_index(), 1, "its log is as it was");
    assert_eq!(
        cluster.core(1).progress(3).unwrap().state,
        ProgressState::Pipeline
    );
}

/// Section 5.3, Leader Append-Only; and a proposal belongs to the term it was made in.
#[test]
fn proposals_are_numbered_by_the_term_that_took_them_and_refused_by_others() {
    let mut solo = settled_leader();
    assert_eq!(solo.act(|core, _| core.propose(3)), Ok(id(2, 4)));
    assert_eq!(solo.act(|core, _| core.propose(1)), Ok(id(2, 7)));
    solo.step(
        3,
        Message::Heartbeat {
            term: 3,
            commit: 0,
            round: 1,
        },
    );
    let refusal = solo.act(|core, _| core.propose(1)).unwrap_err();
    assert_eq!(refusal.leader, Some(3));
    assert_eq!(
        solo.core.last_index(),
        7,
        "what it appended stays until a leader contradicts it"
    );
}

/// Memory and work go with the leader changes in the log, not with its entries.
#[test]
fn log_of_any_length_is_a_few_runs() {
    let mut restored = Restored::empty(Membership::of_voters([1]));
    restored.ballot.term = 1;
    restored.runs = vec![Run { first: 1, term: 1 }];
    restored.last_index = 1 << 40;
    let mut core = Raft::new(Config::new(1, 1), restored, 0);
    core.tick(0);
    for _ in 0..2 {
        for effect in core.take_effects() {
            if let Effect::SaveBallot(ballot) = effect {
                core.ballot_durable(ballot);
            }
        }
    }
    let first = core.propose(1 << 40).unwrap();
    core.durable(
        0,
        LogId {
            term: 2,
            index: first.index + (1 << 40) - 1,
        },
        0,
    );
    assert_eq!(core.commit_index(), core.last_index());
    assert_eq!(core.term_at(1 << 39), Some(1));
}
