//! Groups in which nothing happens: how they fall silent, and what wakes them. The test plays the watch on the nodes.

use plimsoll::raft::{Message, NodeId, Role};

use crate::cluster::Cluster;
use crate::solo::{Solo, append, id};

const REST_AFTER_MS: u64 = 400;

/// Three voters led by 1, with a few entries, which rest when nothing happens.
fn three() -> Cluster {
    let mut cluster = Cluster::new(3);
    for node in 1..=3 {
        cluster.crash(node);
        let host = cluster.nodes.get_mut(&node).unwrap();
        host.config.rest_after_ms = Some(REST_AFTER_MS);
        cluster.start(node);
    }
    cluster.elect(1);
    assert!(cluster.propose(1, 5));
    cluster.settle();
    cluster
}

fn at_rest() -> Cluster {
    let mut cluster = three();
    cluster.run(3 * REST_AFTER_MS);
    assert_eq!(resting(&cluster), [1, 2, 3]);
    cluster
}

fn resting(cluster: &Cluster) -> Vec<NodeId> {
    let mut nodes = cluster.ids();
    nodes.retain(|&node| cluster.is_up(node) && cluster.core(node).rests());
    nodes
}

/// Every node that is up has been heard until now.
fn vouch(cluster: &mut Cluster, node: NodeId) {
    let (now, up) = (cluster.now, cluster.ids());
    let up: Vec<NodeId> = up.into_iter().filter(|&node| cluster.is_up(node)).collect();
    cluster.act(node, &[], |core| {
        core.vouch(now, |other| up.contains(&other).then_some(now));
    });
}

#[test]
fn group_in_which_nothing_happens_falls_silent_and_stays_led() {
    let mut cluster = at_rest();
    let term = cluster.core(1).term();
    cluster.now += 3_600_000;
    for node in 1..=3 {
        assert_eq!(cluster.core(node).next_deadline(), u64::MAX);
        let now = cluster.now;
        cluster.act(node, &[], |core| core.tick(now));
    }
    assert!(cluster.network.is_empty(), "nobody says anything");
    assert_eq!(resting(&cluster), [1, 2, 3]);
    assert_eq!((cluster.leader(), cluster.core(2).term()), (Some(1), term));
}

#[test]
fn group_to_which_something_happens_now_and_then_does_not_rest() {
    let mut cluster = three();
    for _ in 0..20 {
        cluster.run(REST_AFTER_MS / 2);
        assert!(resting(&cluster).is_empty());
        assert!(cluster.propose(1, 1));
    }
}

#[test]
fn proposal_wakes_the_leader_and_its_entry_the_followers() {
    let mut cluster = at_rest();
    cluster.now += 60_000;
    vouch(&mut cluster, 1);
    assert!(cluster.propose(1, 2));
    cluster.settle();
    assert!(resting(&cluster).is_empty());
    let last = cluster.core(1).last_index();
    for node in 1..=3 {
        assert_eq!(cluster.core(node).commit_index(), last);
    }
    cluster.run(3 * REST_AFTER_MS);
    assert_eq!(resting(&cluster), [1, 2, 3]);
}

#[test]
fn leader_does_not_rest_while_a_peer_is_missing_for_a_moment() {
    let mut cluster = three();
    cluster.isolate(3);
    for _ in 0..10 {
        cluster.run(100);
        assert!(!cluster.core(1).rests(), "3 may be back at any moment");
    }
    assert_eq!(cluster.leader(), Some(1));
}

#[test]
fn group_with_a_member_that_is_away_stays_awake_and_rests_when_that_is_level_again() {
    let mut cluster = three();
    cluster.crash(3);
    assert!(cluster.propose(1, 2));
    cluster.run(3_000);
    assert!(resting(&cluster).is_empty());
    cluster.start(3);
    let term = cluster.core(1).term();
    cluster.run(4 * REST_AFTER_MS);
    assert_eq!(resting(&cluster), [1, 2, 3]);
    assert_eq!((cluster.leader(), cluster.core(3).term()), (Some(1), term));
    assert_eq!(cluster.core(3).commit_index(), cluster.core(1).last_index());
}

#[test]
fn leader_that_hears_no_quorum_does_not_rest_but_steps_down() {
    let mut cluster = three();
    cluster.crash(2);
    cluster.crash(3);
    cluster.run(3_000);
    assert_ne!(cluster.core(1).role(), Role::Leader);
    assert!(!cluster.core(1).rests());
}

#[test]
fn silence_of_the_leaders_node_ends_in_an_election() {
    let mut cluster = at_rest();
    cluster.now += 60_000;
    cluster.crash(1);
    for node in [2, 3] {
        assert!(cluster.core(node).rests_on(1) && !cluster.core(node).rests_on(5 - node));
        vouch(&mut cluster, node);
        let now = cluster.now;
        cluster.act(node, &[], |core| core.wake(now));
    }
    cluster.run(2_000);
    assert!(matches!(cluster.leader(), Some(2 | 3)));
}

#[test]
fn timeouts_run_from_the_last_beat_of_the_leaders_node() {
    let mut cluster = at_rest();
    cluster.now += 60_000;
    let heard = cluster.now - 150;
    let now = cluster.now;
    cluster.act(2, &[], |core| {
        core.vouch(now, |_| Some(heard));
        core.wake(now);
    });
    let timeout = cluster.core(2).next_deadline() - heard;
    let config = &cluster.nodes[&2].config;
    let drawn = config.election_timeout_min_ms..=config.election_timeout_max_ms;
    assert!(drawn.contains(&timeout), "{timeout} ms after the last beat");
}

#[test]
fn leader_that_wakes_has_as_long_as_ever_to_hear_a_quorum() {
    let mut cluster = at_rest();
    cluster.now += 60_000;
    vouch(&mut cluster, 1);
    let now = cluster.now;
    cluster.isolate(1);
    cluster.act(1, &[], |core| core.wake(now));
    cluster.run(250);
    assert_eq!(cluster.core(1).role(), Role::Leader);
    cluster.run(100);
    assert_ne!(
        cluster.core(1).role(),
        Role::Leader,
        "that its peers' nodes lived is not heard again"
    );
}

#[test]
fn candidate_that_finds_a_group_at_rest_is_refused_and_finds_its_leader() {
    let mut cluster = at_rest();
    cluster.now += 60_000;
    cluster.crash(3);
    cluster.start(3);
    let term = cluster.core(1).term();
    cluster.now += 301;
    for node in [1, 2] {
        vouch(&mut cluster, node);
    }
    let now = cluster.now;
    cluster.act(3, &[], |core| core.tick(now));
    cluster.settle();
    assert!(resting(&cluster).is_empty(), "its question has woken them");
    cluster.run(100);
    assert_eq!((cluster.leader(), cluster.core(3).term()), (Some(1), term));
    assert_eq!(cluster.core(3).leader(), Some(1));
}

#[test]
fn read_of_a_leader_at_rest_takes_a_round() {
    let mut cluster = at_rest();
    cluster.now += 60_000;
    vouch(&mut cluster, 1);
    cluster.isolate(1);
    let now = cluster.now;
    cluster.act(1, &[], |core| {
        core.read_index(now, 77);
        assert!(!core.rests());
        let answered = |effect: &plimsoll::raft::Effect| {
            matches!(effect, plimsoll::raft::Effect::ReadReady { .. })
        };
        assert!(!core.take_effects().iter().any(answered));
    });
}

/// Node 1 follows 2 in term 2, with all it has committed and durable.
fn follower() -> Solo {
    let mut solo = Solo::new(3, &[1], 1);
    solo.step(2, append(2, id(1, 1), &[2], 2));
    solo.sync();
    solo.step(2, heartbeat(3));
    solo.take();
    solo
}

fn heartbeat(round: u64) -> Message {
    Message::Heartbeat {
        term: 2,
        commit: 2,
        round,
    }
}

fn rest(commit: u64, round: u64) -> Message {
    Message::Rest {
        term: 2,
        commit,
        round,
    }
}

#[test]
fn follower_rests_only_with_all_that_the_leader_has() {
    let mut solo = follower();
    solo.step(2, rest(3, 4));
    let awake = Message::HeartbeatReply { term: 2, round: 4 };
    assert_eq!(solo.take_sent(), [(2, awake)], "it lacks entry 3");
    solo.step(2, rest(2, 5));
    let rests = Message::RestReply { term: 2, round: 5 };
    assert_eq!(solo.take_sent(), [(2, rests)]);
    assert!(solo.core.rests());
}

#[test]
fn what_a_later_round_has_overtaken_neither_lets_rest_nor_wakes() {
    let mut solo = follower();
    solo.step(2, heartbeat(6));
    solo.step(2, rest(2, 5));
    assert!(!solo.core.rests(), "its leader has gone on since");
    solo.step(2, rest(2, 7));
    solo.step(2, heartbeat(6));
    assert!(solo.core.rests());
    solo.step(2, heartbeat(8));
    assert!(!solo.core.rests());
}

#[test]
fn heartbeat_of_the_round_it_rests_since_wakes_a_follower() {
    let mut solo = follower();
    solo.step(2, rest(2, 4));
    solo.step(2, heartbeat(4));
    assert!(!solo.core.rests(), "more has been committed in that round");
}

#[test]
fn later_term_wakes_a_follower() {
    let mut solo = follower();
    solo.step(2, rest(2, 4));
    solo.take();
    let last = id(2, 2);
    solo.wait(1_000);
    solo.step(3, Message::PreVote { term: 3, last });
    assert!(!solo.core.rests());
    let granted = Message::PreVoteReply {
        term: 3,
        granted: true,
        conditional: false,
    };
    assert_eq!(
        solo.take_sent(),
        [(3, granted)],
        "nobody vouches for the leader"
    );
}
