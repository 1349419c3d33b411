//! The steps of a move: each from what is so, whatever came before.

use super::*;
use crate::raft::ProgressState;
use crate::replica::PeerStatus;

fn status(voters: &[u64], learners: &[u64], caught_up: &[u64]) -> GroupStatus {
    let others = voters.iter().chain(learners).filter(|node| **node != 1);
    let peer = |node: &u64| PeerStatus {
        node: *node,
        match_index: 10,
        state: ProgressState::Pipeline,
        caught_up: caught_up.contains(node),
        in_flight_bytes: 0,
        lag_entries: 0,
        lag_bytes: 0,
    };
    GroupStatus {
        group: 7,
        role: Role::Leader,
        term: 2,
        leader: Some(1),
        commit_index: 10,
        last_index: 10,
        durable_index: 10,
        high_watermark: 0,
        log_start: 0,
        pending: 0,
        membership_index: 10,
        voters: voters.to_vec(),
        voters_outgoing: Vec::new(),
        learners: learners.to_vec(),
        peers: others.map(peer).collect(),
    }
}

fn target(voters: &[u64], learners: &[u64]) -> Target {
    Target {
        voters: voters.to_vec(),
        learners: learners.to_vec(),
    }
}

fn step(status: &GroupStatus, shall: &Target) -> Step {
    next_step(status, shall, |_| true)
}

#[test]
fn a_new_replica_learns_first_and_votes_when_it_has_caught_up() {
    let shall = target(&[1, 2, 4], &[]);
    let learning = Step::Change(target(&[1, 2, 3], &[4]));
    assert_eq!(step(&status(&[1, 2, 3], &[], &[]), &shall), learning);
    assert_eq!(step(&status(&[1, 2, 3], &[4], &[]), &shall), Step::Wait);
    let all = Step::Change(shall.clone());
    assert_eq!(step(&status(&[1, 2, 3], &[4], &[4]), &shall), all);
    assert_eq!(step(&status(&[1, 2, 4], &[], &[]), &shall), Step::Done);
}

#[test]
fn nothing_is_begun_before_the_change_before_is_over() {
    let shall = target(&[1, 2, 4], &[]);
    let mut joint = status(&[1, 2, 4], &[], &[]);
    joint.voters_outgoing = vec![1, 2, 3];
    assert_eq!(step(&joint, &shall), Step::Wait);
    let mut uncommitted = status(&[1, 2, 4], &[], &[]);
    uncommitted.membership_index = 11;
    assert_eq!(step(&uncommitted, &shall), Step::Wait);
}

#[test]
fn a_target_that_changed_on_the_way_is_gone_for_from_where_the_group_is() {
    let back = target(&[1, 2, 3], &[]);
    let unlearned = Step::Change(back.clone());
    assert_eq!(step(&status(&[1, 2, 3], &[4], &[4]), &back), unlearned);
    let other = target(&[1, 2, 5], &[]);
    let learning = Step::Change(target(&[1, 2, 3], &[5]));
    assert_eq!(step(&status(&[1, 2, 3], &[4], &[4]), &other), learning);
}

#[test]
fn a_group_does_not_go_where_no_majority_can_be_reached() {
    let shall = target(&[1, 3, 4], &[]);
    let learning = status(&[1, 2, 3], &[4], &[4]);
    let up = |down: &'static [u64]| move |node: u64| !down.contains(&node);
    assert_eq!(next_step(&learning, &shall, up(&[3, 4])), Step::Wait);
    let go = Step::Change(shall.clone());
    assert_eq!(next_step(&learning, &shall, up(&[2, 3])), go);
    let shrink = target(&[1, 3], &[]);
    let three = status(&[1, 2, 3], &[], &[]);
    assert_eq!(next_step(&three, &shrink, up(&[3])), Step::Wait);
}

#[test]
fn learners_of_the_controller_come_and_go_and_a_voter_can_become_one() {
    let shall = target(&[1, 2, 4], &[3, 5]);
    let learning = Step::Change(target(&[1, 2, 3], &[4, 5]));
    assert_eq!(step(&status(&[1, 2, 3], &[], &[]), &shall), learning);
    let all = Step::Change(shall.clone());
    assert_eq!(step(&status(&[1, 2, 3], &[4, 5], &[4]), &shall), all);
    let fewer = target(&[1, 2, 4], &[3]);
    let away = Step::Change(fewer.clone());
    assert_eq!(step(&status(&[1, 2, 4], &[3, 5], &[]), &fewer), away);
}
