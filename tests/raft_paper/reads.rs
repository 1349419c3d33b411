//! Linearizable reads by ReadIndex (section 8; thesis, 6.4), at the leader and at followers.

use plimsoll::raft::{Effect, Message, Role};

use crate::cluster::Cluster;
use crate::solo::Solo;

/// Section 8: "a leader must check whether it has been deposed before processing a read-only request".
#[test]
fn leader_answers_a_read_after_a_round_begun_after_it() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.propose(1, 3);
    cluster.settle();
    let read = cluster.read(1);
    assert_eq!(
        cluster.history.reads.get(&read),
        None,
        "not before a quorum has answered"
    );
    cluster.settle();
    assert_eq!(cluster.history.reads[&read], Some(5));
}

/// Answers to a round that was under way when the read came prove nothing about it.
#[test]
fn round_begun_before_the_read_does_not_confirm_it() {
    let mut solo = Solo::new(3, &[], 1);
    solo.lead();
    solo.sync();
    solo.acknowledge(2, 0);
    solo.act(|core, now| core.sent(now, 2, 2, 10));
    solo.acknowledge(2, 2);
    solo.take();
    // Round 1 is under way, and not answered.
    solo.act(|core, now| core.read_index(now, 77));
    solo.step(2, Message::HeartbeatReply { term: 2, round: 1 });
    let effects = solo.take();
    assert!(!effects.contains(&Effect::ReadReady {
        token: 77,
        index: 2
    }));
    let heartbeat = Message::Heartbeat {
        term: 2,
        commit: 2,
        round: 2,
    };
    assert!(
        effects.contains(&Effect::Send {
            to: 2,
            message: heartbeat
        }),
        "but the next one begins at once"
    );
    solo.step(2, Message::HeartbeatReply { term: 2, round: 9 });
    assert_eq!(
        solo.take(),
        [],
        "a round that was never begun proves nothing either"
    );
    solo.step(2, Message::HeartbeatReply { term: 2, round: 2 });
    assert_eq!(
        solo.take(),
        [Effect::ReadReady {
            token: 77,
            index: 2
        }]
    );
}

/// Thesis, 6.4: "If the leader has not yet marked an entry from its current term committed, it waits until it has done so."
#[test]
fn read_right_after_an_election_waits_for_the_no_op() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.propose(1, 5);
    cluster.settle();
    // The next leader has all entries, but does not know yet that they are committed.
    cluster.cut.extend([(1, 2), (1, 3)]);
    cluster.now += 301;
    cluster.tick(2);
    while cluster.core(2).role() != Role::Leader {
        cluster.work_disks();
        for packet in std::mem::take(&mut cluster.network) {
            cluster.deliver(packet);
        }
    }
    let read = cluster.read(2);
    // Heartbeats alone, without the no-op, do not answer it.
    for _ in 0..4 {
        for packet in std::mem::take(&mut cluster.network) {
            if matches!(
                packet.message,
                Message::Heartbeat { .. } | Message::HeartbeatReply { .. }
            ) {
                cluster.deliver(packet);
            }
        }
    }
    assert_eq!(cluster.history.reads.get(&read), None);
    cluster.run(100);
    assert_eq!(cluster.history.reads[&read], Some(8), "with the no-op");
}

/// Reads at a leader that was deposed without knowing fail; they are never answered from its past.
#[test]
fn deposed_leader_answers_no_read() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(1);
    cluster.elect(2);
    cluster.propose(2, 3);
    cluster.settle();
    assert_eq!(cluster.core(1).role(), Role::Leader, "it does not know");
    let read = cluster.read(1);
    cluster.run(400);
    assert_eq!(cluster.history.reads[&read], None);
    let read = cluster.read(1);
    assert_eq!(
        cluster.history.reads[&read], None,
        "at once, now that it knows"
    );
}

/// A leader that was paused, and wakes up deposed, has no round that would speak for it.
#[test]
fn paused_leader_wakes_up_and_answers_no_read_from_its_past() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let read = cluster.read(1);
    let stuck = std::mem::take(&mut cluster.network);
    // Asleep: nothing reaches it, no time passes for it.
    cluster.isolate(1);
    cluster.elect(2);
    cluster.propose(2, 3);
    cluster.settle();
    cluster.heal();
    for packet in stuck {
        cluster.deliver(packet);
    }
    let late = cluster.read(1);
    cluster.settle();
    cluster.run(400);
    assert_ne!(cluster.history.reads.get(&late), Some(&Some(2)));
    assert_eq!(cluster.history.reads[&read], None);
}

/// Thesis, 6.4: a follower asks the leader for its read index, and waits until it has come so far itself.
#[test]
fn follower_read_waits_until_the_follower_has_come_so_far() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.settle();
    // Entries do not reach node 3 for a while.
    cluster.propose(1, 4);
    cluster.pump(1);
    let held: Vec<_> = cluster
        .network
        .extract_if(.., |packet| packet.to == 3)
        .collect();
    cluster.work_disks();
    for packet in std::mem::take(&mut cluster.network) {
        cluster.deliver(packet);
    }
    cluster.work_disks();
    let acks: Vec<_> = cluster
        .network
        .extract_if(.., |packet| packet.to == 1)
        .collect();
    for packet in acks {
        cluster.deliver(packet);
    }
    assert_eq!(cluster.core(1).commit_index(), 6);
    cluster.network.clear();
    let read = cluster.read(3);
    for _ in 0..6 {
        for packet in std::mem::take(&mut cluster.network) {
            cluster.deliver(packet);
        }
    }
    assert_eq!(
        (
            cluster.core(3).commit_index(),
            cluster.history.reads.get(&read)
        ),
        (2, None)
    );
    for packet in held {
        cluster.deliver(packet);
    }
    cluster.run(60);
    assert_eq!(cluster.history.reads[&read], Some(6));
}

/// Without a leader there is nobody to ask; a question that gets lost fails after an election timeout.
#[test]
fn follower_read_fails_without_a_leader_and_when_the_answer_is_lost() {
    let mut cluster = Cluster::new(3);
    let read = cluster.read(3);
    assert_eq!(cluster.history.reads[&read], None);
    cluster.elect(1);
    cluster.cut.insert((3, 1));
    let read = cluster.read(3);
    cluster.run(290);
    assert_eq!(cluster.history.reads.get(&read), None);
    cluster.run(20);
    assert_eq!(cluster.history.reads[&read], None);
}

/// A node asked by mistake says that it cannot tell.
#[test]
fn follower_refuses_to_answer_reads_of_others() {
    let mut solo = Solo::new(3, &[], 1);
    solo.step(2, Message::ReadIndex { term: 1, token: 5 });
    assert_eq!(
        solo.take_sent(),
        [(
            2,
            Message::ReadIndexReply {
                term: 1,
                token: 5,
                index: None
            }
        )]
    );
}

/// A late reply to a question of an earlier life of the node finds no question.
#[test]
fn reply_to_an_earlier_life_is_no_answer() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.read(3);
    let question = cluster.network.pop().unwrap();
    cluster.deliver(question);
    cluster.crash(3);
    cluster.start(3);
    cluster.run(100);
    let read = cluster.read(3);
    cluster.network.retain(|packet| packet.from != 3);
    let reply = |token| Message::ReadIndexReply {
        term: 1,
        token,
        index: Some(0),
    };
    for token in 0..100 {
        let now = cluster.now;
        cluster.act(3, &[], |core| core.step(now, 1, reply(token)));
    }
    assert_eq!(cluster.history.reads.get(&read), None);
}

/// Reads that come while a round runs share the next one.
#[test]
fn many_reads_share_two_rounds() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.settle();
    let reads: Vec<u64> = (0..100).map(|_| cluster.read(1)).collect();
    let mut heartbeats = 0;
    while !cluster.network.is_empty() {
        for packet in std::mem::take(&mut cluster.network) {
            heartbeats += usize::from(matches!(packet.message, Message::Heartbeat { .. }));
            cluster.deliver(packet);
        }
    }
    assert!(
        reads
            .iter()
            .all(|read| cluster.history.reads[read] == Some(2))
    );
    assert_eq!(heartbeats, 4, "two rounds to two peers");
}

/// A group of one confirms itself.
#[test]
fn single_voter_answers_reads_at_once() {
    let mut cluster = Cluster::new(1);
    cluster.run(10);
    let read = cluster.read(1);
    assert_eq!(cluster.history.reads[&read], Some(2));
}

/// Memory is bounded, whatever clients ask.
#[test]
fn reads_beyond_the_limit_are_refused() {
    let mut solo = Solo::new(3, &[], 1);
    solo.lead();
    for token in 0..20_000 {
        solo.act(|core, now| core.read_index(now, token));
    }
    let failed = solo
        .take()
        .into_iter()
        .filter(|effect| matches!(effect, Effect::ReadFailed { .. }))
        .count();
    assert_eq!(failed, 20_000 - 16 * 1024);
}
