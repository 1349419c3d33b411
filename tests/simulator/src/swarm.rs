//! The swarm: what one seed draws. Owns which faults are on in a run, how often they come, and how the cluster is set up.
//!
//! Must not know how a fault is carried out. Runs that leave some faults out reach states that a run with all of them never sees.

use fastrand::Rng;
use plimsoll::raft;
use plimsoll::replica::{Pacer, ReplicaConfig};
use plimsoll::wire::BatchCaps;
use segment_store::LogOptions;

use crate::world::{MILLI, Micros, SECOND};

/// The partition of the run.
pub(crate) const PARTITION: u64 = 7;
/// A partition that is created in the middle of a run.
pub(crate) const LATE: u64 = 8;
/// More entries than a run has.
pub(crate) const SNAPSHOTS_NEVER: u64 = 65_536;
pub(crate) const PAYLOAD_MAX: usize = 1 << 16;
/// Bytes a second at which a peer is brought up, at least: what a run can have missed is there within the time for P10.
const PACE_MIN: u64 = 2 << 20;
/// Operations of a disk, at least, that going on in another segment adds, one behind the other.
const OPERATIONS_OF_ROLL: u64 = 3;

/// A kind of fault, or of interference, that a run may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A process dies between two operations of its disk; what it wrote stays in the page cache.
    Kill,
    /// The power of one node goes at some operation of its disk.
    PowerCut,
    /// The power of all nodes goes at once.
    PowerCutAll,
    /// A process stands still for a while.
    Pause,
    /// Two sets of nodes do not hear each other.
    Partition,
    /// One node hears nobody, and nobody hears it.
    Isolate,
    /// A leader hears nobody, or nobody hears it, while its clients still do.
    IsolateLeader,
    /// A process dies, starts again at once, and then the power goes: what was read back may never have been on the disk.
    KillThenPowerCut,
    /// Messages from one node to another are lost, not those back.
    OneWay,
    /// Two halves that hear only one node in common.
    Bridge,
    /// Links come and go in quick turns.
    Flap,
    /// A sync reports an error.
    FailedSync,
    /// A disk fills up for a while.
    NoSpace,
    /// A disk gets slow for a while.
    SlowDisk,
    /// Leadership is handed over on request.
    Transfer,
    /// The members of a group change: learners and voters come, go, and are replaced.
    Reconfigure,
    /// A node goes on at a hundredth of its speed, disk and all.
    Crawl,
    /// Bytes change on the disk of a node that is down.
    Rot,
}

pub(crate) const FAULTS: [Fault; 18] = [
    Fault::Kill,
    Fault::PowerCut,
    Fault::PowerCutAll,
    Fault::Pause,
    Fault::Partition,
    Fault::Isolate,
    Fault::IsolateLeader,
    Fault::KillThenPowerCut,
    Fault::OneWay,
    Fault::Bridge,
    Fault::Flap,
    Fault::FailedSync,
    Fault::NoSpace,
    Fault::SlowDisk,
    Fault::Transfer,
    Fault::Reconfigure,
    Fault::Crawl,
    Fault::Rot,
];

/// How the network treats a message when nothing is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) delay_min: Micros,
    pub(crate) delay_max: Micros,
    /// Of a thousand messages.
    pub(crate) lost: u32,
    pub(crate) doubled: u32,
    /// Arrive when nobody thinks of them any more.
    pub(crate) stray: u32,
    /// Whether messages of one link keep their order.
    pub(crate) ordered: bool,
    /// Whether the messages of one turn to one peer travel together.
    pub(crate) coalesced: bool,
}

impl Weather {
    /// How it is once everything has healed.
    pub(crate) const CALM: Weather = Weather {
        delay_min: 50,
        delay_max: 500,
        lost: 0,
        doubled: 0,
        stray: 0,
        ordered: true,
        coalesced: true,
    };
}

/// What one seed draws.
#[derive(Clone, Debug)]
pub(crate) struct Swarm {
    /// Voters that the groups are created with.
    pub(crate) nodes: u64,
    /// Nodes that run as well, and belong to no group until a change makes them members.
    pub(crate) spares: u64,
    /// When a second partition is created, if it is.
    pub(crate) late: Option<Micros>,
    pub(crate) in_flight_bytes_max: u64,
    pub(crate) uncommitted_bytes_max: u64,
    pub(crate) peer_bytes_max: u64,
    /// Whether group 0 runs beside the partition.
    pub(crate) controller: bool,
    pub(crate) preparer: bool,
    pub(crate) log: LogOptions,
    pub(crate) snapshot_every_entries: u64,
    /// Bytes that a partition keeps at least; without, everything.
    pub(crate) retention_bytes: Option<u64>,
    pub(crate) catch_up_lag_bytes: u64,
    pub(crate) catch_up_bytes_per_s: u64,
    pub(crate) request_timeout_ms: u64,
    /// When groups rest, if they do.
    pub(crate) rest_after_ms: Option<u64>,
    pub(crate) weather: Weather,
    pub(crate) disk_delay_max: Micros,
    /// A node's clock runs at 1000 minus to 1000 plus this many thousandths.
    pub(crate) drift: u64,
    pub(crate) faults: Vec<Fault>,
    /// Mean time between two faults.
    pub(crate) fault_every: Micros,
    pub(crate) restart_after_max: Micros,
    pub(crate) safety: Micros,
    pub(crate) producers: usize,
    pub(crate) consumers: usize,
    pub(crate) window: u64,
    pub(crate) think_max: Micros,
    pub(crate) value_len_max: usize,
    pub(crate) forward: bool,
}

fn draw_weather(rng: &mut Rng) -> Weather {
    Weather {
        delay_min: 50,
        delay_max: pick(rng, &[300, 2 * MILLI, 20 * MILLI, 60 * MILLI]),
        lost: pick(rng, &[0, 0, 10, 50, 200]),
        doubled: pick(rng, &[0, 0, 10, 100]),
        stray: pick(rng, &[0, 0, 5, 50]),
        ordered: rng.bool(),
        coalesced: rng.bool(),
    }
}

impl Swarm {
    pub(crate) fn draw(rng: &mut Rng) -> Swarm {
        let weather = draw_weather(rng);
        let segment = pick(rng, &[16 << 10, 32 << 10, 64 << 10]);
        let keep = pick(rng, &[30, 50, 100]);
        let mut faults: Vec<Fault> = FAULTS
            .into_iter()
            .filter(|_| rng.u32(0..100) < keep)
            .collect();
        if faults.contains(&Fault::IsolateLeader) {
            // The fault that most often makes logs differ.
            faults.extend([Fault::IsolateLeader; 3]);
        }
        let spares = match faults.contains(&Fault::Reconfigure) {
            true => {
                faults.extend([Fault::Reconfigure; 2]);
                rng.u64(0..=2)
            }
            false => 0,
        };
        if faults.is_empty() {
            faults.push(Fault::Transfer);
        }
        // From a generator apart, so that all else of a seed is drawn as ever.
        let apart = rng.clone();
        let swarm = Swarm {
            retention_bytes: None,
            rest_after_ms: None,
            catch_up_lag_bytes: 64 << 20,
            catch_up_bytes_per_s: 64 << 20,
            nodes: pick(rng, &[1, 3, 3, 3, 3, 5]),
            spares,
            late: rng.bool().then(|| rng.u64(500 * MILLI..2 * SECOND)),
            in_flight_bytes_max: pick(rng, &[16 << 10, 128 << 10, 8 << 20]),
            uncommitted_bytes_max: pick(rng, &[80 << 10, 256 << 10, 1 << 20]),
            peer_bytes_max: pick(rng, &[64 << 10, 256 << 10, 64 << 20]),
            controller: rng.bool(),
            preparer: rng.bool(),
            log: LogOptions {
                segment_bytes_first: segment,
                segment_bytes_max: segment * pick(rng, &[1, 4]),
                payload_bytes_max: PAYLOAD_MAX,
                index_every_bytes: pick(rng, &[512, 4096]),
                ahead_bytes_max: 16 << 10,
                past_cache_bytes_min: u64::MAX,
            },
            snapshot_every_entries: pick(rng, &[8, 40, SNAPSHOTS_NEVER]),
            request_timeout_ms: pick(rng, &[300, 1_000, 5_000]),
            weather,
            disk_delay_max: pick(rng, &[200, 2 * MILLI, 20 * MILLI]),
            drift: pick(rng, &[0, 10, 150]),
            faults,
            fault_every: pick(rng, &[50 * MILLI, 100 * MILLI, 200 * MILLI, 500 * MILLI]),
            restart_after_max: pick(rng, &[50 * MILLI, 500 * MILLI, 2 * SECOND]),
            safety: rng.u64(2 * SECOND..6 * SECOND),
            producers: rng.usize(1..=3),
            consumers: rng.usize(1..=2),
            window: pick(rng, &[1, 4, 16, 32]),
            think_max: pick(rng, &[2 * MILLI, 10 * MILLI, 50 * MILLI]),
            value_len_max: pick(rng, &[32, 200, 3_000]),
            forward: rng.bool(),
        };
        swarm.draw_retention(apart).fit_for_pace()
    }

    /// What a run can have missed must arrive within the time for P10, also one window of a catch-up at a time: no window is smaller
    /// than what [`PACE_MIN`] brings while a disk works, and no segment shorter than what it brings while one begins.
    fn fit_for_pace(mut self) -> Swarm {
        let round_trip = self.disk_delay_max / 2 + MILLI;
        let least = PACE_MIN * round_trip / SECOND;
        // A catch-up has half of it.
        let window = self.in_flight_bytes_max.max(2 * least.next_power_of_two());
        self.in_flight_bytes_max = window;
        let roll = OPERATIONS_OF_ROLL * self.disk_delay_max / 2;
        let least = PACE_MIN * roll / SECOND;
        self.log.segment_bytes_max = self.log.segment_bytes_max.max(least.next_power_of_two());
        self
    }

    /// How far behind a peer may be, and how little is kept for it. What one replica must repair, the others must not have let
    /// go, so nothing rots where anything is let go.
    fn draw_retention(mut self, mut rng: Rng) -> Swarm {
        self.catch_up_lag_bytes = pick(&mut rng, &[2 << 10, 30 << 10, 64 << 20]);
        // Slow enough to be felt.
        self.catch_up_bytes_per_s = pick(&mut rng, &[PACE_MIN, 64 << 20]);
        // From a generator apart again.
        let mut apart = rng.clone();
        self.rest_after_ms = pick(
            &mut apart,
            &[None, Some(0), Some(0), Some(100), Some(1_000)],
        );
        if self.rest_after_ms.is_some() && apart.bool() {
            // Little enough to do that they do rest.
            self.think_max = 500 * MILLI;
        }
        self.log.past_cache_bytes_min = pick(&mut apart, &[1 << 10, u64::MAX]);
        if self.has(Fault::Rot) || rng.u32(0..8) == 0 {
            return self;
        }
        self.retention_bytes = pick(&mut rng, &[Some(1), Some(1), Some(30 << 10)]);
        self.snapshot_every_entries = pick(&mut rng, &[8, 40]);
        self.log.segment_bytes_first = 8 << 10;
        self.log.segment_bytes_max = pick(&mut rng, &[8 << 10, 16 << 10]);
        self.restart_after_max = 4 * SECOND;
        self.value_len_max = self.value_len_max.max(1_000);
        self
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// The groups that are there from the start, ascending.
    pub(crate) fn groups(&self) -> Vec<u64> {
        match self.controller {
            true => vec![0, PARTITION],
            false => vec![PARTITION],
        }
    }

    /// The voters that the groups are created with.
    pub(crate) fn voters(&self) -> Vec<u64> {
        (1..=self.nodes).collect()
    }

    /// All nodes.
    pub(crate) fn everyone(&self) -> Vec<u64> {
        (1..=self.nodes + self.spares).collect()
    }

    pub(crate) fn core_config(&self, node: u64, seed: u64) -> raft::Config {
        raft::Config {
            in_flight_bytes_max: self.in_flight_bytes_max,
            catch_up_lag_bytes: self.catch_up_lag_bytes,
            catch_up_in_flight_bytes_max: self.in_flight_bytes_max / 2,
            rest_after_ms: self.rest_after_ms,
            ..raft::Config::new(node, seed)
        }
    }

    pub(crate) fn replica_config(&self, group: u64) -> ReplicaConfig {
        ReplicaConfig {
            batch_caps: caps(),
            retention_bytes: self.retention_bytes,
            pacer: Pacer::new(self.catch_up_bytes_per_s),
            request_timeout_ms: self.request_timeout_ms,
            snapshot_every_entries: self.snapshot_every_entries,
            uncommitted_bytes_max: self.uncommitted_bytes_max,
            forward_bytes_max: self.uncommitted_bytes_max,
            append_bytes_max: 64 << 10,
            ..ReplicaConfig::new(group)
        }
    }
}

pub(crate) fn caps() -> BatchCaps {
    BatchCaps {
        payload_bytes_max: PAYLOAD_MAX,
        records_bytes_max: PAYLOAD_MAX,
    }
}

pub(crate) fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(0..from.len())]
}
