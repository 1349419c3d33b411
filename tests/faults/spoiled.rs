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
    /// It said what is wrong, and went no further with that group.
    Refused,
}

impl Spoil {
    /// What a node is to make of it. Of a vote that may be forgotten there is no other copy; all else the others have.
    fn expected(self) -> Outcome {
        match self {
            Spoil::Ballot => Outcome::Refused,
            _ => Outcome::Repaired,
        }
    }
}

/// Waits until a node with a spoilt file has decided what to make of it.
async fn outcome(scene: &mut Scene, node: u64, what: Spoil, said_before: usize) -> Outcome {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..900 {
        tick.tick().await;
        if !scene.cluster.is_alive(node) {
            return Outcome::Refused;
        }
        let said = scene.cluster.whole_log_of(node).split_off(said_before);
        if what == Spoil::Ballot && said.contains("ERROR") && said.contains("ballot") {
            return Outcome::Refused;
        }
        if is_whole(scene, node, what).await {
            return Outcome::Repaired;
        }
    }
    panic!(
        "node {node} neither repairs {what:?} nor says that it cannot:\n{}",
        scene.cluster.log_of(node)
    );
}

/// Whether a node has all there is, and knows of no damage. What rots in a full segment is not seen on opening: it must have been found first.
async fn is_whole(scene: &Scene, node: u64, what: Spoil) -> bool {
    let metric = |name: &str| {
        let (_, page) = scene.cluster.get(node, "/metrics")?;
        let line = page.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    if metric("plimsoll_groups_damaged") != Some(0.0) {
        return false;
    }
    if what == Spoil::SealedFrame && metric("plimsoll_repairs_total").unwrap_or(0.0) < 1.0 {
        return false;
    }
    for partition in 0..PARTITIONS {
        if !has_caught_up(&scene.client, partition, 3).await {
            return false;
        }
    }
    true
}

/// One kind after the other, each on any node, while the others are written to.
async fn spoil_and_serve(rounds: u32) {
    let mut dice = fastrand::Rng::with_seed(seed());
    let mut scene = Scene::start(small_segments()).await;
    let (mut repaired, mut refused) = (0, 0);
    // Enough for several full segments of each partition.
    scene.load.wait_for_acks(8_000).await;
    for round in 0..rounds {
        let what = SPOILS[round as usize % SPOILS.len()];
        let node = dice.u64(1..=3);
        scene.cluster.kill(node);
        scene.load.wait_for_acks(100).await;
        let said_before = scene.cluster.whole_log_of(node).len();
        let spoilt = spoil(&scene.cluster.data_dir(node), what, &mut dice);
        scene.cluster.serve(node);
        let spoilt = spoilt.expect("a node that was written to has files of every kind");
        let outcome = outcome(&mut scene, node, what, said_before).await;
        eprintln!("{what:?} on node {node}: {outcome:?}");
        let path = spoilt.path.display();
        assert_eq!(
            outcome,
            what.expected(),
            "{what:?} of {path} on node {node}"
        );
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
async fn spoilt_files_of_one_node_are_repaired_from_the_others_and_lose_nothing_acked() {
    spoil_and_serve(cycles(SPOILS.len() as u32)).await;
}
