//! The payload of a frame of records: a head the server reads in place, then the records, columnar.
//!
//! Owns the layout and the ingress check. Walks: produce (built by the client, checked by the leader), fetch (read by the
//! consumer). Knows the frame header; knows nothing of groups' state, sockets or files.
//!
//! ```text
//! frame   = header (64) + payload + zeros up to a multiple of 64
//! payload = batch head (40 bytes, never compressed) + records (perhaps compressed, by the header's codec)
//! records = blob + table (16 bytes a record) + root (16 bytes: where the two are)
//! ```
//!
//! The blob holds key, value and headers of record 0, then of record 1, and so on. An entry of the table holds the ends of
//! the three in the blob; a record begins where the one before it ended. So a builder copies each byte once, straight to
//! where it stays, and a reader finds any record in one step.

mod builder;
mod codec;
mod headers;
mod reader;
mod records;

use rkyv::ser::writer::Buffer;
use rkyv::{Archive, Deserialize, Serialize, rancor};
use segment_store::kind::RECORDS;
use segment_store::{FrameHeader, UnstampedRun};

use super::{ApiError, BatchError};
use crate::mutation;

pub use builder::{BatchBuilder, ProducerStamp};
pub use codec::Codec;
pub use headers::Headers;
pub use reader::{BatchReader, RecordRef, Records};

use records::{ENTRY_LEN, ROOT_LEN};

/// Length of the encoded [`BatchHead`], in bytes.
pub const BATCH_HEAD_LEN: usize = 40;

/// Default cap of a batch's payload, and of its records once decompressed, in bytes.
pub const BATCH_BYTES_MAX: usize = 8 << 20;

/// What leads every payload of records, uncompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug), attr(allow(missing_docs)))]
pub struct BatchHead {
    /// Who produced it; 0 for nobody, then batches are never recognised as repeated.
    pub producer_id: u64,
    /// Sequence of the first record; the others follow without gaps. Counted per producer id, epoch and group, from 0.
    pub first_sequence: u64,
    /// What the records' timestamp deltas are relative to, in milliseconds since 1970.
    pub base_timestamp_ms: u64,
    /// The group the batch was made for, under the payload's checksum: it can be appended to no other.
    pub group: u64,
    /// Fencing: a batch of an older epoch than one already seen is refused.
    pub producer_epoch: u32,
    /// Length of the records before compression, in bytes.
    pub records_len: u32,
}

const _: () = assert!(size_of::<ArchivedBatchHead>() == BATCH_HEAD_LEN);
const _: () = assert!(align_of::<ArchivedBatchHead>() == 1);

impl BatchHead {
    fn encode(&self) -> [u8; BATCH_HEAD_LEN] {
        let mut out = [0; BATCH_HEAD_LEN];
        let mut writer = Buffer::from(&mut out);
        rkyv::api::serialize_using::<_, rancor::Failure>(self, rancor::Strategy::wrap(&mut writer))
            .expect("forty bytes without pointers fit where they belong");
        out
    }
}

/// How much a batch may hold. Checked before anything is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchCaps {
    /// Longest payload, in bytes.
    pub payload_bytes_max: usize,
    /// Longest records after decompression, in bytes.
    pub records_bytes_max: usize,
}

impl Default for BatchCaps {
    fn default() -> Self {
        Self {
            payload_bytes_max: BATCH_BYTES_MAX,
            records_bytes_max: BATCH_BYTES_MAX,
        }
    }
}

/// Reads the head of a payload in place, without looking at the records.
///
/// # Errors
/// [`BatchError::Short`] if the payload ends within the head.
pub fn peek_head(payload: &[u8]) -> Result<BatchHead, BatchError> {
    let head = payload
        .get(..BATCH_HEAD_LEN)
        .ok_or(BatchError::Short { len: payload.len() })?;
    let archived = rkyv::access::<ArchivedBatchHead, rancor::Failure>(head)
        .map_err(|_| BatchError::Malformed)?;
    rkyv::deserialize::<BatchHead, rancor::Failure>(archived).map_err(|_| BatchError::Malformed)
}

/// The server's check of a batch offered to `group`. The payload's CRC has been checked before.
///
/// Uncompressed records are checked entry by entry. Of compressed ones the head and the bounds are checked; the server
/// never decompresses, so their table is checked by the consumer, after decompression.
///
/// # Errors
/// The first [`BatchError`] found.
pub fn check_batch(
    header: &FrameHeader,
    payload: &[u8],
    group: u64,
    caps: &BatchCaps,
) -> Result<BatchHead, BatchError> {
    let (head, codec) = check_bounds(header, payload, caps)?;
    for found in [header.group, head.group] {
        if found != group && !mutation::is("batches of other groups are taken") {
            return Err(BatchError::ForeignGroup {
                found,
                expected: group,
            });
        }
    }
    if codec == Codec::None {
        records::check(&payload[BATCH_HEAD_LEN..], header, &head)?;
    }
    Ok(head)
}

/// [`check_batch`] of all batches of one request, and that they are one producer's, in order. The value is the head of the first.
///
/// # Errors
/// The first error found.
pub fn check_batches(
    run: &UnstampedRun,
    group: u64,
    caps: &BatchCaps,
) -> Result<BatchHead, ApiError> {
    let mut first: Option<BatchHead> = None;
    let mut next_sequence = 0;
    for (header, payload) in run.batches() {
        let head = check_batch(header, payload, group, caps)?;
        let first = first.get_or_insert(head);
        let expected = match head.producer_id {
            0 => head.first_sequence,
            _ => next_sequence.max(first.first_sequence),
        };
        if (head.producer_id, head.producer_epoch) != (first.producer_id, first.producer_epoch)
            || head.first_sequence != expected
        {
            return Err(ApiError::InvalidRequest {
                reason: String::from(
                    "batches in one request are of one producer, and their sequences follow each other",
                ),
            });
        }
        next_sequence = head.first_sequence + u64::from(header.record_count);
    }
    Ok(first.expect("a run holds a frame at least"))
}

/// Everything that can be known without looking at the records themselves.
fn check_bounds(
    header: &FrameHeader,
    payload: &[u8],
    caps: &BatchCaps,
) -> Result<(BatchHead, Codec), BatchError> {
    if header.kind != RECORDS {
        return Err(BatchError::NotRecords { kind: header.kind });
    }
    let codec = Codec::from_byte(header.codec).ok_or(BatchError::UnknownCodec {
        codec: header.codec,
    })?;
    if payload.len() > caps.payload_bytes_max {
        return Err(BatchError::TooLarge {
            len: payload.len(),
            max: caps.payload_bytes_max,
        });
    }
    let head = peek_head(payload)?;
    let records_len = head.records_len as usize;
    if records_len > caps.records_bytes_max {
        return Err(BatchError::TooLarge {
            len: records_len,
            max: caps.records_bytes_max,
        });
    }
    if header.record_count == 0 {
        return Err(BatchError::Empty);
    }
    let fit = (records_len.saturating_sub(ROOT_LEN) / ENTRY_LEN) as u64;
    if u64::from(header.record_count) > fit {
        return Err(BatchError::RecordCount {
            header: header.record_count,
            table: fit,
        });
    }
    if head
        .first_sequence
        .checked_add(u64::from(header.record_count))
        .is_none()
    {
        return Err(BatchError::RecordCount {
            header: header.record_count,
            table: fit,
        });
    }
    if codec == Codec::None && payload.len() - BATCH_HEAD_LEN != records_len {
        return Err(BatchError::Length {
            len: payload.len() - BATCH_HEAD_LEN,
            expected: records_len,
        });
    }
    Ok((head, codec))
}

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
