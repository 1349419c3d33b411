//! Batches as producers make them, and what to look for in messages.

use bytes::Bytes;
use plimsoll::raft::AppendOutcome::Accepted;
use plimsoll::raft::Message;
use plimsoll::wire::{BatchBuilder, Codec, Content, Envelope, ProducerStamp};

use crate::cluster::{GROUP, PAYLOAD_MAX};

/// A batch of `count` records for [`GROUP`].
pub(crate) fn batch(id: u64, epoch: u32, first_sequence: u64, count: u32) -> Bytes {
    batch_of(id, epoch, first_sequence, count, 16)
}

/// A batch of `count` records of `len` bytes each.
pub(crate) fn batch_of(id: u64, epoch: u32, first_sequence: u64, count: u32, len: usize) -> Bytes {
    let mut builder = BatchBuilder::new(PAYLOAD_MAX, 0);
    for at in 0..count {
        let mut value = format!("{id}/{epoch}/{}", first_sequence + u64::from(at)).into_bytes();
        value.resize(len.max(value.len()), b'.');
        builder
            .push(None, Some(&value), &[], 1_700_000_000_000)
            .unwrap();
    }
    let stamp = ProducerStamp {
        id,
        epoch,
        first_sequence,
    };
    builder.build(stamp, GROUP, Codec::None)
}

/// Whether an envelope is an append acknowledgement that accepts entries.
pub(crate) fn is_ack(envelope: &Envelope) -> bool {
    matches!(
        &envelope.content,
        Content::Raft(Message::AppendReply {
            outcome: Accepted { .. },
            ..
        })
    )
}
