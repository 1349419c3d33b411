//! Section 7: a peer that lacks what is trimmed at the leader is given a state in its place. And peers that are far behind, but not
//! that far.

use plimsoll::raft::{
    AppendOutcome, Config, Effect, Index, Install, LogId, Membership, Message, Offer,
    ProgressState, Restored, Role, Term,
};

use crate::cluster::{Cluster, Packet};
use crate::solo::{Solo, append, id, runs};

/// Node 1 leads, node 3 is cut off and lacks `count` entries, of which the leader keeps the last five.
fn behind(count: u64) -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(3);
    cluster.propose(1, count);
    cluster.settle();
    let commit = cluster.core(1).commit_index();
    cluster.trim(1, commit - 5);
    cluster
}

fn state(cluster: &Cluster, peer: u64) -> ProgressState {
    cluster.core(1).progress(peer).unwrap().state
}

fn is_equal_behind_its_base(cluster: &Cluster, node: u64) {
    let (ours, theirs) = (&cluster.nodes[&1].log, &cluster.nodes[&node].log);
    let from = ours.prev.index.max(theirs.prev.index) + 1;
    assert_eq!(
        ours.slice(from, ours.last_index()),
        theirs.slice(from, theirs.last_index())
    );
    assert_eq!(
        cluster.core(node).commit_index(),
        cluster.core(1).commit_index()
    );
}

#[test]
fn follower_behind_the_kept_log_is_given_a_state_and_then_entries() {
    let mut cluster = behind(20);
    cluster.heal();
    cluster.run(1_000);
    is_equal_behind_its_base(&cluster, 3);
    assert_eq!(cluster.nodes[&3].log.prev, cluster.nodes[&1].log.prev);
    assert_eq!(state(&cluster, 3), ProgressState::Pipeline);
    // It leads like any other, once it is asked to.
    cluster.elect(3);
    assert!(cluster.propose(3, 1));
    cluster.run(500);
    is_equal_behind_its_base(&cluster, 3);
}

#[test]
fn others_are_served_while_a_peer_is_given_a_state() {
    let mut cluster = behind(20);
    cluster.heal();
    cluster.nodes.get_mut(&3).unwrap().disk.stalled = true;
    cluster.run(1_000);
    assert_eq!(state(&cluster, 3), ProgressState::Install);
    let commit = cluster.core(1).commit_index();
    assert!(cluster.propose(1, 3));
    cluster.settle();
    assert_eq!(cluster.core(2).commit_index(), commit + 3);
}

/// Figure 13, step 8, and rule 5 of the house: nothing is asserted before it is durable.
#[test]
fn state_is_not_acknowledged_before_it_is_durable() {
    let mut cluster = behind(20);
    cluster.heal();
    cluster.nodes.get_mut(&3).unwrap().disk.stalled = true;
    cluster.run(5_000);
    let base = cluster.nodes[&1].log.prev.index;
    assert!(cluster.core(1).progress(3).unwrap().match_index < base);
    assert_eq!(state(&cluster, 3), ProgressState::Install);
    assert!(cluster.core(3).is_pending());
    assert_eq!(cluster.core(3).durable_index(), 0);
    cluster.nodes.get_mut(&3).unwrap().disk.stalled = false;
    cluster.run(3_000);
    is_equal_behind_its_base(&cluster, 3);
}

#[test]
fn lost_and_repeated_pieces_do_no_harm() {
    let mut cluster = behind(20);
    cluster.heal();
    let (mut seen, mut old) = (0_u64, Vec::<Packet>::new());
    for _ in 0..400 {
        cluster.now += 40;
        for node in cluster.ids() {
            cluster.tick(node);
        }
        cluster.work_disks();
        cluster.pump(1);
        for packet in std::mem::take(&mut cluster.network) {
            let installs = matches!(
                packet.message,
                Message::Install(_) | Message::InstallReply { .. }
            );
            seen += u64::from(installs);
            if installs && seen % 3 == 0 {
                continue;
            }
            if installs {
                // Whatever was said before is said again now and then.
                old.push(packet.clone());
                let again = old[seen as usize % old.len()].clone();
                cluster.deliver(again);
            }
            cluster.deliver(packet);
        }
    }
    assert!(seen > 6, "{seen} pieces and answers");
    is_equal_behind_its_base(&cluster, 3);
    for again in old {
        cluster.deliver(again);
    }
    cluster.run(1_000);
    is_equal_behind_its_base(&cluster, 3);
}

#[test]
fn follower_that_crashes_at_any_moment_is_given_the_state_again() {
    for crash_after in 0..12 {
        let mut cluster = behind(20);
        cluster.heal();
        cluster.nodes.get_mut(&3).unwrap().disk.stalled = true;
        cluster.now += 60;
        for node in cluster.ids() {
            cluster.tick(node);
        }
        for _ in 0..crash_after {
            cluster.work_disks();
            cluster.pump(1);
            for packet in std::mem::take(&mut cluster.network) {
                cluster.deliver(packet);
            }
        }
        cluster.crash(3);
        cluster.nodes.get_mut(&3).unwrap().disk.stalled = false;
        cluster.start(3);
        cluster.run(4_000);
        is_equal_behind_its_base(&cluster, 3);
    }
}

#[test]
fn new_leader_begins_over_with_a_state_of_its_own() {
    let mut cluster = behind(20);
    let commit = cluster.core(1).commit_index();
    cluster.trim(2, commit - 2);
    cluster.heal();
    // One piece arrives, then the leader is gone.
    for _ in 0..20 {
        cluster.now += 40;
        cluster.tick(1);
        cluster.pump(1);
        for packet in std::mem::take(&mut cluster.network) {
            if !matches!(packet.message, Message::InstallReply { .. }) {
                cluster.deliver(packet);
            }
        }
    }
    assert!(cluster.core(3).is_receiving());
    cluster.crash(1);
    cluster.run(3_000);
    assert_eq!(cluster.leader(), Some(2));
    assert_eq!(cluster.nodes[&3].log.prev.index, commit - 2);
    cluster.start(1);
    cluster.run(3_000);
    is_equal_behind_its_base(&cluster, 3);
}

/// Whatever is not committed and not the leader's goes, also beyond the base.
#[test]
fn uncommitted_entries_give_way_to_the_state() {
    let membership = Membership::of_voters(1..=3);
    let long: Vec<Term> = [&[1][..], &[2; 30]].concat();
    let mut cluster = Cluster::with_logs(
        &membership,
        [(1, &[1, 1][..]), (2, &[1, 1]), (3, &long[..])],
        3,
    );
    cluster.isolate(3);
    cluster.elect(1);
    cluster.propose(1, 12);
    cluster.settle();
    let commit = cluster.core(1).commit_index();
    cluster.trim(1, commit - 1);
    assert!(commit < 31);
    cluster.heal();
    cluster.run(3_000);
    is_equal_behind_its_base(&cluster, 3);
}

/// The leader's log moves on while the state is under way: another one is offered, and the peer takes that.
#[test]
fn log_trimmed_further_during_an_install_leads_to_another_offer() {
    let mut cluster = behind(20);
    cluster.heal();
    cluster.nodes.get_mut(&3).unwrap().disk.stalled = true;
    cluster.run(1_000);
    cluster.propose(1, 10);
    cluster.settle();
    let commit = cluster.core(1).commit_index();
    cluster.trim(1, commit - 1);
    cluster.run(500);
    cluster.nodes.get_mut(&3).unwrap().disk.stalled = false;
    cluster.run(4_000);
    is_equal_behind_its_base(&cluster, 3);
    assert_eq!(cluster.nodes[&3].log.prev.index, commit - 1);
}

// ---- one follower, asked one thing at a time ----

fn offer(base: LogId, snapshot: LogId) -> Offer {
    Offer {
        base,
        snapshot,
        membership: (1, Membership::of_voters(1..=3)),
        bytes: 10,
        digest: 7,
    }
}

fn piece(term: Term, offer: &Offer, offset: u64, len: u64) -> Message {
    Message::Install(Install {
        term,
        offer: offer.clone(),
        offset,
        len,
    })
}

fn received(solo: &mut Solo) -> Vec<u64> {
    let effects = std::mem::take(&mut solo.effects).into_iter();
    effects
        .filter_map(|effect| match effect {
            Effect::Send {
                message: Message::InstallReply { received, .. },
                ..
            } => Some(received),
            _ => None,
        })
        .collect()
}

fn acked(solo: &mut Solo) -> Vec<LogId> {
    let effects = std::mem::take(&mut solo.effects).into_iter();
    effects
        .filter_map(|effect| match effect {
            Effect::Send {
                message:
                    Message::AppendReply {
                        outcome: AppendOutcome::Accepted { matched, .. },
                        ..
                    },
                ..
            } => Some(matched),
            _ => None,
        })
        .collect()
}

#[test]
fn pieces_count_in_order_and_a_gap_is_asked_for_again() {
    let mut solo = Solo::new(3, &[1, 1], 2);
    let offer = offer(id(2, 20), id(2, 25));
    solo.step(2, piece(2, &offer, 4, 4));
    assert_eq!(received(&mut solo), [0]);
    solo.step(2, piece(2, &offer, 0, 4));
    solo.step(2, piece(2, &offer, 0, 4));
    assert_eq!(received(&mut solo), [4, 4]);
    solo.step(2, piece(2, &offer, 6, 4));
    assert_eq!(received(&mut solo), [4]);
    assert_eq!(
        solo.core.last_index(),
        2,
        "nothing happens before all is there"
    );
    solo.step(2, piece(2, &offer, 4, 6));
    assert!(solo.effects.contains(&Effect::Install(offer)));
    assert_eq!((solo.core.last_index(), solo.core.commit_index()), (20, 20));
}

#[test]
fn earlier_offer_that_arrives_late_does_not_displace_a_later_one() {
    let mut solo = Solo::new(3, &[1, 1], 2);
    let (old, new) = (offer(id(2, 20), id(2, 25)), offer(id(2, 30), id(2, 40)));
    solo.step(2, piece(2, &old, 0, 4));
    solo.step(2, piece(2, &new, 0, 4));
    received(&mut solo);
    solo.step(2, piece(2, &old, 4, 6));
    assert!(received(&mut solo).is_empty());
    solo.step(2, piece(2, &new, 4, 6));
    assert_eq!(solo.core.last_index(), 30);
}

#[test]
fn state_of_an_earlier_term_is_refused_with_ours() {
    let mut solo = Solo::new(3, &[1, 1], 5);
    solo.step(2, piece(4, &offer(id(2, 20), id(2, 25)), 0, 10));
    assert_eq!(solo.core.last_index(), 2);
    let refused = solo
        .effects
        .iter()
        .any(|effect| matches!(effect, Effect::Send { message, .. } if message.term() == 5));
    assert!(refused);
}

#[test]
fn state_that_is_not_needed_is_answered_with_an_ack_and_changes_nothing() {
    let mut solo = Solo::new(3, &[1, 2, 2, 2], 2);
    solo.step(2, piece(2, &offer(id(2, 3), id(2, 9)), 0, 4));
    assert_eq!(acked(&mut solo), [id(2, 3)]);
    assert_eq!((solo.core.last_index(), solo.core.first_index()), (4, 1));
    assert_eq!(solo.core.commit_index(), 3);
}

#[test]
fn entries_behind_the_state_are_acknowledged_with_it_and_not_before() {
    let mut solo = Solo::new(3, &[1, 1], 2);
    solo.step(2, piece(2, &offer(id(2, 20), id(2, 22)), 0, 10));
    solo.step(2, append(2, id(2, 20), &[2, 2], 22));
    assert_eq!(acked(&mut solo), []);
    solo.act(|core, now| core.install_durable(now));
    assert_eq!(acked(&mut solo), [id(2, 20)]);
    solo.sync();
    assert_eq!(acked(&mut solo), [id(2, 22)]);
}

#[test]
fn what_the_disk_did_before_the_state_came_says_nothing_about_the_log_behind_it() {
    let mut solo = Solo::new(3, &[1], 2);
    solo.step(2, append(2, id(1, 1), &[2, 2], 0));
    let truncations = solo.core.truncations();
    solo.step(2, piece(2, &offer(id(2, 20), id(2, 22)), 0, 10));
    solo.act(|core, now| core.durable(now, id(2, 3), truncations));
    assert_eq!(solo.core.durable_index(), 0);
    assert_eq!(acked(&mut solo), []);
}

/// Such a replica would lose the election: every quorum has someone with more. It would only disturb.
#[test]
fn replica_whose_log_has_not_reached_its_state_does_not_campaign() {
    let mut restored = Restored::empty(Membership::of_voters(1..=3));
    restored.ballot.term = 2;
    restored.prev = id(2, 20);
    restored.runs = runs(21, &[2, 2]);
    restored.last_index = 22;
    restored.commit_index = 20;
    restored.pending_index = 23;
    let mut solo = Solo::restored(restored);
    for _ in 0..5 {
        solo.wait(400);
    }
    assert_eq!(solo.core.role(), Role::Follower);
    solo.step(2, append(2, id(2, 22), &[2], 20));
    solo.step(2, Message::TimeoutNow { term: 2 });
    assert_eq!(
        solo.core.role(),
        Role::Candidate,
        "its log has reached it now"
    );
}

#[test]
fn malformed_offers_are_dropped() {
    let good = offer(id(2, 20), id(2, 25));
    let spoil: [fn(&mut Install); 8] = [
        |install| install.len = 0,
        |install| install.len = 11,
        |install| install.offset = u64::MAX,
        |install| install.offer.bytes = u64::MAX,
        |install| install.offer.base = LogId::ZERO,
        |install| install.offer.snapshot.index = 19,
        |install| install.offer.snapshot.term = 3,
        |install| install.offer.membership.1.voters.clear(),
    ];
    for spoil in spoil {
        let mut solo = Solo::new(3, &[1, 1], 2);
        let mut install = Install {
            term: 2,
            offer: good.clone(),
            offset: 0,
            len: 10,
        };
        spoil(&mut install);
        solo.step(2, Message::Install(install));
        assert_eq!((solo.core.last_index(), solo.core.leader()), (2, None));
    }
}

// ---- far behind, but not that far ----

#[test]
fn peer_far_behind_has_a_window_of_its_own_until_little_is_left() {
    let mut cluster = Cluster::new(3);
    for host in cluster.nodes.values_mut() {
        host.config.catch_up_lag_bytes = 2_000;
        host.config.catch_up_in_flight_bytes_max = 300;
    }
    for node in cluster.ids() {
        cluster.crash(node);
        cluster.start(node);
    }
    cluster.elect(1);
    cluster.act(1, &[], |core| core.set_lag(3, 2_001));
    assert_eq!(state(&cluster, 3), ProgressState::CatchUp);
    cluster.propose(1, 20);
    cluster.pump(1);
    let view = cluster.core(1).progress(3).unwrap();
    assert_eq!(view.in_flight_bytes, 300);
    assert_eq!(cluster.core(1).progress(2).unwrap().in_flight_bytes, 2_000);
    // Two streams may overtake each other: nothing more is sent until what is under way has arrived.
    cluster.act(1, &[], |core| core.set_lag(3, 1_000));
    assert_eq!(state(&cluster, 3), ProgressState::CatchUp);
    assert_eq!(cluster.core(1).next_append(3), None);
    cluster.settle();
    assert_eq!(state(&cluster, 3), ProgressState::Pipeline);
    is_equal_behind_its_base(&cluster, 3);
}

#[test]
fn lag_between_the_two_limits_changes_nothing() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let far = Config::new(1, 1).catch_up_lag_bytes;
    for (lag, expected) in [
        (far, ProgressState::Pipeline),
        (far + 1, ProgressState::CatchUp),
        (far / 2 + 1, ProgressState::CatchUp),
        (far / 2, ProgressState::Pipeline),
        (far / 2 + 1, ProgressState::Pipeline),
    ] {
        cluster.act(1, &[], |core| core.set_lag(3, lag));
        assert_eq!(state(&cluster, 3), expected, "{lag}");
    }
}

#[test]
fn silence_of_a_peer_far_behind_is_borne_longer_and_then_it_is_probed() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.act(1, &[], |core| core.set_lag(3, u64::MAX));
    cluster.nodes.get_mut(&3).unwrap().disk.stalled = true;
    cluster.propose(1, 3);
    cluster.run(900);
    assert_eq!(state(&cluster, 3), ProgressState::CatchUp);
    cluster.run(600);
    assert_eq!(state(&cluster, 3), ProgressState::Probe);
    cluster.nodes.get_mut(&3).unwrap().disk.stalled = false;
    cluster.run(1_000);
    let last: Index = cluster.core(1).last_index();
    assert_eq!(cluster.core(3).commit_index(), last);
}
