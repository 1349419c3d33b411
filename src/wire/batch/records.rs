//! The records of a batch as they lie: blob, table, root; and the one linear pass that checks them.
//!
//! Owns the archive's layout. Knows nothing of compression or of frames beyond the header's numbers. On the walks of
//! produce (server's check) and fetch (client's check).
//!
//! The archive is rkyv's, in its one canonical form: the blob first, the table right behind it, the root last, no byte
//! between or besides. So three lengths say where everything is, and no pointer needs to be kept.

use rkyv::rancor::{self, Fallible};

use rkyv::ser::{Positional, Writer};
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::with::{ArchiveWith, SerializeWith};
use rkyv::{Archive, Deserialize, Place, Portable, Serialize};
use segment_store::FrameHeader;

use super::{BatchHead, headers};
use crate::wire::BatchError;

/// Bytes of the table per record.
pub(super) const ENTRY_LEN: usize = size_of::<ArchivedEntry>();
/// Bytes of the root: two relative pointers and two lengths.
pub(super) const ROOT_LEN: usize = size_of::<ArchivedRecords>();
/// Set in `key_end` and `value_end` where there is a key or a value, perhaps an empty one.
pub(super) const PRESENT: u32 = 1 << 31;

const _: () = assert!(ENTRY_LEN == 16 && align_of::<ArchivedEntry>() == 1);
const _: () = assert!(ROOT_LEN == 16 && align_of::<ArchivedRecords>() == 1);

/// One record's place in the blob and in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug), attr(allow(missing_docs)))]
pub(super) struct Entry {
    /// End of the key in the blob; bit 31 is [`PRESENT`].
    pub(super) key_end: u32,
    /// End of the value in the blob; bit 31 is [`PRESENT`].
    pub(super) value_end: u32,
    /// End of the headers, and of the record.
    pub(super) headers_end: u32,
    /// Milliseconds from the batch's base timestamp.
    pub(super) timestamp_delta: i32,
}

impl Entry {
    /// The entry as it lies in the table.
    pub(super) fn encode(self) -> [u8; ENTRY_LEN] {
        let mut out = [0; ENTRY_LEN];
        out[..4].copy_from_slice(&self.key_end.to_le_bytes());
        out[4..8].copy_from_slice(&self.value_end.to_le_bytes());
        out[8..12].copy_from_slice(&self.headers_end.to_le_bytes());
        out[12..].copy_from_slice(&self.timestamp_delta.to_le_bytes());
        out
    }

    /// Reads one entry; `bytes` holds exactly one.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Self {
            key_end: word(0),
            value_end: word(4),
            headers_end: word(8),
            timestamp_delta: word(12).cast_signed(),
        }
    }
}

/// A stretch of the output that a builder has filled already.
#[derive(Debug, Clone, Copy)]
pub(super) struct Region {
    /// Position of its first byte.
    pub(super) pos: usize,
    /// Number of elements.
    pub(super) len: usize,
}

/// Archives a [`Region`] as the vector of `T` that already lies there.
#[derive(Debug)]
pub(super) struct Written<T>(std::marker::PhantomData<T>);

impl<T: Portable> ArchiveWith<Region> for Written<T> {
    type Archived = ArchivedVec<T>;
    type Resolver = VecResolver;

    fn resolve_with(field: &Region, resolver: VecResolver, out: Place<ArchivedVec<T>>) {
        ArchivedVec::resolve_from_len(field.len, resolver, out);
    }
}

impl<T: Portable, S: Fallible + ?Sized> SerializeWith<Region, S> for Written<T> {
    fn serialize_with(field: &Region, _: &mut S) -> Result<VecResolver, S::Error> {
        Ok(VecResolver::from_pos(field.pos))
    }
}

/// The records of one batch.
#[derive(Archive, Serialize)]
pub(super) struct Records {
    /// Keys, values and headers of all records, in order.
    #[rkyv(with = Written<u8>)]
    pub(super) blob: Region,
    /// One entry a record.
    #[rkyv(with = Written<ArchivedEntry>)]
    pub(super) table: Region,
}

/// Writes the root behind the blob and table that `out` already ends with, counted from `start`.
pub(super) fn write_root(
    out: &mut bytes::BytesMut,
    start: usize,
    blob_len: usize,
    record_count: usize,
) {
    let records = Records {
        blob: Region {
            pos: 0,
            len: blob_len,
        },
        table: Region {
            pos: blob_len,
            len: record_count,
        },
    };
    let mut writer = From { start, out };
    rkyv::api::serialize_using::<_, rancor::Failure>(&records, rancor::Strategy::wrap(&mut writer))
        .map(|_| ())
        .expect("a buffer in memory takes every write");
}

/// Writes behind what `out` holds; positions count from `start`.
struct From<'a> {
    start: usize,
    out: &'a mut bytes::BytesMut,
}

impl Positional for From<'_> {
    fn pos(&self) -> usize {
        self.out.len() - self.start
    }
}

impl<E> Writer<E> for From<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}

/// Checks uncompressed records against header and head; gives the length of the blob.
///
/// # Errors
/// The first thing wrong: not in canonical form, another number of records, an entry out of order or outside the blob,
/// malformed headers, timestamps out of range or with another maximum than the frame header's.
pub(super) fn check(
    records: &[u8],
    header: &FrameHeader,
    head: &BatchHead,
) -> Result<usize, BatchError> {
    let archived = rkyv::access::<ArchivedRecords, rancor::Failure>(records)
        .map_err(|_| BatchError::Malformed)?;
    let (blob, table) = (archived.blob.as_slice(), archived.table.as_slice());
    if table.len() != header.record_count as usize {
        return Err(BatchError::RecordCount {
            header: header.record_count,
            table: table.len() as u64,
        });
    }
    if blob.len() + table.len() * ENTRY_LEN + ROOT_LEN != records.len()
        || table.as_ptr().addr() != records.as_ptr().addr() + blob.len()
    {
        return Err(BatchError::Malformed);
    }
    let (mut start, mut delta_max) = (0_u32, i32::MIN);
    let (mut delta_min, blob_len) = (i32::MAX, blob.len() as u64);
    for (i, entry) in table.iter().enumerate() {
        let (key_end, value_end) = (entry.key_end.to_native(), entry.value_end.to_native());
        let (key_to, value_to, end) = (
            key_end & !PRESENT,
            value_end & !PRESENT,
            entry.headers_end.to_native(),
        );
        let ordered =
            start <= key_to && key_to <= value_to && value_to <= end && u64::from(end) <= blob_len;
        let absent_is_empty = (key_end & PRESENT != 0 || key_to == start)
            && (value_end & PRESENT != 0 || value_to == key_to);
        if !(ordered && absent_is_empty) {
            return Err(BatchError::Table { record: i as u32 });
        }
        if value_to != end {
            headers::check(&blob[value_to as usize..end as usize])
                .ok_or(BatchError::Headers { record: i as u32 })?;
        }
        let delta = entry.timestamp_delta.to_native();
        (delta_min, delta_max) = (delta_min.min(delta), delta_max.max(delta));
        start = end;
    }
    if u64::from(start) != blob_len {
        return Err(BatchError::Table {
            record: header.record_count - 1,
        });
    }
    let base = head.base_timestamp_ms;
    let last = base.checked_add_signed(i64::from(delta_max));
    if base.checked_add_signed(i64::from(delta_min)).is_none() || last != Some(header.max_timestamp)
    {
        return Err(BatchError::Timestamp);
    }
    Ok(blob.len())
}
