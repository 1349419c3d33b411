//! Small clusters under everything at once: loss, repetition, reordering, slow disks, crashes, cut links, transfers,
//! trimming. First only safety counts; then the faults end, and the cluster has to serve again (P10).
//!
//! A failure prints its seed; `run_seed(seed)` repeats it exactly.

use fastrand::Rng;
use plimsoll::raft::LogId;

use crate::cluster::Cluster;
use crate::disk::Log;

const SEEDS: u64 = 300;
const STEPS: usize = 3_000;

#[test]
fn random_faults_break_no_promise_and_the_cluster_recovers() {
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(|| run_seed(seed));
        if let Err(panic) = outcome {
            eprintln!("seed {seed} fails");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn same_seed_gives_same_history() {
    let (a, b) = (run_seed(7), run_seed(7));
    assert_eq!(format!("{a:?}"), format!("{b:?}"));
}

fn run_seed(seed: u64) -> Cluster {
    let mut rng = Rng::with_seed(seed);
    let voters = *rng.choice(&[1, 2, 3, 3, 3, 5]).unwrap();
    let mut cluster = Cluster::new(voters);
    // A small window, so that it fills up.
    for host in cluster.nodes.values_mut() {
        host.config.in_flight_bytes_max = 1_000;
    }
    for node in cluster.ids() {
        cluster.crash(node);
        cluster.start(node);
    }
    let weather = Weather::any(&mut rng);
    for _ in 0..STEPS {
        disturb(&mut cluster, &weather, &mut rng);
    }
    recover(&mut cluster);
    cluster
}

/// What kind of run a seed has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// How many of the oldest packets compete to be next: 1 keeps the order.
    reach: usize,
    /// Longest time that passes at once.
    pause_ms: u64,
    /// Mean length of a crash or a cut link, in events.
    outage_steps: u32,
}

impl Weather {
    pub(crate) fn any(rng: &mut Rng) -> Weather {
        Weather {
            reach: *rng.choice(&[1, 4, usize::MAX]).unwrap(),
            pause_ms: *rng.choice(&[20, 60, 200]).unwrap(),
            outage_steps: *rng.choice(&[20, 100, 400]).unwrap(),
        }
    }
}

/// One random event.
pub(crate) fn disturb(cluster: &mut Cluster, weather: &Weather, rng: &mut Rng) {
    let node = rng.choice(cluster.ids()).unwrap();
    let other = rng.choice(cluster.ids()).unwrap();
    let event = rng.u32(0..1000);
    if rng.u32(0..weather.outage_steps) == 0 {
        cluster.heal();
    }
    if !cluster.is_up(node) {
        if rng.u32(0..weather.outage_steps) == 0 {
            cluster.start(node);
        }
        return;
    }
    match event {
        0..400 => deliver_any(cluster, weather, rng),
        400..560 => _ = cluster.nodes.get_mut(&node).unwrap().disk.work(),
        560..720 => _ = cluster.report(node),
        720..800 => cluster.pump(node),
        800..830 => send_part(cluster, node, other, rng),
        830..880 => pass_time(cluster, weather, rng),
        880..950 => _ = cluster.propose(node, rng.u64(1..4)),
        950..970 => _ = cluster.read(node),
        970..975 => {
            let now = cluster.now;
            _ = cluster.act(node, &[], |core| core.transfer_leader(now, other));
        }
        975..985 => cluster.act(node, &[], |core| core.peer_unreachable(other)),
        985..988 => cluster.crash(node),
        988..992 => _ = cluster.cut.insert((node, other)),
        992..996 => cluster.isolate(node),
        996..999 => trim_any(cluster, node, rng),
        _ => {
            let now = cluster.now;
            cluster.act(node, &[], |core| core.step_down(now));
        }
    }
}

/// Delivers, loses or repeats a random packet.
fn deliver_any(cluster: &mut Cluster, weather: &Weather, rng: &mut Rng) {
    if cluster.network.is_empty() {
        return;
    }
    let reach = cluster.network.len().min(weather.reach);
    let packet = cluster.network.remove(rng.usize(0..reach));
    match rng.u32(0..40) {
        0 | 1 => {}
        2 => {
            cluster.network.push(packet.clone());
            cluster.deliver(packet);
        }
        _ => cluster.deliver(packet),
    }
}

/// Sends less than the window allows.
fn send_part(cluster: &mut Cluster, node: u64, peer: u64, rng: &mut Rng) {
    if let Some(plan) = cluster.core(node).next_append(peer) {
        let last = rng.u64(plan.first..=plan.last.min(plan.first + 3));
        cluster.send_append(node, peer, last);
    }
}

fn pass_time(cluster: &mut Cluster, weather: &Weather, rng: &mut Rng) {
    cluster.now += rng.u64(1..weather.pause_ms);
    for node in cluster.ids() {
        if cluster.is_up(node) && rng.u32(0..4) != 0 {
            cluster.tick(node);
        }
    }
}

/// Trims at `node` what every node has committed and durable, or else what `node` itself has: then others may need a state.
fn trim_any(cluster: &mut Cluster, node: u64, rng: &mut Rng) {
    let log = &cluster.nodes[&node].log;
    let core = cluster.core(node);
    let upto = core.commit_index().min(core.durable_index());
    let strand = rng.bool();
    let kept_by_all = |id: LogId| cluster.nodes.values().all(|host| host.disk.keeps(id));
    let indexes = (log.prev.index + 1..=upto).rev();
    let trimmable = indexes
        .map(|index| LogId {
            term: log.term_at(index).unwrap(),
            index,
        })
        .find(|&id| strand || kept_by_all(id));
    if let Some(id) = trimmable {
        cluster.trim(node, id.index);
    }
}

/// Faults end: a leader emerges, commits, and all logs become equal.
pub(crate) fn recover(cluster: &mut Cluster) {
    cluster.heal();
    for node in cluster.ids() {
        if !cluster.is_up(node) {
            cluster.start(node);
        }
    }
    cluster.run(3_000);
    let leader = cluster
        .leader()
        .expect("a leader emerges within three seconds (P10)");
    let before = cluster.history.committed_index();
    assert!(cluster.propose(leader, 1), "the leader takes proposals");
    cluster.run(1_000);
    assert!(
        cluster.history.committed_index() > before,
        "and commits them (P10)"
    );
    let last = cluster.core(leader).last_index();
    let terms_from = |log: &Log, from: u64| log.slice(from, log.last_index());
    for node in cluster.ids() {
        assert_eq!(
            cluster.core(node).commit_index(),
            last,
            "node {node} learns all that is committed"
        );
        let (ours, theirs) = (&cluster.nodes[&leader].log, &cluster.nodes[&node].log);
        let from = ours.prev.index.max(theirs.prev.index) + 1;
        assert_eq!(
            terms_from(ours, from),
            terms_from(theirs, from),
            "logs are equal in the end"
        );
    }
}
