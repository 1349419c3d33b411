//! Networks that part, flap, lose, reorder and crawl, made by relays between real nodes.

use std::time::Duration;

use plimsoll::client::{From, Record, Replica};
use tokio::time::timeout;

use crate::cluster::Setup;
use crate::relay::{End, Weather};
use crate::scene::{Scene, cycles, for_a_while, seed};

/// An upper guard: a test that would hang fails instead.
const PATIENCE: Duration = Duration::from_secs(60);

async fn behind_relays(nodes: u16) -> Scene {
    Scene::start(Setup {
        nodes,
        relays: Some(seed()),
        ..Setup::default()
    })
    .await
}

/// Heals, waits for service, and judges; the faults must have met datagrams.
async fn heal_and_judge(scene: Scene) {
    let relays = scene.cluster.relays();
    relays.heal();
    let counts = relays.counts();
    eprintln!("relays: {counts:?}");
    assert!(
        counts.cut + counts.lost + counts.delayed > 0,
        "the faults met nothing: {counts:?}"
    );
    scene.load.wait_for_acks(200).await;
    scene.judge().await;
}

#[tokio::test]
async fn leader_cut_off_from_all_others_is_replaced_and_acks_nothing() {
    let scene = Scene::start(Setup {
        nodes: 3,
        relays: Some(seed()),
        // It believes for long after the others have elected that it leads.
        settings: vec!["raft.election_timeout_max_ms=2000".to_owned()],
        ..Setup::default()
    })
    .await;
    for _ in 0..cycles(3) {
        // Clients still reach it, and it still believes that it leads.
        let leader = scene.leader().await;
        scene.cluster.relays().isolate(leader);
        scene.load.wait_for_acks(200).await;
        scene.cluster.relays().heal();
        scene.load.wait_for_acks(100).await;
    }
    heal_and_judge(scene).await;
}

#[tokio::test]
async fn consumer_of_a_leader_that_is_cut_off_from_the_others_goes_on_at_the_next_one() {
    let scene = behind_relays(3).await;
    let admin = scene.client.admin();
    admin.create_topic("tail", 1, 3).await.unwrap();
    let leader = async || admin.describe_topic("tail").await.unwrap().partitions[0].leader;
    let producer = scene.client.producer("tail").build().await.unwrap();
    for replica in [Replica::Leader, Replica::Any] {
        let acked = producer.send(Record::value("before")).await.unwrap();
        let before = acked.await.unwrap().offset;
        let consumer = scene.client.consumer("tail").replica(replica).follow(true);
        let consumer = consumer.from(From::Offset(before));
        let mut consumer = consumer.stream().await.unwrap();
        assert_eq!(consumer.next().await.unwrap().unwrap().offset(), before);

        let led = leader().await.expect("it acknowledged a record");
        scene.cluster.relays().isolate(led);
        let acked = producer.send(Record::value("after")).await.unwrap();
        let after = acked.await.unwrap().offset;
        let next = timeout(PATIENCE, consumer.next()).await;
        let next = next.expect("another leads, and can be reached");
        assert_eq!(next.unwrap().unwrap().offset(), after, "{replica:?}");
        scene.cluster.relays().heal();
    }
    heal_and_judge(scene).await;
}

#[tokio::test]
async fn leader_that_hears_nothing_or_is_heard_by_nobody_is_replaced() {
    let scene = behind_relays(3).await;
    for cycle in 0..cycles(2) {
        let leader = scene.leader().await;
        for other in scene.cluster.all() {
            let (from, to) = match cycle % 2 {
                0 => (End::Node(leader), End::Node(other)),
                _ => (End::Node(other), End::Node(leader)),
            };
            if other != leader {
                scene.cluster.relays().cut(from, to);
            }
        }
        scene.load.wait_for_acks(200).await;
        scene.cluster.relays().heal();
        scene.load.wait_for_acks(100).await;
    }
    heal_and_judge(scene).await;
}

#[tokio::test]
async fn two_halves_that_meet_in_one_node_only_keep_serving() {
    let scene = behind_relays(5).await;
    for cycle in 0..cycles(2) {
        // Each side and the bridge is a majority of five; who leads changes sides with the cycle.
        let bridge = u64::from(cycle) % 5 + 1;
        let others: Vec<u64> = scene
            .cluster
            .all()
            .into_iter()
            .filter(|node| *node != bridge)
            .collect();
        let (left, right) = others.split_at(2);
        for &one in left {
            for &other in right {
                scene
                    .cluster
                    .relays()
                    .part(End::Node(one), End::Node(other));
            }
        }
        scene.load.wait_for_acks(300).await;
        scene.cluster.relays().heal();
        scene.load.wait_for_acks(100).await;
    }
    heal_and_judge(scene).await;
}

#[tokio::test]
async fn flapping_links_of_the_leader_cost_nothing_acked() {
    let seed = seed();
    let mut dice = fastrand::Rng::with_seed(seed);
    let scene = behind_relays(3).await;
    for _ in 0..cycles(2) {
        let leader = scene.leader().await;
        for _ in 0..6 {
            let other = dice.u64(1..=3);
            let relays = scene.cluster.relays();
            relays.cut(End::Node(leader), End::Node(other));
            relays.cut(End::Node(other), End::Node(leader % 3 + 1));
            for_a_while(Duration::from_millis(dice.u64(20..250))).await;
            scene.cluster.relays().heal();
            for_a_while(Duration::from_millis(dice.u64(20..100))).await;
        }
        scene.load.wait_for_acks(100).await;
    }
    heal_and_judge(scene).await;
}

#[tokio::test]
async fn links_that_lose_double_and_reorder_cost_nothing_acked() {
    let scene = behind_relays(3).await;
    scene.cluster.relays().weather_everywhere(Weather {
        delay: Duration::from_millis(2),
        jitter: Duration::from_millis(8),
        loss: 0.05,
        doubled: 0.05,
        reordered: 0.2,
    });
    scene.load.wait_for_acks(3_000 * u64::from(cycles(1))).await;
    heal_and_judge(scene).await;
}

#[tokio::test]
async fn follower_behind_a_slow_link_does_not_slow_the_others_and_catches_up() {
    let scene = behind_relays(3).await;
    let slow = scene.leader().await % 3 + 1;
    for other in scene.cluster.all() {
        let crawl = Weather {
            delay: Duration::from_millis(150),
            jitter: Duration::from_millis(50),
            loss: 0.02,
            ..Weather::default()
        };
        let relays = scene.cluster.relays();
        relays.weather(End::Node(other), End::Node(slow), crawl);
        relays.weather(End::Node(slow), End::Node(other), crawl);
    }
    scene.load.wait_for_acks(6_000 * u64::from(cycles(1))).await;
    heal_and_judge(scene).await;
}
