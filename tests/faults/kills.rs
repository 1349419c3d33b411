//! SIGKILL and SIGTERM: the leader, all nodes, any nodes, and nodes while the network is cut.

use std::time::Duration;

use crate::cluster::Setup;
use crate::relay::{End, Weather};
use crate::scene::{Scene, cycles, for_a_while, seed};

const NODES: u16 = 3;

fn three() -> Setup {
    Setup {
        nodes: NODES,
        ..Setup::default()
    }
}

/// Three nodes that acknowledge what the operating system has.
fn acking_before_the_sync() -> Setup {
    Setup {
        settings: vec!["log.durability=page-cache".to_owned()],
        ..three()
    }
}

#[tokio::test]
async fn killing_the_leader_again_and_again_loses_and_doubles_no_acked_record() {
    kill_leaders(three()).await;
}

#[tokio::test]
async fn killing_the_leader_loses_nothing_that_was_acked_before_it_was_synced() {
    kill_leaders(acking_before_the_sync()).await;
}

async fn kill_leaders(setup: Setup) {
    let mut scene = Scene::start(setup).await;
    for _ in 0..cycles(5) {
        let victim = scene.leader().await;
        scene.cluster.kill(victim);
        scene.load.wait_for_acks(300).await;
        scene.cluster.serve(victim);
        scene.cluster.wait_ready().await;
        scene.load.wait_for_acks(100).await;
    }
    scene.judge().await;
}

#[tokio::test]
async fn killing_every_node_at_once_loses_and_doubles_no_acked_record() {
    kill_all(three()).await;
}

#[tokio::test]
async fn killing_every_node_at_once_loses_nothing_that_was_acked_before_it_was_synced() {
    kill_all(acking_before_the_sync()).await;
}

async fn kill_all(setup: Setup) {
    let mut scene = Scene::start(setup).await;
    for _ in 0..cycles(3) {
        let all = scene.cluster.all();
        scene.cluster.kill_all(&all);
        for node in all {
            scene.cluster.serve(node);
        }
        scene.cluster.wait_ready().await;
        scene.load.wait_for_acks(300).await;
    }
    scene.judge().await;
}

#[tokio::test]
async fn killing_any_nodes_at_any_moment_loses_and_doubles_no_acked_record() {
    kill_any(three()).await;
}

#[tokio::test]
async fn killing_any_nodes_at_any_moment_loses_nothing_that_was_acked_before_it_was_synced() {
    kill_any(acking_before_the_sync()).await;
}

async fn kill_any(setup: Setup) {
    let mut dice = fastrand::Rng::with_seed(seed());
    let mut scene = Scene::start(setup).await;
    for _ in 0..cycles(4) {
        let mut victims = scene.cluster.all();
        dice.shuffle(&mut victims);
        victims.truncate(dice.usize(1..=victims.len()));
        scene.cluster.kill_all(&victims);
        if victims.len() == 1 {
            scene.load.wait_for_acks(dice.u64(1..200)).await;
        }
        for node in victims {
            scene.cluster.serve(node);
            // The next one may find a cluster that serves, or one that is still at it.
            for_a_while(Duration::from_millis(dice.u64(0..100))).await;
        }
        if dice.bool() {
            // One that has just begun to start dies at once.
            let young = dice.u64(1..=u64::from(NODES));
            scene.cluster.kill(young);
            scene.cluster.serve(young);
        }
        scene.cluster.wait_ready().await;
        scene.load.wait_for_acks(100).await;
    }
    scene.judge().await;
}

#[tokio::test]
async fn killing_nodes_while_links_are_cut_and_lossy_loses_and_doubles_no_acked_record() {
    let seed = seed();
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut scene = Scene::start(Setup {
        relays: Some(seed),
        ..three()
    })
    .await;
    for _ in 0..cycles(4) {
        let leader = scene.leader().await;
        let follower = leader % u64::from(NODES) + 1;
        let relays = scene.cluster.relays();
        relays.weather_everywhere(Weather {
            jitter: Duration::from_millis(dice.u64(0..5)),
            loss: dice.f64() * 0.05,
            doubled: dice.f64() * 0.05,
            reordered: dice.f64() * 0.1,
            ..Weather::default()
        });
        match dice.u8(0..5) {
            0 => relays.isolate(leader),
            1 => relays.isolate(follower),
            2 => relays.cut(End::Node(leader), End::Node(follower)),
            3 => relays.cut(End::Node(follower), End::Node(leader)),
            _ => relays.part(End::Node(leader), End::Client),
        }
        for_a_while(Duration::from_millis(dice.u64(0..300))).await;
        let victim = dice.u64(1..=u64::from(NODES));
        scene.cluster.kill(victim);
        for_a_while(Duration::from_millis(dice.u64(0..300))).await;
        if dice.bool() {
            scene.cluster.relays().heal();
            scene.load.wait_for_acks(50).await;
        }
        scene.cluster.serve(victim);
        for_a_while(Duration::from_millis(dice.u64(0..100))).await;
        scene.cluster.relays().heal();
        scene.cluster.wait_ready().await;
        scene.load.wait_for_acks(100).await;
    }
    let counts = scene.cluster.relays().counts();
    eprintln!("relays: {counts:?}");
    assert!(counts.cut > 0 && counts.lost > 0 && counts.doubled > 0 && counts.delayed > 0);
    scene.judge().await;
}

#[tokio::test]
async fn stopping_nodes_in_turn_with_sigterm_costs_nothing() {
    let mut scene = Scene::start(three()).await;
    for node in scene.cluster.all() {
        let status = scene.cluster.stop(node);
        assert!(status.success(), "node {node} ended with {status}");
        scene.load.wait_for_acks(200).await;
        scene.cluster.serve(node);
        scene.cluster.wait_ready().await;
        scene.load.wait_for_acks(100).await;
    }
    scene.judge().await;
}
