//! Nodes whose monotonic clocks differ by days and go back between two lives.
//!
//! By time namespaces, where the machine has them. The clock of the day cannot be set for one process alone, and setting it for the
//! whole machine is not a test's business: steps of it are left to the simulator, whose nodes have clocks of their own.

use crate::cluster::Setup;
use crate::scene::{Scene, can_run_within, cycles};

/// A command that runs what follows it with a monotonic clock that is `seconds` ahead.
fn ahead_by(seconds: i64) -> Vec<String> {
    ["unshare", "-rT", "--monotonic", &seconds.to_string()]
        .map(str::to_owned)
        .to_vec()
}

#[tokio::test]
async fn clocks_that_differ_and_go_back_between_lives_cost_nothing() {
    if !can_run_within(&ahead_by(1), "this machine gives no time namespaces") {
        return;
    }
    let days = 86_400;
    let mut setup = Setup {
        nodes: 3,
        ..Setup::default()
    };
    setup.within = (1..=3)
        .map(|node| (node, ahead_by(node as i64 * 30 * days)))
        .collect();
    let mut scene = Scene::start(setup).await;
    let clock_of = |process: String| std::fs::read_link(format!("/proc/{process}/ns/time"));
    let ours = clock_of("self".to_owned()).expect("it can be asked");
    for cycle in 0..cycles(3) {
        let victim = scene.leader().await;
        let pid = scene.cluster.pid(victim).as_raw_nonzero().to_string();
        assert_ne!(clock_of(pid).expect("it can be asked"), ours);
        scene.cluster.kill(victim);
        scene.load.wait_for_acks(100).await;
        // Back, forward, back.
        let ahead = [1, 400 * days, 10 * days][cycle as usize % 3];
        scene.cluster.run_within(victim, ahead_by(ahead));
        scene.cluster.serve(victim);
        scene.cluster.wait_ready().await;
        scene.load.wait_for_acks(100).await;
    }
    scene.judge().await;
}
