//! SIGSTOP and SIGCONT: a leader that does not know that time has passed.

use std::time::Duration;

use crate::cluster::Setup;
use crate::scene::{PARTITIONS, Scene, TOPIC, cycles, for_a_while};
use crate::workload::connect;

/// Questions that wait at the paused leader.
const QUESTIONS: usize = 8;

#[tokio::test]
async fn paused_leader_serves_no_stale_read_and_no_ack_once_it_goes_on() {
    let mut scene = Scene::start(Setup {
        nodes: 3,
        // The others elect long before it would give up by itself: it goes on as a leader that knows nothing of that.
        settings: vec!["raft.election_timeout_max_ms=3000".to_owned()],
        ..Setup::default()
    })
    .await;
    let mut answers = 0;
    for cycle in 0..cycles(4) {
        let (partition, old) = (0, lead(&scene, 2 + u64::from(cycle) % 2).await);
        // This client has learned who leads, and will hear of no other before it asks again.
        let witness = connect(&scene.cluster.client_file()).await;
        let told = witness.admin().end_offset(TOPIC, partition).await;
        told.expect("the end can be asked for");
        scene.cluster.pause(old);
        scene.load.wait_for_acks(100).await;
        let known = scene.load.floor(partition);
        let asking: Vec<_> = (0..QUESTIONS)
            .map(|_| {
                let admin = witness.admin();
                tokio::spawn(async move { admin.end_offset(TOPIC, partition).await })
            })
            .collect();
        // Long enough for the questions to lie in the paused node's socket.
        for_a_while(Duration::from_millis(20)).await;
        scene.cluster.resume(old);
        for question in asking {
            // Time may run out on a loaded machine; a wrong answer may not come.
            if let Ok(end) = question.await.expect("the question's task ends") {
                answers += 1;
                assert!(
                    end >= known,
                    "node {old} was asked when {known} was acked, and the answer is {end}"
                );
            }
        }
        witness.close().await;
        scene.load.wait_for_acks(100).await;
    }
    assert!(answers > 0, "no question was answered at all");
    scene.judge().await;
}

/// Hands leadership of partition 0 to `to`: not node 1, which clients ask first for everything else. Who leads in the end.
async fn lead(scene: &Scene, to: u64) -> u64 {
    for _ in 0..20 {
        if scene.leader().await == to {
            return to;
        }
        // It may fail while leaders change; then the next try finds out.
        drop(scene.client.admin().transfer_leader(TOPIC, 0, to).await);
    }
    scene.leader().await
}

#[tokio::test]
async fn any_nodes_paused_in_turn_cost_nothing() {
    let mut scene = Scene::start(Setup {
        nodes: 3,
        ..Setup::default()
    })
    .await;
    for cycle in 0..cycles(3) {
        let all = scene.cluster.all();
        // One, then two, then all of them: without a majority nothing is acked meanwhile.
        let (asleep, _) = all.split_at(cycle as usize % all.len() + 1);
        for &node in asleep {
            scene.cluster.pause(node);
        }
        if asleep.len() == 1 {
            scene.load.wait_for_acks(100).await;
        } else {
            for_a_while(Duration::from_millis(700)).await;
        }
        for &node in asleep {
            scene.cluster.resume(node);
        }
        scene.cluster.wait_ready().await;
        scene.load.wait_for_acks(100).await;
    }
    assert!(scene.load.floor(PARTITIONS - 1) > 0);
    scene.judge().await;
}
