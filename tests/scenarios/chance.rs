//! Chance: seeded histories of lost, repeated and reordered messages, slow disks, power cuts and
//! partitions, under one producer that retries. Afterwards everything heals, and what was promised is
//! looked for. A failure names the seed that repeats it.

use std::collections::BTreeMap;

use plimsoll::raft::{NodeId, Role, Term};
use plimsoll::replica::Answer;
use plimsoll::wire::peek_head;
use segment_store::kind;

use crate::batches::batch_of;
use crate::cluster::Cluster;

const SEEDS: u64 = 60;
const STEPS: usize = 600;

/// A producer with one batch under way.
#[derive(Default)]
struct Producer {
    sequence: u64,
    under_way: Option<(NodeId, u64)>,
    /// First sequence -> base offset, as acked.
    acked: BTreeMap<u64, u64>,
}

impl Producer {
    /// Offers the next batch, or the same again if it was not acked.
    fn act(&mut self, cluster: &mut Cluster, rng: &mut fastrand::Rng) {
        if let Some((node, token)) = self.under_way {
            if !cluster.is_up(node) {
                self.under_way = None;
                return;
            }
            match cluster.reply(node, token) {
                None => return,
                Some(Ok(Answer::Acked(acked))) => {
                    self.acked.insert(self.sequence, acked.base_offset);
                    self.sequence += 1;
                }
                Some(Ok(other)) => panic!("a batch was answered with {other:?}"),
                Some(Err(error)) => assert!(error.is_retriable(), "{error}"),
            }
            self.under_way = None;
        }
        let node = rng.u64(1..=3);
        if cluster.is_up(node) {
            // A retry must be the same batch, so its length follows from its sequence alone.
            let len = 10 + (self.sequence as usize * 997) % 4_000;
            let batch = batch_of(5, 0, self.sequence, 1, len);
            let token = cluster.offer(node, &batch, rng.bool());
            self.under_way = Some((node, token));
        }
    }
}

/// One leader per term (P1), over the whole history.
fn check_leaders(cluster: &mut Cluster, leaders: &mut BTreeMap<Term, NodeId>) {
    for id in (1..=3).filter(|id| cluster.is_up(*id)).collect::<Vec<_>>() {
        let raft = cluster.node(id).replica.raft();
        if raft.role() == Role::Leader {
            let first = *leaders.entry(raft.term()).or_insert(id);
            assert_eq!(first, id, "two leaders in term {}", raft.term());
        }
    }
}

fn step(cluster: &mut Cluster, producer: &mut Producer, rng: &mut fastrand::Rng) {
    let node = rng.u64(1..=3);
    match rng.u32(0..100) {
        0..45 => {
            let len = cluster.network().len();
            if len > 0 {
                let at = rng.usize(0..len.min(6));
                let message = cluster.network().remove(at).unwrap();
                if rng.u32(0..20) == 0 {
                    cluster.network().push_back(message.clone());
                }
                cluster.network().push_front(message);
                cluster.deliver();
            }
        }
        45..48 => {
            cluster.network().pop_front();
        }
        48..75 if cluster.is_up(node) => {
            cluster.turn(node);
            if rng.u32(0..4) != 0 {
                cluster.work_disk(node);
            }
            cluster.turn(node);
        }
        75..84 => cluster.advance(rng.u64(1..60)),
        84..97 => producer.act(cluster, rng),
        97 => cluster.isolate(node),
        98 => cluster.heal(),
        99 if rng.u32(0..3) == 0 => {
            if cluster.is_up(node) {
                cluster.crash(node);
            } else {
                cluster.start(node);
            }
        }
        _ => {}
    }
}

/// Every acked batch is where the ack said, and no batch is there twice (P3, P9).
fn check_acked(cluster: &mut Cluster, producer: &Producer) {
    let last = cluster.node(1).published.applied_index;
    let mut found = BTreeMap::new();
    for frame in cluster.frames(1, last) {
        let header = frame.header();
        if header.kind == kind::RECORDS {
            let head = peek_head(&frame.payload()).unwrap();
            let twice = found.insert(head.first_sequence, header.base_offset);
            assert_eq!(
                twice, None,
                "batch {} is in the log twice",
                head.first_sequence
            );
        }
    }
    for (sequence, offset) in &producer.acked {
        assert_eq!(found.get(sequence), Some(offset), "batch {sequence}");
    }
}

fn play(seed: u64) -> usize {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut cluster = Cluster::three();
    let mut producer = Producer::default();
    let mut leaders = BTreeMap::new();
    for _ in 0..STEPS {
        step(&mut cluster, &mut producer, &mut rng);
        check_leaders(&mut cluster, &mut leaders);
    }
    cluster.heal();
    for id in 1..=3 {
        if !cluster.is_up(id) {
            cluster.start(id);
        }
    }
    cluster.run_until(|cluster| {
        let marks: Vec<_> = (1..=3).map(|id| cluster.node(id).published).collect();
        let leads = marks[0].leader.is_some();
        let same = marks
            .iter()
            .all(|mark| mark.applied_index == marks[0].applied_index);
        leads && same && marks[0].applied_index == cluster.node(1).replica.raft().last_index()
    });
    cluster.check_identical();
    check_acked(&mut cluster, &producer);
    producer.acked.len()
}

#[test]
fn whatever_happens_acked_batches_stay_where_they_were_acked_and_come_once() {
    let mut acked = 0;
    for seed in 0..SEEDS {
        match std::panic::catch_unwind(|| play(seed)) {
            Ok(count) => acked += count,
            Err(panic) => {
                eprintln!("the seed that repeats it: {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(
        acked as u64 > SEEDS,
        "the histories ack too little to prove anything: {acked}"
    );
}
