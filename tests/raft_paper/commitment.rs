//! What is committed and who learns of it when (5.3, 5.4.2), crashes of followers (5.5), the no-op of a term (section 8).

use plimsoll::raft::{Effect, LogId, Membership, Message, OwnEntry, Role};

use crate::cluster::Cluster;
use crate::solo::{Solo, append, id};

/// Section 8: "Raft handles this by having each leader commit a blank no-op entry into the log at the start of its term."
#[test]
fn leader_opens_its_term_with_a_no_op() {
    let mut solo = Solo::new(3, &[1, 1], 1);
    solo.lead();
    let own: Vec<Effect> = solo
        .take()
        .into_iter()
        .filter(|e| matches!(e, Effect::AppendOwn { .. }))
        .collect();
    let membership = OwnEntry::Membership(Membership::of_voters([1, 2, 3]));
    assert_eq!(
        own[0],
        Effect::AppendOwn {
            id: id(2, 3),
            entry: OwnEntry::Noop
        }
    );
    assert_eq!(
        own[1..],
        [Effect::AppendOwn {
            id: id(2, 4),
            entry: membership
        }],
        "once, in a group without one"
    );

    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.elect(2);
    cluster.run(100);
    assert_eq!(
        cluster.terms(1),
        [1, 1, 2],
        "no-op and membership, then a no-op alone"
    );
    assert_eq!(cluster.core(1).commit_index(), 3);
}

/// Section 5.4.2: "Raft never commits log entries from previous terms by counting replicas."
#[test]
fn entries_of_earlier_terms_commit_only_with_one_of_the_current_term() {
    let mut solo = Solo::new(3, &[1, 1], 1);
    solo.lead();
    solo.sync();
    solo.acknowledge(2, 2);
    solo.acknowledge(3, 2);
    assert_eq!(
        solo.core.commit_index(),
        0,
        "on all three, and not committed"
    );
    let last = solo.core.last_index();
    solo.act(|core, now| core.sent(now, 2, last, 10));
    solo.acknowledge(2, last);
    assert_eq!(solo.core.commit_index(), last);
}

/// Section 5.3: "The leader keeps track of the highest index it knows to be committed, and it includes that index in
/// future AppendEntries RPCs (including heartbeats)."
#[test]
fn commit_index_travels_with_appends_and_heartbeats() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.propose(1, 3);
    cluster.settle();
    for node in 1..=3 {
        assert_eq!(
            cluster.core(node).commit_index(),
            5,
            "node {node} knows at once, though nothing follows"
        );
    }
    cluster.propose(1, 1);
    cluster.pump(1);
    let carried = cluster
        .network
        .iter()
        .find_map(|packet| match &packet.message {
            Message::Append(append) => Some(append.commit),
            _ => None,
        });
    assert_eq!(carried, Some(5));
}

/// A heartbeat lets a follower commit no more than that follower has acknowledged.
#[test]
fn heartbeat_carries_the_smaller_of_commit_and_match() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.nodes.get_mut(&3).unwrap().disk.stalled = true;
    cluster.propose(1, 5);
    cluster.settle();
    let (commit, matched) = (
        cluster.core(1).commit_index(),
        cluster.core(1).progress(3).unwrap().match_index,
    );
    assert!(matched < commit);
    cluster.now += 50;
    cluster.tick(1);
    let commit_for = |node| {
        let heartbeat = cluster
            .network
            .iter()
            .find(|packet| packet.to == node)
            .map(|packet| packet.message.clone());
        if let Some(Message::Heartbeat { commit, .. }) = heartbeat {
            Some(commit)
        } else {
            None
        }
    };
    assert_eq!(
        (commit_for(2), commit_for(3)),
        (Some(commit), Some(matched))
    );
}

/// A follower shows what is committed elsewhere before its own disk has it. A crash may take that from it; it shows it
/// again only after it has been sent it again.
#[test]
fn follower_may_publish_ahead_of_its_disk_and_recovers_from_losing_that() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.nodes.get_mut(&3).unwrap().disk.stalled = true;
    cluster.propose(1, 5);
    cluster.settle();
    cluster.propose(1, 1);
    cluster.settle();
    let (commit, durable) = (
        cluster.core(3).commit_index(),
        cluster.core(3).durable_index(),
    );
    assert!(durable < commit, "committed by the others");
    cluster.crash(3);
    cluster.start(3);
    assert!(cluster.core(3).last_index() < commit);
    cluster.nodes.get_mut(&3).unwrap().disk.stalled = false;
    cluster.run(500);
    assert_eq!(
        cluster.core(3).commit_index(),
        cluster.core(1).commit_index()
    );
    assert_eq!(
        (cluster.core(1).role(), cluster.terms(3)),
        (Role::Leader, cluster.terms(1))
    );
}

/// Section 5.5: "If a follower or candidate crashes, then future RequestVote and AppendEntries RPCs sent to it will fail.
/// Raft handles these failures by retrying indefinitely", and they are idempotent.
#[test]
fn follower_that_crashed_before_answering_takes_the_same_append_again() {
    for disk_was_done in [false, true] {
        let mut cluster = Cluster::new(3);
        cluster.elect(1);
        cluster.propose(1, 3);
        cluster.pump(1);
        let to_two: Vec<_> = cluster
            .network
            .extract_if(.., |packet| packet.to == 2)
            .collect();
        for packet in to_two.clone() {
            cluster.deliver(packet);
        }
        if disk_was_done {
            while cluster.nodes.get_mut(&2).unwrap().disk.work() {}
        }
        cluster.crash(2);
        cluster.start(2);
        for packet in to_two {
            cluster.deliver(packet);
        }
        cluster.run(500);
        assert_eq!(cluster.terms(2), cluster.terms(1));
        assert_eq!(cluster.core(2).commit_index(), 5);
    }
}

/// Section 5.3: a majority is enough; a slow follower does not hold up the others.
#[test]
fn slow_minority_does_not_delay_commitment() {
    let mut cluster = Cluster::new(5);
    cluster.elect(1);
    for slow in [4, 5] {
        cluster.isolate(slow);
    }
    cluster.propose(1, 10);
    cluster.settle();
    assert_eq!(cluster.core(1).commit_index(), 12);
    cluster.isolate(3);
    cluster.propose(1, 10);
    cluster.settle();
    assert_eq!(
        cluster.core(1).commit_index(),
        12,
        "two of five commit nothing"
    );
}

/// Section 5.4.3, Leader Completeness: whoever wins has all that was committed.
#[test]
fn next_leader_has_all_that_was_committed() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut.extend([(1, 3), (3, 1)]);
    cluster.propose(1, 10);
    cluster.settle();
    let commit = cluster.core(1).commit_index();
    cluster.crash(1);
    cluster.run(2_000);
    assert_eq!(
        cluster.leader(),
        Some(2),
        "node 3 lacks committed entries and cannot win"
    );
    assert!(cluster.core(2).commit_index() > commit);
}

/// A follower commits by what an append shows, whatever its own disk does; the ack still waits.
#[test]
fn commit_at_a_follower_does_not_wait_for_its_disk_but_the_ack_does() {
    let mut solo = Solo::new(3, &[], 1);
    solo.step(2, append(1, LogId::ZERO, &[1, 1], 2));
    let effects = solo.take();
    assert!(effects.contains(&Effect::Commit { index: 2 }));
    assert!(
        !effects
            .iter()
            .any(|effect| matches!(effect, Effect::Send { .. }))
    );
}

/// A group of one needs nobody: it leads at its first tick and commits by its own disk alone.
#[test]
fn single_voter_leads_at_once_and_commits_by_its_own_disk() {
    let mut cluster = Cluster::new(1);
    assert!(cluster.core(1).next_deadline() <= cluster.now);
    cluster.tick(1);
    cluster.settle();
    assert_eq!(
        (cluster.core(1).role(), cluster.core(1).commit_index()),
        (Role::Leader, 2)
    );
    cluster.nodes.get_mut(&1).unwrap().disk.stalled = true;
    assert!(cluster.propose(1, 3));
    cluster.settle();
    assert_eq!(cluster.core(1).commit_index(), 2, "not before its disk");
    cluster.nodes.get_mut(&1).unwrap().disk.stalled = false;
    cluster.settle();
    assert_eq!(cluster.core(1).commit_index(), 5);
    assert_eq!(
        cluster.core(1).next_deadline(),
        u64::MAX,
        "and sleeps when idle"
    );
}
