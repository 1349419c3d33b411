//! Changing the members of a running group (section 6): how a change goes, what refuses it, and what interrupts it.

use plimsoll::raft::{ChangeError, MEMBERS_MAX, Membership, Message, NodeId, Role, Target};

use crate::cluster::Cluster;
use crate::solo::{Solo, id};

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

#[test]
fn what_cannot_be_changed_is_refused_by_name_and_changes_nothing() {
    let mut cluster = three_of_five();
    cluster.change(1, &[1, 2, 3], &[4]).unwrap();
    cluster.settle();
    let many: Vec<NodeId> = (1..=16).collect();
    let crowd: Vec<NodeId> = (5..=MEMBERS_MAX as u64).collect();
    let last = cluster.core(1).last_index();
    for (voters, learners, error) in [
        (&[][..], &[1, 2, 3][..], ChangeError::NoVoters),
        (&[1, 2, 3, 3], &[4], ChangeError::Duplicate(3)),
        (&[1, 2, 3], &[4, 4], ChangeError::Duplicate(4)),
        (&[1, 2, 3, 4], &[4], ChangeError::Duplicate(4)),
        (&[0, 1, 2], &[], ChangeError::NotANode(0)),
        (&[1, 2, 3], &[0], ChangeError::NotANode(0)),
        (&[1, 2, 3, 5], &[4], ChangeError::NotCaughtUp(5)),
        (&[3, 2, 1], &[4], ChangeError::Nothing),
        (&many, &[], ChangeError::TooMany),
        (&[1, 2, 3], &crowd, ChangeError::TooMany),
    ] {
        assert_eq!(cluster.change(1, voters, learners), Err(error));
    }
    let leader = Some(1);
    assert_eq!(
        cluster.change(2, &[1, 2], &[]),
        Err(ChangeError::NotLeader { leader })
    );
    assert_eq!(cluster.core(1).last_index(), last);
}

#[test]
fn no_change_while_leadership_is_handed_over() {
    let mut cluster = three_of_five();
    cluster.isolate(3);
    let now = cluster.now;
    cluster
        .act(1, &[], |core| core.transfer_leader(now, 3))
        .unwrap();
    assert_eq!(cluster.change(1, &[1, 2], &[]), Err(ChangeError::Unsettled));
}

/// Ongaro's note of 2015: two leaders that change the members before anything of their term is committed can both commit.
#[test]
fn change_right_after_an_election_waits_for_the_first_commit() {
    let mut solo = Solo::new(3, &[1], 1);
    solo.lead();
    let target = |voters: &[NodeId]| Target {
        voters: voters.to_vec(),
        learners: vec![4],
    };
    let voters = [1, 2, 3];
    let change =
        |solo: &mut Solo| solo.act(|core, now| core.propose_membership(now, target(&voters)));
    assert_eq!(change(&mut solo), Err(ChangeError::Unsettled));
    solo.sync();
    solo.acknowledge(2, 1);
    solo.act(|core, now| core.sent(now, 2, 3, 10));
    solo.acknowledge(2, 2);
    assert_eq!(
        change(&mut solo),
        Err(ChangeError::InProgress { index: 3 }),
        "the membership the group was created with is not committed in the log yet"
    );
    solo.acknowledge(2, 3);
    assert_eq!(change(&mut solo), Ok(id(2, 4)));
}

#[test]
fn leader_sends_to_new_members_at_once_and_forgets_those_who_left() {
    let mut cluster = three_of_five();
    assert!(cluster.core(1).progress(4).is_none());
    cluster.change(1, &[1, 2, 3], &[4]).unwrap();
    assert!(cluster.core(1).progress(4).is_some());
    cluster.settle();
    assert!(cluster.core(1).is_caught_up(4));
    cluster.change(1, &[1, 2, 4], &[]).unwrap();
    assert!(cluster.core(1).progress(3).is_some(), "3 still counts");
    cluster.settle();
    assert!(cluster.core(1).progress(3).is_none());
}

#[test]
fn learner_that_is_away_or_lags_is_not_caught_up() {
    let mut cluster = three_of_five();
    cluster.change(1, &[1, 2, 3], &[4]).unwrap();
    cluster.settle();
    cluster.isolate(4);
    cluster.propose(1, 1);
    cluster.run(2_000);
    assert_eq!(
        cluster.change(1, &[1, 2, 3, 4], &[]),
        Err(ChangeError::NotCaughtUp(4))
    );
    cluster.heal();
    cluster.run(1_000);
    cluster.change(1, &[1, 2, 3, 4], &[]).unwrap();
}

/// Section 6: a change that its leader could not commit is overwritten like any other entry, and the members are as before.
#[test]
fn change_that_was_never_committed_falls_back_with_its_entry() {
    let mut cluster = three_of_five();
    cluster.change(1, &[1, 2, 3], &[4]).unwrap();
    cluster.settle();
    let (index, before) = cluster.core(1).membership();
    let before = (index, before.clone());
    cluster.isolate(1);
    cluster.change(1, &[1, 4], &[]).unwrap();
    assert!(cluster.core(1).membership().1.joint());
    cluster.run(1_000);
    let leader = cluster.leader().unwrap();
    assert_ne!(leader, 1);
    cluster.heal();
    cluster.run(1_000);
    for node in 1..=4 {
        let (index, now) = cluster.core(node).membership();
        assert_eq!((index, now.clone()), before, "node {node}");
    }
    cluster.change(leader, &[2, 3], &[]).unwrap();
    cluster.run(1_000);
    let leader = cluster.leader().unwrap();
    assert_eq!(cluster.core(leader).membership().1, &members(&[2, 3], &[]));
}

#[test]
fn joint_membership_is_left_by_a_later_leader() {
    let mut cluster = three_of_five();
    cluster.change(1, &[1, 2, 3], &[4, 5]).unwrap();
    cluster.settle();
    let joint = cluster.change(1, &[1, 4, 5], &[]).unwrap().index;
    // The joint membership reaches everybody's disk, but no acknowledgement comes back.
    for node in 2..=5 {
        cluster.cut.insert((node, 1));
    }
    cluster.settle();
    assert!(cluster.core(1).commit_index() < joint);
    cluster.crash(1);
    cluster.run(2_000);
    let leader = cluster.leader().unwrap();
    let (index, now) = cluster.core(leader).membership();
    assert_eq!(now, &members(&[1, 4, 5], &[]));
    assert!(index > joint && cluster.core(leader).commit_index() >= index);
    assert!(leader == 4 || leader == 5);
}

/// Thesis, 4.2.2: a server that is not part of its own latest configuration may still have to start elections.
#[test]
fn only_holder_of_its_own_removal_campaigns_or_nobody_could_lead_again() {
    let mut cluster = three_of_five();
    cluster.change(1, &[1, 3], &[2]).unwrap();
    cluster.settle();
    let joint = cluster.change(1, &[2, 3], &[]).unwrap().index;
    // Everybody's word that the joint membership is durable arrives, and nothing that 1 sends after that.
    while cluster.core(1).commit_index() < joint {
        cluster.work_disks();
        cluster.pump(1);
        for packet in std::mem::take(&mut cluster.network) {
            cluster.deliver(packet);
        }
    }
    assert!(!cluster.core(1).membership().1.is_voter(1));
    cluster.isolate(1);
    cluster.network.clear();
    cluster.run(5_000);
    assert_eq!(cluster.core(2).membership().0, joint);
    cluster.heal();
    cluster.run(5_000);
    let leader = cluster.leader().expect("somebody leads");
    assert!(leader == 2 || leader == 3);
    assert_eq!(cluster.core(leader).membership().1, &members(&[2, 3], &[]));
    let (term, committed) = (
        cluster.core(leader).term(),
        cluster.core(leader).commit_index(),
    );
    assert!(committed > joint);
    cluster.run(5_000);
    assert_eq!(cluster.core(leader).term(), term);
}

/// A leader on its way out needs the others' majority, not its own voice in place of one of theirs.
#[test]
fn leader_on_its_way_out_neither_commits_nor_answers_reads_by_its_own_voice() {
    let mut cluster = three_of_five();
    cluster.change(1, &[2, 3], &[]).unwrap();
    let joint = cluster.core(1).last_index();
    while cluster.core(1).commit_index() < joint {
        cluster.work_disks();
        cluster.pump(1);
        for packet in std::mem::take(&mut cluster.network) {
            cluster.deliver(packet);
        }
    }
    cluster.isolate(3);
    cluster.settle();
    let read = cluster.read(1);
    cluster.settle();
    assert_eq!(
        cluster.core(1).commit_index(),
        joint,
        "2 is no majority of 2 and 3"
    );
    assert_eq!(cluster.history.reads.get(&read), None);
    assert!(cluster.core(1).role() == Role::Leader);
    cluster.heal();
    cluster.run(1_000);
    assert!(cluster.history.committed_index() > joint);
}

#[test]
fn removed_node_that_never_heard_of_it_neither_wins_nor_raises_the_term() {
    let mut cluster = three_of_five();
    cluster.isolate(3);
    cluster.change(1, &[1, 2], &[]).unwrap();
    cluster.run(2_000);
    cluster.heal();
    let term = cluster.core(1).term();
    cluster.run(20_000);
    assert_eq!((cluster.core(1).term(), cluster.leader()), (term, Some(1)));
    assert!(cluster.core(3).term() <= term);
    assert_eq!(cluster.core(3).membership().1.voters, [1, 2, 3]);
}

#[test]
fn node_outside_that_is_asked_for_its_vote_gives_it_and_does_not_campaign() {
    let mut cluster = three_of_five();
    cluster.run(20_000);
    for node in [4, 5] {
        assert_eq!(
            (cluster.core(node).term(), cluster.core(node).role()),
            (0, Role::Follower)
        );
    }
    let (now, last) = (cluster.now, cluster.core(1).ballot().term);
    let vote = Message::Vote {
        term: last + 7,
        last: id(last, 99),
        transfer: false,
    };
    cluster.act(4, &[], |core| core.step(now, 5, vote));
    assert_eq!(cluster.core(4).ballot().vote, Some(5));
}

/// Everything moves from 1, 2, 3 to 3, 4, 5 and a third of all messages is lost on the way.
#[test]
fn group_moves_under_loss_and_a_partition() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut cluster = three_of_five();
        cluster.change(1, &[1, 2, 3], &[4, 5]).unwrap();
        let mut asked = false;
        for round in 0..400 {
            cluster.now += 10;
            if round == 100 {
                cluster.isolate(rng.u64(1..=5));
            }
            if round == 250 {
                cluster.heal();
            }
            for node in 1..=5 {
                cluster.tick(node);
                cluster.pump(node);
            }
            cluster.work_disks();
            for packet in std::mem::take(&mut cluster.network) {
                if rng.u32(0..3) != 0 {
                    cluster.deliver(packet);
                }
            }
            if let Some(leader) = cluster.leader() {
                asked |= cluster.change(leader, &[3, 4, 5], &[]).is_ok();
            }
        }
        cluster.run(2_000);
        let leader = cluster.leader().expect("a leader");
        if !asked || cluster.core(leader).membership().1 != &members(&[3, 4, 5], &[]) {
            cluster.change(leader, &[3, 4, 5], &[]).unwrap();
            cluster.run(1_000);
        }
        let leader = cluster.leader().expect("a leader");
        assert_eq!(
            cluster.core(leader).membership().1,
            &members(&[3, 4, 5], &[]),
            "seed {seed}"
        );
    }
}

/// etcd-io/raft found that a node which does not know yet that it was made a voter must vote all the same, or nobody can win.
#[test]
fn node_that_does_not_know_of_its_promotion_votes() {
    let mut cluster = three_of_five();
    cluster.change(1, &[1, 2, 3], &[4]).unwrap();
    cluster.settle();
    let before = cluster.core(4).membership().0;
    for node in [3, 4] {
        cluster.cut.insert((1, node));
    }
    cluster.change(1, &[1, 2, 3, 4], &[]).unwrap();
    cluster.settle();
    cluster.crash(1);
    assert_eq!(
        cluster.core(4).membership().0,
        before,
        "4 still is a learner"
    );
    cluster.run(3_000);
    assert_eq!(cluster.leader(), Some(2), "by the votes of 3 and 4");
    let voters = members(&[1, 2, 3, 4], &[]);
    assert_eq!(cluster.core(2).membership().1, &voters);
}
