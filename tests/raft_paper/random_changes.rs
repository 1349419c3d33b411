//! The same faults while the group changes: voters come, go and are replaced, three become five and three again; and, in a
//! group that stays as it is, voters lose the ends of their logs while another copy of everything committed is left.
//!
//! A failure prints its seed; `run_changes(seed)` and `run_losses(seed)` repeat it exactly.

use fastrand::Rng;
use plimsoll::raft::{ChangeError, LogId, NodeId, Role};

use crate::cluster::Cluster;
use crate::random::{Weather, disturb, recover};

const SEEDS: u64 = 60;
const STEPS: usize = 15_000;
/// Nodes there are; the group is made of some of them.
const NODES: u64 = 6;

/// Runs every seed; together they must have committed a lot and given some nodes a state, or the faults are too wild or too
/// tame.
fn each_seed(run: impl Fn(u64) -> Cluster + std::panic::RefUnwindSafe) {
    let (mut with_installs, mut committed) = (0, 0);
    for seed in 0..SEEDS {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(cluster) => {
                let installed = cluster.nodes.values().any(|host| host.log.state > 0);
                with_installs += u64::from(installed);
                committed += cluster.history.committed_index();
            }
            Err(panic) => {
                eprintln!("seed {seed} fails");
                std::panic::resume_unwind(panic);
            }
        }
    }
    let enough = with_installs > SEEDS / 20 && committed > 40 * SEEDS;
    assert!(enough, "{with_installs} of {SEEDS}, {committed} entries");
}

#[test]
fn random_changes_of_members_break_no_promise_and_come_to_their_end() {
    each_seed(run_changes);
}

fn run_changes(seed: u64) -> Cluster {
    let mut rng = Rng::with_seed(seed);
    let mut cluster = Cluster::new(3);
    for node in 4..=NODES {
        cluster.add(node, 3);
    }
    let weather = Weather::any(&mut rng);
    for _ in 0..STEPS {
        disturb(&mut cluster, &weather, &mut rng);
        if rng.u32(0..25) == 0 {
            change_any(&mut cluster, &mut rng);
        }
        if rng.u32(0..50) == 0 {
            start_any(&mut cluster, &mut rng);
        }
        if rng.u32(0..300) == 0 {
            trim_any(&mut cluster, &mut rng);
        }
    }
    settle_on(&mut cluster, &[1, 2, 3, 4, 5]);
    settle_on(&mut cluster, &[4, 5, 6]);
    cluster
}

/// Some leader, rightful or not, is asked for some change: what it refuses changes nothing.
fn change_any(cluster: &mut Cluster, rng: &mut Rng) {
    let node = rng.choice(cluster.ids()).unwrap();
    if !cluster.is_up(node) || cluster.core(node).role() != Role::Leader {
        return;
    }
    let (_, now) = cluster.core(node).membership();
    let (mut voters, mut learners) = (now.voters.clone(), now.learners.clone());
    let other = rng.u64(1..=NODES);
    match rng.u32(0..4) {
        0 if !voters.contains(&other) => learners.push(other),
        1 => {
            learners.retain(|learner| *learner != other);
            voters.push(other);
        }
        2 => voters.retain(|voter| *voter != other),
        _ => learners.retain(|learner| *learner != other),
    }
    let before = (cluster.core(node).last_index(), now.clone());
    if cluster.change(node, &voters, &learners).is_err() {
        let core = cluster.core(node);
        assert_eq!((core.last_index(), core.membership().1.clone()), before);
    }
}

/// Nobody stays down for long, or nothing would ever be committed.
fn start_any(cluster: &mut Cluster, rng: &mut Rng) {
    let node = rng.choice(cluster.ids()).unwrap();
    if !cluster.is_up(node) {
        cluster.start(node);
    }
}

/// Trims some of what is committed at a node: whoever lacks it must be given a state.
fn trim_any(cluster: &mut Cluster, rng: &mut Rng) {
    let node = rng.choice(cluster.ids()).unwrap();
    if !cluster.is_up(node) || cluster.core(node).is_pending() {
        return;
    }
    let core = cluster.core(node);
    let (kept, upto) = (
        core.first_index() - 1,
        core.commit_index().min(core.durable_index()),
    );
    if upto > kept {
        cluster.trim(node, rng.u64(kept + 1..=upto));
    }
}

/// The faults are over: the group becomes `voters`, whatever it is now, and all of them have all that is committed.
fn settle_on(cluster: &mut Cluster, voters: &[NodeId]) {
    cluster.heal();
    for node in cluster.ids() {
        if !cluster.is_up(node) {
            cluster.start(node);
        }
    }
    let reached = (0..100).any(|_| {
        cluster.run(500);
        let Some(leader) = cluster.leader() else {
            return false;
        };
        let (_, now) = cluster.core(leader).membership();
        let new: Vec<NodeId> = voters.to_vec();
        let mut missing = new.clone();
        missing.retain(|node| !now.voters.contains(node) && !now.learners.contains(node));
        let result = match missing.is_empty() {
            true => cluster.change(leader, voters, &[]),
            false => {
                let old = now.voters.clone();
                let learners = [&now.learners[..], &missing].concat();
                cluster.change(leader, &old, &learners)
            }
        };
        result == Err(ChangeError::Nothing)
    });
    assert!(reached, "the group becomes {voters:?}");
    let leader = cluster.leader().expect("just asked");
    assert!(voters.contains(&leader));
    assert!(cluster.propose(leader, 1));
    let term = cluster.core(leader).term();
    cluster.run(2_000);
    let last = cluster.core(leader).last_index();
    for &node in voters {
        let core = cluster.core(node);
        assert_eq!((core.commit_index(), core.last_index()), (last, last));
        assert_eq!(core.membership().1.members(), voters);
    }
    let after = cluster.core(leader).term();
    assert_eq!(after, term, "whoever is out does not disturb");
}

#[test]
fn random_losses_of_log_ends_cost_nothing_that_has_another_copy() {
    each_seed(run_losses);
}

fn run_losses(seed: u64) -> Cluster {
    let mut rng = Rng::with_seed(seed);
    let mut cluster = Cluster::new(*rng.choice(&[3, 3, 5]).unwrap());
    let weather = Weather::any(&mut rng);
    for _ in 0..STEPS {
        disturb(&mut cluster, &weather, &mut rng);
        if rng.u32(0..1_200) == 0 {
            lose_any(&mut cluster, &mut rng);
        }
        if rng.u32(0..50) == 0 {
            start_any(&mut cluster, &mut rng);
        }
        if rng.u32(0..300) == 0 {
            trim_any(&mut cluster, &mut rng);
        }
    }
    recover(&mut cluster);
    for node in cluster.ids() {
        assert!(!cluster.core(node).tail_suspect());
    }
    cluster
}

/// A node that is down, or goes down, finds the end of its log gone: as far as all that is committed there has another copy.
fn lose_any(cluster: &mut Cluster, rng: &mut Rng) {
    let node = rng.choice(cluster.ids()).unwrap();
    let log = &cluster.nodes[&node].disk.log;
    let count = rng.u64(0..4).min(log.last_index() - log.prev.index);
    let lost = log.last_index() - count + 1..=log.last_index();
    let elsewhere = |index: u64| {
        let id = LogId {
            term: log.term_at(index).unwrap(),
            index,
        };
        let mut others = cluster.nodes.iter().filter(|(other, _)| **other != node);
        others.any(|(_, host)| host.disk.keeps(id))
    };
    if lost
        .clone()
        .all(|index| index > cluster.history.committed_index() || elsewhere(index))
    {
        cluster.lose_tail(node, count);
    }
}
