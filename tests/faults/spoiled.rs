//! Files of one node of three flipped, cut and lost between two of its lives: nothing acked is lost.

use std::time::Duration;

use crate::cluster::Setup;
use crate::files::{SPOILS, Spoil, spoil};
use crate::scene::{PARTITIONS, Scene, cycles, has_caught_up, seed};

fn small_segments() -> Setup {
    Setup {
        nodes: 3,
        settings: vec![
            "log.segment_bytes_max=1048576".to_owned(),
            "log.segment_bytes_first=65536".to_owned(),
        ],
        ..Setup::default()
    }
}

/// What a node made of its spoilt files.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Everything is there again.
    Repaired,
    /// It said what is wrong with which file, and went no further.
    Refused,
}

/// Waits until a node with a spoilt file has decided what to make of it.
async fn outcome(scene: &mut Scene, node: u64, file: &str, said_before: usize) -> Outcome {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..600 {
        tick.tick().await;
        if !scene.cluster.is_alive(node) {
            let said = scene.cluster.whole_log_of(node).split_off(said_before);
            assert!(
                said.contains(file),
                "node {node} ended and does not name {file}:\n{said}"
            );
            return Outcome::Refused;
        }
        let mut all = true;
        for partition in 0..PARTITIONS {
            all &= has_caught_up(&scene.client, partition, 3).await;
        }
        if all {
            return Outcome::Repaired;
        }
        let said = scene.cluster.whole_log_of(node).split_off(said_before);
        if said.contains("ERROR") {
            return Outcome::Refused;
        }
    }
    panic!(
        "node {node} neither repairs {file} nor says that it cannot:\n{}",
        scene.cluster.log_of(node)
    );
}

/// Spoils the same kind of file on each node in turn, while the others are written to.
async fn spoil_and_serve(what: &[Spoil], rounds: u32) {
    let mut dice = fastrand::Rng::with_seed(seed());
    let mut scene = Scene::start(small_segments()).await;
    let (mut repaired, mut refused) = (0, 0);
    // Enough for several full segments of each partition.
    scene.load.wait_for_acks(8_000).await;
    for round in 0..rounds {
        let what = what[round as usize % what.len()];
        let node = dice.u64(1..=3);
        scene.cluster.kill(node);
        scene.load.wait_for_acks(100).await;
        let folder = scene.cluster.data_dir(node);
        let said_before = scene.cluster.whole_log_of(node).len();
        let spoilt = spoil(&folder, what, &mut dice);
        scene.cluster.serve(node);
        let Some(spoilt) = spoilt else {
            assert_eq!(what, Spoil::Snapshot, "there is no file for {what:?}");
            scene.cluster.wait_ready().await;
            continue;
        };
        let name = spoilt
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let outcome = outcome(&mut scene, node, &name, said_before).await;
        eprintln!("{what:?} on node {node}: {outcome:?}");
        scene.load.wait_for_acks(100).await;
        if outcome == Outcome::Refused {
            refused += 1;
            if scene.cluster.is_alive(node) {
                scene.cluster.kill(node);
            } else {
                let status = scene.cluster.wait_for_end(node).await;
                assert!(!status.success(), "node {node} ended as if all were well");
            }
            spoilt.undo();
            scene.cluster.serve(node);
            scene.cluster.wait_ready().await;
        } else {
            repaired += 1;
        }
        scene.load.wait_for_acks(100).await;
    }
    eprintln!("{repaired} repaired, {refused} refused");
    scene.judge().await;
}

#[tokio::test]
async fn spoilt_files_of_one_node_lose_nothing_acked() {
    // What rots in a full segment is not seen on opening: nobody would notice before it is read.
    let seen: Vec<Spoil> = SPOILS
        .into_iter()
        .filter(|what| *what != Spoil::SealedFrame)
        .collect();
    spoil_and_serve(&seen, cycles(seen.len() as u32)).await;
}
