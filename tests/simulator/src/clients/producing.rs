//! The clients that produce: batches, some of them several to a request, sent again one by one until each is acked.
//!
//! Owns what a producer has under way. It knows nothing but answers and time.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use plimsoll::replica::{Acked, Answer};
use plimsoll::wire::{ApiError, BatchBuilder, Codec, ProducerStamp};

use super::{Producer, Sent};
use crate::node::{Ask, Caller, Outcome};
use crate::swarm::{PARTITION, PAYLOAD_MAX};
use crate::world::{MILLI, Micros, World};

/// A batch whose records say who sent them.
fn batch(rng: &mut Rng, sender: (u64, u64), sequences: Range<u64>, len_max: usize) -> Bytes {
    let (id, group) = sender;
    let first_sequence = sequences.start;
    let mut builder = BatchBuilder::new(PAYLOAD_MAX, 0);
    for sequence in sequences {
        let mut value = format!("{id}/{sequence}").into_bytes();
        value.resize(rng.usize(0..=len_max).max(value.len()), b'.');
        let pushed = builder.push(None, Some(&value), &[], 1_700_000_000_000 + sequence);
        pushed.expect("the batch is small");
    }
    let stamp = ProducerStamp {
        id,
        epoch: 0,
        first_sequence,
    };
    let codec = if rng.bool() { Codec::None } else { Codec::Lz4 };
    builder.build(stamp, group, codec)
}

impl World {
    pub(super) fn produce(&mut self, client: usize) {
        let now = self.now;
        let producer = &mut self.clients.producers[client];
        if now >= producer.resend_at {
            return self.resend(client);
        }
        // Counted from the oldest one that is not acked: further behind, a retry would not be recognised.
        let oldest = producer.unacked.front();
        let span = oldest.map_or(0, |oldest| producer.batches - oldest.number);
        let there = self.groups.contains(&producer.group);
        if !self.stormy || !there || span >= self.swarm.window {
            return;
        }
        // Small ones often share a request.
        let together = self.rng.u64(1..=4).min(self.swarm.window - span);
        for _ in 0..together {
            let count = self.rng.u64(1..=4);
            let first_sequence = producer.next_sequence;
            let bytes = batch(
                &mut self.rng,
                (producer.id, producer.group),
                first_sequence..first_sequence + count,
                self.swarm.value_len_max,
            );
            producer.next_sequence += count;
            producer.batches += 1;
            producer.unacked.push_back(Sent {
                number: producer.batches - 1,
                first_sequence,
                count,
                bytes,
                request: 0,
                committed_before: 0,
            });
        }
        let together = usize::try_from(together).expect("a few");
        let first = producer.unacked.len() - together;
        self.send_batches(client, first, together);
    }

    /// Sends the batches from position `first` on, in their order, so many in a request.
    fn send_batches(&mut self, client: usize, first: usize, together: usize) {
        let patience = self.rng.u64(100 * MILLI..2_000 * MILLI);
        let delay = self.rng.u64(50..MILLI);
        let forward = self.swarm.forward;
        let now = self.now;
        let group = self.clients.producers[client].group;
        let committed_before = self.checks.group(group).committed();
        let producer = &mut self.clients.producers[client];
        let (target, last) = (producer.target, producer.unacked.len());
        producer.resend_at = now + patience;
        for at in (first..last).step_by(together) {
            let request = self.clients.request();
            let mut run = BytesMut::new();
            let unacked = &mut self.clients.producers[client].unacked;
            for sent in unacked.range_mut(at..last.min(at + together)) {
                sent.request = request;
                sent.committed_before = committed_before;
                run.extend_from_slice(&sent.bytes);
            }
            let batch = run.freeze();
            let ask = Ask::Produce { batch, forward };
            let caller = Caller { client, request };
            self.ask(target, group, Some(caller), ask, delay + at as Micros);
        }
    }

    fn resend(&mut self, client: usize) {
        let other = self.any_node();
        if self.rng.bool() {
            self.clients.producers[client].target = other;
        }
        if self.clients.producers[client].unacked.is_empty() {
            self.clients.producers[client].resend_at = Micros::MAX;
            return;
        }
        // The cluster may have any of them.
        self.send_batches(client, 0, 1);
    }

    pub(super) fn produced(&mut self, caller: Caller, outcome: Outcome) {
        let now = self.now;
        let producer = &mut self.clients.producers[caller.client];
        let position = producer
            .unacked
            .iter()
            .position(|sent| sent.request == caller.request);
        let Some(position) = position else {
            // An answer to what was sent again since, or acked.
            return;
        };
        match outcome {
            Ok(Answer::Acked(acked)) => {
                let ours = |sent: &&Sent| sent.request == caller.request;
                let count = producer.unacked.iter().filter(ours).count();
                let sent: Vec<Sent> = producer.unacked.drain(position..position + count).collect();
                let mut ack = Acked {
                    index: acked.index + 1 - count as u64,
                    ..acked
                };
                for sent in sent {
                    self.acked(caller.client, &sent, ack);
                    ack.index += 1;
                    ack.base_offset += sent.count;
                }
            }
            Ok(other) => panic!("a batch was answered with {other:?}"),
            Err(error) => {
                if let ApiError::NotLeader {
                    leader: Some((leader, _)),
                } = error
                {
                    producer.target = leader;
                }
                let resend_at = now + self.rng.u64(MILLI..50 * MILLI);
                producer.resend_at = producer.resend_at.min(resend_at);
            }
        }
    }

    fn acked(&mut self, client: usize, sent: &Sent, acked: Acked) {
        let Producer { id, group, .. } = self.clients.producers[client];
        self.summary.acks += 1;
        self.summary.duplicates += u64::from(acked.index <= sent.committed_before);
        if group == PARTITION {
            self.clients.floor = self.clients.floor.max(acked.base_offset + sent.count);
        }
        self.clients
            .acks
            .insert((id, sent.first_sequence, sent.count), acked);
        let group = self.checks.group(group);
        assert!(
            acked.index <= group.committed(),
            "entry {} is acked and not committed (P6)",
            acked.index
        );
    }
}
