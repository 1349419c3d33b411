//! Timing and availability (5.6), CheckQuorum (thesis, 6.2), and what an idle group costs.

use plimsoll::raft::{Message, Millis, ProgressState, Raft, Role};

use crate::cluster::Cluster;

/// Thesis, 6.2: "a leader in Raft steps down if an election timeout elapses without a successful round of heartbeats to a
/// majority of its cluster."
#[test]
fn leader_that_hears_no_quorum_steps_down() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(2);
    cluster.run(2_000);
    assert_eq!(
        cluster.core(1).role(),
        Role::Leader,
        "one of two peers is enough"
    );
    cluster.isolate(1);
    cluster.run(400);
    assert_ne!(cluster.core(1).role(), Role::Leader);
    assert_eq!(cluster.core(1).leader(), None);
    assert!(!cluster.propose(1, 1));
}

/// One-way links: a leader that is heard but hears nobody gives way, and does not block the others for ever.
#[test]
fn leader_that_cannot_hear_gives_way() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut.extend([(2, 1), (3, 1)]);
    cluster.run(3_000);
    let leader = cluster.leader().expect("another leads");
    assert_ne!(leader, 1);
    let commit = cluster.history.committed_index();
    assert!(cluster.propose(leader, 1));
    cluster.settle();
    assert!(cluster.history.committed_index() > commit);
}

/// Section 5.6: "Raft will be able to elect and maintain a steady leader as long as" broadcasts take less time than
/// election timeouts. Nothing happens that nobody asked for.
#[test]
fn idle_cluster_keeps_its_leader_and_its_term() {
    let mut cluster = Cluster::new(3);
    cluster.run(2_000);
    let (leader, term) = (cluster.leader().unwrap(), cluster.core(1).term());
    let last = cluster.core(leader).last_index();
    cluster.run(600_000);
    assert_eq!(
        (cluster.leader(), cluster.core(1).term()),
        (Some(leader), term)
    );
    assert_eq!(cluster.core(leader).last_index(), last);
}

/// The shell may sleep until `next_deadline`: an idle leader wakes once a heartbeat, an idle follower hardly ever.
#[test]
fn idle_group_wakes_once_a_heartbeat() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.run(1_000);
    let mut wakes = 0;
    let end = cluster.now + 10_000;
    while cluster.now < end {
        cluster.now = cluster
            .nodes
            .keys()
            .map(|&node| cluster.core(node).next_deadline())
            .min()
            .unwrap()
            .max(cluster.now);
        for node in cluster.ids() {
            if cluster.core(node).next_deadline() <= cluster.now {
                wakes += 1;
                cluster.tick(node);
                assert!(
                    cluster.core(node).next_deadline() > cluster.now,
                    "a tick leaves nothing due"
                );
            }
        }
        cluster.settle();
    }
    assert!(wakes <= 10_000 / 50 + 2, "{wakes} wakes in 10 s");
}

/// Section 5.6: unavailability after a crash of the leader is of the order of an election timeout.
#[test]
fn crashed_leader_is_replaced_within_a_few_election_timeouts() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(3);
        cluster.run(1_000 + seed);
        let old = cluster.leader().unwrap();
        cluster.crash(old);
        cluster.run(1_000);
        assert!(
            cluster.leader().is_some_and(|leader| leader != old),
            "run {seed}"
        );
    }
}

/// Heartbeats do not wait for bulk: a follower whose stream of entries is stuck still hears its leader.
#[test]
fn stuck_appends_do_not_cost_the_leader_its_office() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.propose(1, 10);
    let term = cluster.core(1).term();
    for _ in 0..40 {
        cluster.now += 50;
        for node in cluster.ids() {
            cluster.tick(node);
        }
        for packet in std::mem::take(&mut cluster.network) {
            if !matches!(packet.message, Message::Append(_)) {
                cluster.deliver(packet);
            }
        }
    }
    assert_eq!(
        (cluster.core(1).role(), cluster.core(1).term()),
        (Role::Leader, term)
    );
    cluster.run(500);
    assert_eq!(cluster.core(1).commit_index(), cluster.core(1).last_index());
}

/// A follower with a stalled disk is asked, not flooded: its window is not sent again and again.
#[test]
fn stalled_disk_of_a_follower_costs_no_repeats() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.nodes.get_mut(&3).unwrap().disk.stalled = true;
    cluster.propose(1, 50);
    cluster.settle();
    let mut entries = 0;
    for _ in 0..60 {
        cluster.now += 50;
        for node in cluster.ids() {
            cluster.tick(node);
        }
        for _ in 0..5 {
            cluster.work_disks();
            cluster.pump(1);
            for packet in std::mem::take(&mut cluster.network) {
                entries += if packet.to == 3 {
                    packet.entries.len()
                } else {
                    0
                };
                cluster.deliver(packet);
            }
        }
    }
    assert_eq!(entries, 0);
    assert_eq!(
        cluster.core(1).progress(3).unwrap().state,
        ProgressState::Probe
    );
    cluster.nodes.get_mut(&3).unwrap().disk.stalled = false;
    cluster.run(200);
    assert_eq!(cluster.core(3).commit_index(), 52);
}

/// Safety never uses time: a clock that jumps or goes back costs an election at most.
#[test]
fn time_going_back_is_ignored() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let deadline = cluster.core(2).next_deadline();
    let past: Millis = 1;
    cluster.act(2, &[], |core: &mut Raft| core.tick(past));
    assert_eq!(cluster.core(2).next_deadline(), deadline);
    assert_eq!(cluster.core(2).role(), Role::Follower);
}
