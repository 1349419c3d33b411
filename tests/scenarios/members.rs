//! Changing the members of a group that is in use: what who asked is told, what the status shows, and that records survive it.

use std::path::Path;

use plimsoll::raft::{NodeId, Target};
use plimsoll::replica::{Answer, Input};
use plimsoll::wire::ApiError;
use segment_store::fs::{Fs, SimFs};

use crate::batches::batch;
use crate::cluster::{Cluster, DIR, Reply};

impl Cluster {
    /// Starts node `id`, which is new: it has an empty disk, and is no member.
    fn join(&mut self, id: NodeId) {
        let fs = SimFs::new(id);
        fs.create_dir(Path::new(DIR)).unwrap();
        fs.sync_dir(Path::new("/")).unwrap();
        self.disks.insert(id, fs);
        self.start(id);
    }

    fn change(&mut self, id: NodeId, voters: &[NodeId], learners: &[NodeId]) -> u64 {
        let token = self.token();
        let target = Target {
            voters: voters.to_vec(),
            learners: learners.to_vec(),
        };
        self.input(id, Input::ChangeMembership { token, target });
        token
    }

    /// Changes the members and returns the answer.
    fn changed(&mut self, id: NodeId, voters: &[NodeId], learners: &[NodeId]) -> Option<Reply> {
        let token = self.change(id, voters, learners);
        self.run_for(1_000);
        self.reply(id, token)
    }
}

fn is_done(reply: &Option<Reply>) -> bool {
    matches!(reply, Some(Ok(Answer::Changed { .. })))
}

fn is_not_yet(reply: &Option<Reply>) -> bool {
    matches!(reply, Some(Err(ApiError::NotYet { .. })))
}

#[test]
fn new_node_learns_then_votes_and_serves_what_was_written_before_it_came() {
    let mut cluster = Cluster::three();
    for sequence in 0..20 {
        cluster.acked(1, &batch(5, 0, sequence, 1));
    }
    cluster.join(4);
    assert!(is_done(&cluster.changed(1, &[1, 2, 3], &[4])));
    let status = cluster.node(1).replica.status();
    assert_eq!(
        (&status.voters[..], &status.learners[..]),
        (&[1, 2, 3][..], &[4][..])
    );
    assert!(
        status
            .peers
            .iter()
            .all(|peer| peer.caught_up == (peer.node == 4))
    );
    assert!(is_done(&cluster.changed(1, &[1, 2, 3, 4], &[])));
    let status = cluster.node(1).replica.status();
    assert_eq!(status.voters, [1, 2, 3, 4]);
    assert!(status.voters_outgoing.is_empty() && status.learners.is_empty());
    assert!(status.membership_index <= status.commit_index);
    assert_eq!(cluster.node(4).high_watermark(), 20);
    cluster.transfer(4);
    assert_eq!(cluster.acked(4, &batch(5, 0, 20, 1)).base_offset, 20);
    cluster.check_identical();
}

#[test]
fn members_are_what_the_log_says_after_a_restart_of_all_of_them() {
    let mut cluster = Cluster::three();
    assert!(is_done(&cluster.changed(1, &[1, 2], &[])));
    cluster.crash(3);
    for id in [1, 2] {
        cluster.restart(id);
        assert_eq!(cluster.node(id).replica.status().voters, [1, 2]);
    }
    cluster.run_until(|cluster| cluster.leader().is_some());
    let leader = cluster.leader().unwrap();
    assert_eq!(cluster.acked(leader, &batch(5, 0, 0, 1)).base_offset, 0);
}

#[test]
fn change_is_answered_only_when_its_last_entry_is_committed() {
    let mut cluster = Cluster::three();
    cluster.isolate(2);
    cluster.isolate(3);
    let token = cluster.change(1, &[1, 2], &[]);
    cluster.quiet();
    let status = cluster.node(1).replica.status();
    assert_eq!(status.voters_outgoing, [1, 2, 3], "it is in force at once");
    assert_eq!(cluster.reply(1, token), None);
    cluster.heal();
    cluster.run_for(1_000);
    assert!(is_done(&cluster.reply(1, token)));
    assert!(cluster.node(1).replica.status().voters_outgoing.is_empty());
}

#[test]
fn leader_that_falls_leaves_the_answer_to_the_next_one() {
    let mut cluster = Cluster::three();
    cluster.isolate(1);
    let token = cluster.change(1, &[1, 2], &[]);
    cluster.run_for(2_000);
    let reply = cluster.reply(1, token);
    assert!(
        matches!(reply, Some(Err(ApiError::NotLeader { .. }))),
        "{reply:?}"
    );
    cluster.heal();
    cluster.run_for(1_000);
    let leader = cluster.leader().unwrap();
    assert_eq!(cluster.node(leader).replica.status().voters, [1, 2, 3]);
}

#[test]
fn same_change_twice_is_no_error_and_another_one_waits_its_turn() {
    let mut cluster = Cluster::three();
    cluster.isolate(2);
    cluster.isolate(3);
    let first = cluster.change(1, &[1, 2], &[]);
    let again = cluster.change(1, &[2, 1], &[]);
    let other = cluster.change(1, &[1, 3], &[]);
    cluster.quiet();
    assert!(is_not_yet(&cluster.reply(1, other)));
    cluster.heal();
    cluster.run_for(1_000);
    assert!(is_done(&cluster.reply(1, first)) && is_done(&cluster.reply(1, again)));
    assert!(
        is_done(&cluster.changed(1, &[1, 2], &[])),
        "it is so already"
    );
}

#[test]
fn what_cannot_be_is_refused_and_says_why() {
    let mut cluster = Cluster::three();
    for (voters, learners) in [
        (&[][..], &[1, 2, 3][..]),
        (&[1, 2, 3], &[3]),
        (&[1, 1, 2], &[]),
    ] {
        let reply = cluster.changed(1, voters, learners);
        assert!(
            matches!(reply, Some(Err(ApiError::InvalidRequest { .. }))),
            "{reply:?}"
        );
    }
    let stranger = cluster.changed(1, &[1, 2, 3, 4], &[]);
    assert!(is_not_yet(&stranger), "{stranger:?}");
    let follower = cluster.changed(2, &[1, 2], &[]);
    assert!(matches!(
        follower,
        Some(Err(ApiError::NotLeader { leader: Some(_) }))
    ));
    assert_eq!(cluster.node(1).replica.status().voters, [1, 2, 3]);
}

#[test]
fn leader_that_is_voted_out_says_so_and_another_one_goes_on() {
    let mut cluster = Cluster::three();
    cluster.acked(1, &batch(5, 0, 0, 1));
    assert!(is_done(&cluster.changed(1, &[2, 3], &[])));
    let leader = cluster.leader().unwrap();
    assert!(leader != 1);
    assert_eq!(cluster.acked(leader, &batch(5, 0, 1, 1)).base_offset, 1);
}

#[test]
fn members_are_what_they_were_after_everybody_restarts() {
    let mut cluster = Cluster::three();
    cluster.join(4);
    assert!(is_done(&cluster.changed(1, &[1, 2, 3], &[4])));
    assert!(is_done(&cluster.changed(1, &[1, 2, 4], &[])));
    for id in [1, 2, 4] {
        cluster.restart(id);
    }
    cluster.run_until(|cluster| cluster.leader().is_some());
    let leader = cluster.leader().unwrap();
    let status = cluster.node(leader).replica.status();
    assert_eq!(status.voters, [1, 2, 4]);
    assert!(status.learners.is_empty() && status.voters_outgoing.is_empty());
}
