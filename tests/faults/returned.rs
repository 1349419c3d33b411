//! A node that comes back with an old copy of its data directory, or with an empty one: it is turned away, for it has forgotten votes.

use std::fs;
use std::path::Path;

use crate::cluster::Setup;
use crate::files::copy_folder;
use crate::scene::{Scene, cycles};

/// Swaps the data directory of a stopped node for another one, sees the node turned away, and gives it its own back.
async fn is_turned_away(scene: &mut Scene, node: u64, put: impl FnOnce(&Path)) {
    let folder = scene.cluster.data_dir(node);
    let aside = folder.with_extension("aside");
    fs::rename(&folder, &aside).expect("a folder can be renamed");
    put(&folder);
    let said_before = scene.cluster.whole_log_of(node).len();
    scene.cluster.serve(node);
    let status = scene.cluster.wait_for_end(node).await;
    assert_eq!(status.code(), Some(1), "node {node} is turned away");
    let said = scene.cluster.whole_log_of(node).split_off(said_before);
    assert!(said.contains("replace-node"), "it says what to do: {said}");
    scene.load.wait_for_acks(200).await;
    fs::remove_dir_all(&folder).expect("a folder can be removed");
    fs::rename(&aside, &folder).expect("a folder can be renamed");
    scene.cluster.serve(node);
    scene.cluster.wait_ready().await;
    scene.load.wait_for_acks(100).await;
}

async fn three() -> Scene {
    Scene::start(Setup {
        nodes: 3,
        ..Setup::default()
    })
    .await
}

#[tokio::test]
async fn node_with_an_old_copy_of_its_data_is_turned_away() {
    let mut scene = three().await;
    for cycle in 0..cycles(2) {
        let node = u64::from(cycle) % 3 + 1;
        let old = scene.cluster.home().join(format!("old-{cycle}"));
        scene.cluster.kill(node);
        copy_folder(&scene.cluster.data_dir(node), &old);
        scene.cluster.serve(node);
        scene.cluster.wait_ready().await;
        scene.load.wait_for_acks(200).await;
        scene.cluster.kill(node);
        is_turned_away(&mut scene, node, |folder| copy_folder(&old, folder)).await;
        fs::remove_dir_all(&old).expect("a folder can be removed");
    }
    scene.judge().await;
}

#[tokio::test]
async fn node_with_an_emptied_data_directory_is_turned_away() {
    let mut scene = three().await;
    for cycle in 0..cycles(2) {
        let node = u64::from(cycle) % 3 + 1;
        scene.cluster.kill(node);
        is_turned_away(&mut scene, node, |folder| {
            fs::create_dir(folder).expect("a folder can be made");
        })
        .await;
    }
    scene.judge().await;
}
