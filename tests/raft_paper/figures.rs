//! Figures 7 and 8 of the paper, as they are drawn.

use plimsoll::raft::{Membership, Role, Term};

use crate::cluster::Cluster;

/// Figure 7: "When the leader at the top comes to power, it is possible that any of scenarios (a-f) could occur in
/// follower logs." The leader makes each of them equal to its own.
#[test]
fn leader_repairs_every_follower_log_of_figure_7() {
    let leader: &[Term] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[Term]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    let membership = Membership::of_voters(1..=7);
    for (letter, follower) in ('a'..).zip(followers) {
        // One follower at a time, beside voters that only vote.
        let mut cluster = Cluster::with_logs(&membership, [(1, leader), (2, follower)], 7);
        let blank = Cluster::with_logs(&membership, (3..=7).map(|node| (node, leader)), 7);
        cluster.nodes.extend(blank.nodes);
        cluster.elect(1);
        assert_eq!(cluster.core(1).term(), 8);
        assert_eq!(
            cluster.nodes[&2].log.slice(1, 11),
            cluster.nodes[&1].log.slice(1, 11),
            "follower ({letter})"
        );
        assert_eq!(
            cluster.terms(2),
            [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8],
            "follower ({letter})"
        );
        assert_eq!(cluster.core(2).commit_index(), 11);
    }
    // And all of them at once.
    let logs = (1..).zip(std::iter::once(leader).chain(followers));
    let mut cluster = Cluster::with_logs(&membership, logs, 7);
    cluster.elect(1);
    for node in 2..=7 {
        assert_eq!(cluster.terms(node), cluster.terms(1));
        assert_eq!(cluster.core(node).commit_index(), 11);
    }
}

/// The cluster of figure 8 at (c): S1 leads term 4, and has put its entry of term 2 on a majority.
/// Entry 1 is the one that all share in the figure.
fn figure_8_at_c() -> Cluster {
    let membership = Membership::of_voters(1..=5);
    let logs: [(u64, &[Term]); 5] = [
        (1, &[1, 2]),
        (2, &[1, 2]),
        (3, &[1]),
        (4, &[1]),
        (5, &[1, 3]),
    ];
    let mut cluster = Cluster::with_logs(&membership, logs, 3);
    cluster.isolate(5);
    // S1 wins term 4 with S2 to S4, and its entry of term 4 goes nowhere yet.
    cluster.now += 301;
    cluster.tick(1);
    while cluster.core(1).role() != Role::Leader {
        cluster.work_disks();
        for packet in std::mem::take(&mut cluster.network) {
            cluster.deliver(packet);
        }
    }
    assert_eq!(cluster.core(1).term(), 4);
    for _ in 0..6 {
        cluster.work_disks();
        for peer in [3] {
            // To S3 only the entry of term 2.
            if cluster
                .core(1)
                .next_append(peer)
                .is_some_and(|plan| plan.first == 2)
            {
                cluster.send_append(1, peer, 2);
            }
        }
        for packet in std::mem::take(&mut cluster.network) {
            cluster.deliver(packet);
        }
    }
    assert_eq!(
        (cluster.terms(1), cluster.terms(2), cluster.terms(3)),
        (vec![1, 2, 4], vec![1, 2], vec![1, 2])
    );
    assert_eq!(cluster.core(1).progress(2).unwrap().match_index, 2);
    assert_eq!(cluster.core(1).progress(3).unwrap().match_index, 2);
    cluster.network.clear();
    cluster
}

/// Figure 8, (c) to (d): "A log entry that is stored on a majority of servers" can still be overwritten, so the leader
/// must not have called it committed.
#[test]
fn entry_of_an_earlier_term_on_a_majority_is_not_committed_and_may_be_overwritten() {
    let mut cluster = figure_8_at_c();
    assert_eq!(
        cluster.core(1).commit_index(),
        0,
        "two of term 2 on S1, S2 and S3 do not commit it"
    );
    cluster.crash(1);
    cluster.heal();
    // S5 comes to power with votes of S2, S3 and S4, and overwrites it with its own of term 3.
    cluster.campaign(5);
    cluster.campaign(5);
    assert_eq!(cluster.core(5).role(), Role::Leader);
    for node in 2..=4 {
        assert_eq!(cluster.terms(node), cluster.terms(5));
        assert_eq!(cluster.terms(node)[..2], [1, 3]);
    }
    cluster.start(1);
    cluster.run(1_000);
    assert_eq!(cluster.terms(1)[..2], [1, 3]);
}

/// Figure 8, (e): "if S1 replicates an entry from its current term on a majority of the servers before crashing, then this
/// entry is committed (S5 cannot win an election)", and all before it with it.
#[test]
fn entry_of_the_current_term_on_a_majority_commits_all_before_it() {
    let mut cluster = figure_8_at_c();
    cluster.run(300);
    assert_eq!(cluster.core(1).role(), Role::Leader);
    assert_eq!(cluster.core(1).commit_index(), cluster.core(1).last_index());
    assert_eq!(cluster.terms(3)[..3], [1, 2, 4]);
    cluster.crash(1);
    cluster.heal();
    for _ in 0..5 {
        cluster.campaign(5);
        assert_ne!(cluster.core(5).role(), Role::Leader, "S5 cannot win");
    }
    cluster.run(2_000);
    for node in 2..=5 {
        assert_eq!(cluster.terms(node)[..3], [1, 2, 4]);
    }
}
