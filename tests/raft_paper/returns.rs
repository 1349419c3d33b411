//! A node whose replica left, with all its files, and came back: nothing that it promised before may be taken for not promised.

use plimsoll::raft::{NodeId, Role};

use crate::cluster::Cluster;
use crate::solo::{Solo, append, id};

/// A group that moved from 1, 2, 3 to 4, 5, 6, and goes on there; 3 was cut off before and knows nothing of it.
fn moved() -> Cluster {
    let mut cluster = Cluster::new(3);
    for node in 4..=6 {
        cluster.add(node, 3);
    }
    cluster.elect(1);
    cluster.propose(1, 3);
    cluster.settle();
    cluster.isolate(3);
    cluster.change(1, &[1, 2, 3], &[4, 5, 6]).unwrap();
    cluster.settle();
    cluster.change(1, &[4, 5, 6], &[]).unwrap();
    cluster.run(1_000);
    let leader = cluster.leader().unwrap();
    assert!(leader > 3);
    assert!(cluster.propose(leader, 5));
    cluster.settle();
    cluster
}

fn lead_among(cluster: &Cluster, nodes: &[NodeId]) -> bool {
    let leads = |node: &&NodeId| cluster.core(**node).role() == Role::Leader;
    nodes.iter().find(leads).is_some()
}

/// 1 and 2 come back as learners, and have got just that part of the log that says "1, 2 and 3 vote". With 3, which still
/// believes so, they would be a majority of what there was; and all of it, even.
#[test]
fn replicas_that_come_back_empty_elect_nobody_by_the_memberships_of_their_former_life() {
    let mut cluster = moved();
    let leader = cluster.leader().unwrap();
    cluster.isolate(1);
    cluster.isolate(2);
    cluster.change(leader, &[4, 5, 6], &[1, 2]).unwrap();
    cluster.settle();
    for node in [1, 2] {
        cluster.come_back_empty(node, 3);
    }
    cluster.heal();
    cluster.isolate(3);
    // Whoever leads gives each of them the first four entries, and no more.
    let mut given = 0;
    for _ in 0..500 {
        cluster.work_disks();
        for node in [4, 5, 6] {
            for peer in [1, 2] {
                if let Some(plan) = cluster.core(node).next_append(peer)
                    && plan.first == 1
                {
                    cluster.send_append(node, peer, 4);
                    given += 1;
                }
            }
        }
        if given >= 2 && cluster.core(1).last_index() == 4 && cluster.core(2).last_index() == 4 {
            break;
        }
        cluster.now += 10;
        for node in [4, 5, 6] {
            cluster.tick(node);
        }
        for packet in std::mem::take(&mut cluster.network) {
            cluster.deliver(packet);
        }
    }
    assert_eq!(
        (cluster.core(1).last_index(), cluster.core(2).last_index()),
        (4, 4)
    );
    assert_eq!(cluster.core(1).membership().1.voters, [1, 2, 3]);
    cluster.work_disks();
    cluster.network.clear();
    cluster.heal();
    for inside in 1..=3 {
        for outside in 4..=6 {
            cluster.cut.insert((inside, outside));
            cluster.cut.insert((outside, inside));
        }
    }
    for _ in 0..40 {
        cluster.run(500);
        assert!(!lead_among(&cluster, &[1, 2, 3]));
    }
    cluster.heal();
    cluster.run(3_000);
    assert!(!lead_among(&cluster, &[1, 2, 3]));
    let leader = cluster.leader().unwrap();
    for node in [1, 2] {
        assert!(!cluster.core(node).has_no_say());
        assert_eq!(
            cluster.core(node).commit_index(),
            cluster.core(leader).commit_index()
        );
    }
}

#[test]
fn replica_that_came_back_may_become_a_voter_like_any_other() {
    let mut cluster = moved();
    let leader = cluster.leader().unwrap();
    cluster.heal();
    cluster.come_back_empty(1, 3);
    cluster.change(leader, &[4, 5, 6], &[1]).unwrap();
    cluster.run(3_000);
    let leader = cluster.leader().unwrap();
    assert!(cluster.core(leader).is_caught_up(1) && !cluster.core(1).has_no_say());
    cluster.change(leader, &[1, 4, 5], &[]).unwrap();
    cluster.run(2_000);
    for node in [4, 5] {
        if cluster.core(node).role() == Role::Leader {
            let now = cluster.now;
            cluster
                .act(node, &[], |core| core.transfer_leader(now, 1))
                .unwrap();
        }
    }
    cluster.run(2_000);
    assert_eq!(cluster.leader(), Some(1));
}

/// The leader may still count what the former replica acknowledged in its term: the first word of the new one ends that term.
#[test]
fn replica_that_comes_back_within_a_term_ends_it() {
    let mut cluster = moved();
    let leader = cluster.leader().unwrap();
    let term = cluster.core(leader).term();
    cluster.heal();
    cluster.change(leader, &[4, 5, 6], &[2]).unwrap();
    cluster.run(500);
    cluster.change(leader, &[4, 5, 6], &[]).unwrap();
    cluster.run(500);
    assert_eq!(cluster.core(2).term(), term);
    cluster.come_back_empty(2, 3);
    cluster.change(leader, &[4, 5, 6], &[2]).unwrap();
    cluster.run(3_000);
    let leader = cluster.leader().unwrap();
    assert!(cluster.core(leader).term() > term);
    assert_eq!(
        cluster.core(2).last_index(),
        cluster.core(leader).last_index()
    );
}

#[test]
fn forgotten_life_is_over_with_a_durable_entry_of_a_later_term_and_stays_over() {
    let mut solo = Solo::forgotten(5);
    solo.step(2, append(8, id(0, 0), &[4, 5], 0));
    solo.sync();
    assert!(solo.core.has_no_say());
    solo.wait(2_000);
    assert_eq!(solo.core.role(), Role::Follower, "it does not campaign");
    solo.step(2, append(8, id(5, 2), &[6], 0));
    solo.sync();
    assert!(!solo.core.has_no_say());
    solo.wait(2_000);
    assert_eq!(solo.core.role(), Role::PreCandidate);
}
