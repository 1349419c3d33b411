//! A record before it is sent, and after it was received.
//!
//! Owns the two views of a record that a user has. On the walks produce (first step) and fetch (last step). A record to
//! send borrows everything; a received one keeps the frame it came in alive, and borrows from it.

use std::sync::Arc;

use crate::wire::batch::Headers;
use crate::wire::{BatchReader, RecordRef};

/// A record to send. Its bytes are copied once, into the batch.
///
/// ```
/// use plimsoll::client::Record;
///
/// let plain = Record::value(b"payload");
/// let keyed = Record::value(b"payload").key(b"user-7").headers(&[("trace", b"abc")]);
/// let tombstone = Record::without_value().key(b"user-7");
/// # let _ = (plain, keyed, tombstone);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: &'a [(&'a str, &'a [u8])],
    pub(super) timestamp_ms: Option<u64>,
    pub(super) partition: Option<u32>,
}

impl<'a> Record<'a> {
    /// A record of this value, without a key. An empty value is a value.
    pub fn value(value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            value: Some(value.as_ref()),
            ..Self::without_value()
        }
    }

    /// A record that has no value; with a key, by custom, it says that the key is gone.
    pub fn without_value() -> Self {
        Self {
            key: None,
            value: None,
            headers: &[],
            timestamp_ms: None,
            partition: None,
        }
    }

    /// Gives it a key. Records of one key go to one partition, in the order they are sent.
    #[must_use]
    pub fn key(self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self {
            key: Some(key.as_ref()),
            ..self
        }
    }

    /// Gives it headers: names (at most 65,535 bytes each) and values.
    #[must_use]
    pub fn headers(self, headers: &'a [(&'a str, &'a [u8])]) -> Self {
        Self { headers, ..self }
    }

    /// Gives it a time, in milliseconds since 1970; without, it gets the time at which it is sent.
    #[must_use]
    pub fn timestamp_ms(self, timestamp_ms: u64) -> Self {
        Self {
            timestamp_ms: Some(timestamp_ms),
            ..self
        }
    }

    /// Sends it to this partition, whatever its key.
    #[must_use]
    pub fn partition(self, partition: u32) -> Self {
        Self {
            partition: Some(partition),
            ..self
        }
    }

    /// About how many bytes it takes in a batch.
    pub(super) fn len_bytes(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| 6 + name.len() + value.len())
            .sum();
        16 + self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers
    }
}

/// A received record. Keeps the frame it came in alive: hold on to a few among many, and copy instead.
#[derive(Debug, Clone)]
pub struct ConsumedRecord {
    pub(super) batch: Arc<BatchReader>,
    pub(super) position: u32,
    pub(super) partition: u32,
}

impl ConsumedRecord {
    /// The partition it lies in.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Its number in the partition.
    pub fn offset(&self) -> u64 {
        self.batch.base_offset() + u64::from(self.position)
    }

    /// Milliseconds since 1970, as its producer said.
    pub fn timestamp_ms(&self) -> u64 {
        self.get().timestamp_ms
    }

    /// Its key, if it has one.
    pub fn key(&self) -> Option<&[u8]> {
        self.get().key
    }

    /// Its value, if it has one.
    pub fn value(&self) -> Option<&[u8]> {
        self.get().value
    }

    /// Its headers, in the order they were given.
    pub fn headers(&self) -> Headers<'_> {
        self.get().headers
    }

    /// Everything at once.
    pub fn get(&self) -> RecordRef<'_> {
        self.batch.record(self.position)
    }
}
