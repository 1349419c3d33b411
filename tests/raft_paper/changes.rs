//! Changing the members of a running group (section 6): how a change goes, what refuses it, and what interrupts it.

use plimsoll::raft::{ChangeError, Membership, NodeId, Role};

use crate::cluster::Cluster;

/// Voters 1 to 3 led by 1 with a few entries, and 4 and 5 outside, empty.
fn three_of_five() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.add(4, 3);
    cluster.add(5, 3);
    cluster.elect(1);
    cluster.propose(1, 5);
    cluster.settle();
    cluster
}

fn members(voters: &[NodeId], learners: &[NodeId]) -> Membership {
    Membership {
        voters: voters.to_vec(),
        voters_outgoing: Vec::new(),
        learners: learners.to_vec(),
    }
}

#[test]
fn new_node_learns_then_votes_and_the_leader_itself_leaves_the_joint_membership() {
    let mut cluster = three_of_five();
    assert_eq!(cluster.core(4).last_index(), 0, "nobody sends it anything");
    cluster.change(1, &[1, 2, 3], &[4]).unwrap();
    cluster.settle();
    assert_eq!(cluster.core(4).last_index(), cluster.core(1).last_index());
    let first = cluster.change(1, &[1, 2, 3, 4], &[]).unwrap().index;
    let joint = Membership {
        voters_outgoing: vec![1, 2, 3],
        ..members(&[1, 2, 3, 4], &[])
    };
    assert_eq!(cluster.core(1).membership(), (first, &joint));
    cluster.settle();
    for node in 1..=4 {
        let core = cluster.core(node);
        assert_eq!(core.membership(), (first + 1, &members(&[1, 2, 3, 4], &[])));
        assert_eq!(core.commit_index(), first + 1);
    }
}

#[test]
fn leader_that_is_voted_out_commits_its_own_removal_and_hands_over() {
    let mut cluster = three_of_five();
    cluster.change(1, &[2, 3], &[]).unwrap();
    cluster.settle();
    assert_ne!(cluster.core(1).role(), Role::Leader);
    let leader = cluster.leader().expect("the best voter took over at once");
    assert_eq!(cluster.core(leader).membership().1, &members(&[2, 3], &[]));
    assert!(cluster.propose(leader, 3));
    cluster.settle();
    assert_eq!(
        cluster.core(leader).commit_index(),
        cluster.core(leader).last_index()
    );
    let term = cluster.core(leader).term();
    cluster.run(5_000);
    assert_eq!(
        cluster.core(leader).term(),
        term,
        "the removed one is quiet"
    );
}

#[test]
fn second_change_waits_for_the_first() {
    let mut cluster = three_of_five();
    let first = cluster.change(1, &[1, 2, 3], &[4]).unwrap().index;
    assert_eq!(
        cluster.change(1, &[1, 2, 3], &[4, 5]),
        Err(ChangeError::InProgress { index: first })
    );
}
