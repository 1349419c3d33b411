//! Building a batch: records go in one by one, a whole frame comes out.
//!
//! Owns the producer's side of the layout. On the produce walk, at its very start. Each record's bytes are copied once,
//! straight to where they lie in the frame; nothing is allocated per record.

use bytes::{Bytes, BytesMut};
use segment_store::{FRAME_ALIGN, FrameHeader, HEADER_LEN, kind};

use super::headers::{self, PREFIX_LEN};
use super::records::{self, ENTRY_LEN, Entry, PRESENT, ROOT_LEN};
use super::{BATCH_HEAD_LEN, BatchHead, Codec};
use crate::wire::PushError;

/// Where the blob begins in the buffer.
const BLOB_START: usize = HEADER_LEN + BATCH_HEAD_LEN;

/// Who produces, and where in its sequence a batch stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProducerStamp {
    /// Producer id; 0 for none.
    pub id: u64,
    /// Its epoch.
    pub epoch: u32,
    /// Sequence of the batch's first record.
    pub first_sequence: u64,
}

/// A batch under construction.
#[derive(Debug)]
pub struct BatchBuilder {
    /// Room for header and head, then the blob.
    buffer: BytesMut,
    /// Encoded entries.
    table: Vec<u8>,
    base_timestamp_ms: u64,
    max_timestamp_ms: u64,
    payload_bytes_max: usize,
}

impl BatchBuilder {
    /// An empty batch whose payload will not pass `payload_bytes_max` before compression (which is at most 1 GiB);
    /// `bytes_expected` bytes are allocated at once.
    pub fn new(payload_bytes_max: usize, bytes_expected: usize) -> Self {
        let bytes = Self::buffer_bytes(bytes_expected.min(payload_bytes_max));
        Self::in_buffer(payload_bytes_max, BytesMut::with_capacity(bytes))
    }

    /// The same, in an empty buffer of the caller's; one of [`Self::buffer_bytes`] is large enough.
    pub fn in_buffer(payload_bytes_max: usize, mut buffer: BytesMut) -> Self {
        buffer.resize(BLOB_START, 0);
        Self {
            buffer,
            table: Vec::new(),
            base_timestamp_ms: 0,
            max_timestamp_ms: 0,
            payload_bytes_max: payload_bytes_max.min(1 << 30),
        }
    }

    /// Bytes of the frame of a payload of `payload_bytes`, at most.
    pub fn buffer_bytes(payload_bytes: usize) -> usize {
        HEADER_LEN + payload_bytes + FRAME_ALIGN
    }

    /// Adds a record and gives its position in the batch, from 0. A key or value of no bytes is not the same as none.
    ///
    /// # Errors
    /// [`PushError::BatchFull`] if the record fits a batch but not this one any more, or lies more than 24 days from its
    /// first record; [`PushError::TooLarge`] if it fits none. The batch is unchanged.
    pub fn push(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
        timestamp_ms: u64,
    ) -> Result<usize, PushError> {
        let count = self.record_count();
        self.check_room(key, value, headers)?;
        if count == 0 {
            self.base_timestamp_ms = timestamp_ms;
        }
        let delta = i128::from(timestamp_ms) - i128::from(self.base_timestamp_ms);
        let timestamp_delta = i32::try_from(delta).map_err(|_| PushError::BatchFull)?;
        let key_end = self.put(key);
        let value_end = self.put(value);
        for (name, value) in headers {
            headers::write(&mut self.buffer, name, value);
        }
        let headers_end = self.blob_len() as u32;
        self.table.extend_from_slice(
            &Entry {
                key_end,
                value_end,
                headers_end,
                timestamp_delta,
            }
            .encode(),
        );
        self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
        Ok(count)
    }

    /// Number of records so far.
    pub fn record_count(&self) -> usize {
        self.table.len() / ENTRY_LEN
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Length of the payload, were it built now without compression, in bytes.
    pub fn len_bytes(&self) -> usize {
        self.buffer.len() - HEADER_LEN + self.table.len() + ROOT_LEN
    }

    /// The whole frame: header without what the leader stamps, payload, padding. Where compression does not help, the
    /// frame says codec none.
    ///
    /// # Panics
    /// If there is no record: an empty batch is never sent.
    pub fn build(mut self, producer: ProducerStamp, group: u64, codec: Codec) -> Bytes {
        assert!(!self.is_empty(), "a batch holds at least one record");
        let (record_count, blob_len) = (self.record_count(), self.blob_len());
        self.buffer
            .reserve(self.table.len() + ROOT_LEN + FRAME_ALIGN);
        self.buffer.extend_from_slice(&self.table);
        records::write_root(&mut self.buffer, BLOB_START, blob_len, record_count);
        let records_len = self.buffer.len() - BLOB_START;
        let mut codec_used = Codec::None;
        if let Some(compressed) = codec.compress(&self.buffer[BLOB_START..]) {
            self.buffer.truncate(BLOB_START);
            self.buffer.extend_from_slice(&compressed);
            codec_used = codec;
        }
        let head = BatchHead {
            producer_id: producer.id,
            first_sequence: producer.first_sequence,
            base_timestamp_ms: self.base_timestamp_ms,
            group,
            producer_epoch: producer.epoch,
            records_len: records_len as u32,
        };
        self.buffer[HEADER_LEN..BLOB_START].copy_from_slice(&head.encode());
        let payload_len = self.buffer.len() - HEADER_LEN;
        let header = FrameHeader {
            kind: kind::RECORDS,
            codec: codec_used.to_byte(),
            flags: 0,
            index: 0,
            term: 0,
            base_offset: 0,
            max_timestamp: self.max_timestamp_ms,
            payload_len: payload_len as u32,
            payload_crc: crc32fast::hash(&self.buffer[HEADER_LEN..]),
            prev_header_crc: 0,
            record_count: record_count as u32,
            group,
        };
        self.buffer[..HEADER_LEN].copy_from_slice(&header.encode());
        self.buffer.resize(header.frame_len(), 0);
        self.buffer.freeze()
    }

    fn blob_len(&self) -> usize {
        self.buffer.len() - BLOB_START
    }

    /// Copies key or value behind the blob; gives its end as the table has it.
    fn put(&mut self, bytes: Option<&[u8]>) -> u32 {
        self.buffer.extend_from_slice(bytes.unwrap_or_default());
        self.blob_len() as u32 | if bytes.is_some() { PRESENT } else { 0 }
    }

    fn check_room(
        &self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
    ) -> Result<(), PushError> {
        let mut bytes = key
            .map_or(0, <[u8]>::len)
            .saturating_add(value.map_or(0, <[u8]>::len))
            .saturating_add(ENTRY_LEN);
        for (name, value) in headers {
            if name.len() > u16::MAX as usize {
                return Err(PushError::HeaderName { bytes: name.len() });
            }
            bytes = bytes
                .saturating_add(PREFIX_LEN + name.len())
                .saturating_add(value.len());
        }
        let alone = bytes.saturating_add(BATCH_HEAD_LEN + ROOT_LEN);
        if alone > self.payload_bytes_max {
            return Err(PushError::TooLarge {
                bytes: alone,
                bytes_max: self.payload_bytes_max,
            });
        }
        if self.len_bytes() + bytes > self.payload_bytes_max {
            return Err(PushError::BatchFull);
        }
        Ok(())
    }
}
