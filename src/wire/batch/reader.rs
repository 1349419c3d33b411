//! Reading a batch: one pass that checks, then any record in one step.
//!
//! Owns the consumer's side of the layout. On the fetch walk, at its very end. Uncompressed records are read where they
//! were received; compressed ones where they were decompressed.

use bytes::Bytes;
use segment_store::Frame;

use super::headers::Headers;
use super::records::{self, ENTRY_LEN, Entry, PRESENT};
use super::{BATCH_HEAD_LEN, BatchCaps, BatchHead, check_bounds};
use crate::wire::BatchError;

/// A checked batch. Keeps the received bytes alive; cloning it copies no record.
#[derive(Debug, Clone)]
pub struct BatchReader {
    /// Blob, table, root.
    records: Bytes,
    blob_len: usize,
    record_count: u32,
    base_offset: u64,
    head: BatchHead,
}

/// One record, borrowed from its batch.
#[derive(Debug, Clone)]
pub struct RecordRef<'a> {
    /// Its number in the partition.
    pub offset: u64,
    /// Milliseconds since 1970, as the producer said.
    pub timestamp_ms: u64,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value, if it has one.
    pub value: Option<&'a [u8]>,
    /// Its headers, in the order they were given.
    pub headers: Headers<'a>,
}

impl BatchReader {
    /// Checks the batch in a frame whose CRC has been checked, decompressing it if need be.
    ///
    /// # Errors
    /// The first [`BatchError`] found. Nothing over `caps` is allocated.
    pub fn parse(frame: &Frame, caps: &BatchCaps) -> Result<Self, BatchError> {
        let (header, payload) = (frame.header(), frame.payload());
        let (head, codec) = check_bounds(header, &payload, caps)?;
        if head.group != header.group {
            return Err(BatchError::ForeignGroup {
                found: head.group,
                expected: header.group,
            });
        }
        if header
            .base_offset
            .checked_add(u64::from(header.record_count))
            .is_none()
        {
            return Err(BatchError::Malformed);
        }
        let records =
            codec.decompress(payload.slice(BATCH_HEAD_LEN..), head.records_len as usize)?;
        let blob_len = records::check(&records, header, &head)?;
        Ok(Self {
            records,
            blob_len,
            record_count: header.record_count,
            base_offset: header.base_offset,
            head,
        })
    }

    /// What the payload begins with.
    pub fn head(&self) -> &BatchHead {
        &self.head
    }

    /// Number of records, at least 1.
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Offset of the first record.
    pub fn base_offset(&self) -> u64 {
        self.base_offset
    }

    /// Offset behind the last record.
    pub fn next_offset(&self) -> u64 {
        self.base_offset + u64::from(self.record_count)
    }

    /// The record at position `i` of the batch.
    ///
    /// # Panics
    /// If there are not that many.
    pub fn record(&self, i: u32) -> RecordRef<'_> {
        assert!(i < self.record_count, "record {i} of {}", self.record_count);
        let start = if i == 0 {
            0
        } else {
            self.entry(i - 1).headers_end
        };
        let entry = self.entry(i);
        let (key_end, value_end) = (entry.key_end & !PRESENT, entry.value_end & !PRESENT);
        let part = |from: u32, to: u32| &self.records[from as usize..to as usize];
        RecordRef {
            offset: self.base_offset + u64::from(i),
            timestamp_ms: self
                .head
                .base_timestamp_ms
                .wrapping_add_signed(i64::from(entry.timestamp_delta)),
            key: (entry.key_end & PRESENT != 0).then(|| part(start, key_end)),
            value: (entry.value_end & PRESENT != 0).then(|| part(key_end, value_end)),
            headers: Headers {
                rest: part(value_end, entry.headers_end),
            },
        }
    }

    /// All records, in order.
    pub fn records(&self) -> Records<'_> {
        Records {
            batch: self,
            next: 0,
        }
    }

    fn entry(&self, i: u32) -> Entry {
        let at = self.blob_len + i as usize * ENTRY_LEN;
        Entry::decode(&self.records[at..at + ENTRY_LEN])
    }
}

/// The records of a batch, in order.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    batch: &'a BatchReader,
    next: u32,
}

impl<'a> Iterator for Records<'a> {
    type Item = RecordRef<'a>;

    fn next(&mut self) -> Option<RecordRef<'a>> {
        let record = (self.next < self.batch.record_count).then(|| self.batch.record(self.next))?;
        self.next += 1;
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.batch.record_count - self.next) as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Records<'_> {}
