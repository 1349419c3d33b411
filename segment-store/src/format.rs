//! The bytes of a frame: the header every batch carries on the wire and on disk. Owns layout and checksum of the header.
//!
//! On every walk. Must not know: files, segments, what a payload means. The bytes of a segment file around the frames are
//! in `segment.rs` and `footer.rs`; `docs/FORMAT.md` has the tables.

use crate::error::FrameError;

/// Frames start at multiples of this, in a file and in a message.
pub const FRAME_ALIGN: usize = 64;
/// Length of a frame header in bytes.
pub const HEADER_LEN: usize = 64;
/// The version of the frame header that this code writes and reads.
pub const FRAME_VERSION: u8 = 1;

const _: () = assert!(HEADER_LEN.is_multiple_of(FRAME_ALIGN));

/// What a frame carries. Zero is no kind: an unwritten block never reads as a frame.
pub mod kind {
    /// A batch of records from a producer.
    pub const RECORDS: u8 = 1;
    /// Nothing; a leader opens its term with one.
    pub const NOOP: u8 = 2;
    /// The membership of the group from here on.
    pub const MEMBERSHIP: u8 = 3;
    /// A command to the controller's state machine.
    pub const CONTROLLER: u8 = 4;
    /// A Kafka RecordBatch v2, verbatim. Reserved: refused everywhere today.
    pub const KAFKA_V2: u8 = 5;
}

/// How the records of a frame are compressed. The client compresses; the server never does.
pub mod codec {
    /// Not compressed.
    pub const NONE: u8 = 0;
    /// LZ4 block.
    pub const LZ4: u8 = 1;
    /// Zstandard.
    pub const ZSTD: u8 = 2;
}

/// The header of a frame, decoded. Version and header checksum are not part of it: the one is checked, the other derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// One of [`kind`].
    pub kind: u8,
    /// One of [`codec`].
    pub codec: u8,
    /// Free for the kind's own use; no flag is defined yet.
    pub flags: u8,
    /// Number of the entry in its group, from 1; 0 in a producer's frame that no leader has stamped.
    pub index: u64,
    /// Raft term in which a leader created the entry.
    pub term: u64,
    /// Offset of the first record in its partition; for a frame without records, the offset the next record gets.
    pub base_offset: u64,
    /// Largest timestamp among the records, milliseconds since the epoch.
    pub max_timestamp: u64,
    /// Length of the payload in bytes, without padding.
    pub payload_len: u32,
    /// CRC-32 of the payload, computed once, by whoever made it.
    pub payload_crc: u32,
    /// Header checksum of the frame before it in the log: the link of the chain. 0 for the first.
    pub prev_header_crc: u32,
    /// Number of records; frames that are not batches have none.
    pub record_count: u32,
    /// The group whose log this frame belongs to.
    pub group: u64,
}

impl FrameHeader {
    /// The 64 bytes of the header, checksum included.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = FRAME_VERSION;
        bytes[1] = self.kind;
        bytes[2] = self.codec;
        bytes[3] = self.flags;
        put_u64(&mut bytes, 8, self.index);
        put_u64(&mut bytes, 16, self.term);
        put_u64(&mut bytes, 24, self.base_offset);
        put_u64(&mut bytes, 32, self.max_timestamp);
        put_u32(&mut bytes, 40, self.payload_len);
        put_u32(&mut bytes, 44, self.payload_crc);
        put_u32(&mut bytes, 48, self.prev_header_crc);
        put_u32(&mut bytes, 52, self.record_count);
        put_u64(&mut bytes, 56, self.group);
        let crc = crc_but(&bytes, 4);
        put_u32(&mut bytes, 4, crc);
        bytes
    }

    /// Reads a header from the front of `bytes` and checks version, checksum, kind and codec; the second value is the
    /// header's checksum. Whether the payload is there and whole is for the caller to check.
    pub fn decode(bytes: &[u8]) -> Result<(FrameHeader, u32), FrameError> {
        let Some(bytes) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(FrameError::Short {
                need: HEADER_LEN,
                have: bytes.len(),
            });
        };
        if bytes[0] != FRAME_VERSION {
            return Err(FrameError::Version { version: bytes[0] });
        }
        let header_crc = get_u32(bytes, 4);
        if crc_but(bytes, 4) != header_crc {
            return Err(FrameError::HeaderCrc);
        }
        let header = FrameHeader {
            kind: bytes[1],
            codec: bytes[2],
            flags: bytes[3],
            index: get_u64(bytes, 8),
            term: get_u64(bytes, 16),
            base_offset: get_u64(bytes, 24),
            max_timestamp: get_u64(bytes, 32),
            payload_len: get_u32(bytes, 40),
            payload_crc: get_u32(bytes, 44),
            prev_header_crc: get_u32(bytes, 48),
            record_count: get_u32(bytes, 52),
            group: get_u64(bytes, 56),
        };
        header.check()?;
        Ok((header, header_crc))
    }

    /// What a checksum cannot tell: that the numbers make sense together.
    fn check(&self) -> Result<(), FrameError> {
        if !(kind::RECORDS..=kind::CONTROLLER).contains(&self.kind) {
            return Err(FrameError::Kind { kind: self.kind });
        }
        if self.codec > codec::ZSTD {
            return Err(FrameError::Codec { codec: self.codec });
        }
        let has_records = self.record_count > 0;
        if has_records != (self.kind == kind::RECORDS) {
            return Err(FrameError::RecordCount {
                kind: self.kind,
                count: self.record_count,
            });
        }
        if self
            .base_offset
            .checked_add(u64::from(self.record_count))
            .is_none()
        {
            return Err(FrameError::Overflow);
        }
        Ok(())
    }

    /// Length of the whole frame in bytes: header, payload and the zeros that pad it to a multiple of 64.
    pub fn frame_len(&self) -> usize {
        padded_len(self.payload_len)
    }

    /// The offset after the last record (exclusive end).
    pub fn next_offset(&self) -> u64 {
        self.base_offset
            .saturating_add(u64::from(self.record_count))
    }
}

/// Length of a frame whose payload has `payload_len` bytes.
pub(crate) fn padded_len(payload_len: u32) -> usize {
    HEADER_LEN + (payload_len as usize).next_multiple_of(FRAME_ALIGN)
}

/// CRC-32 of `bytes` without the four bytes at `skip`, where the checksum itself lies.
pub(crate) fn crc_but(bytes: &[u8], skip: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..skip]);
    hasher.update(&bytes[skip + 4..]);
    hasher.finalize()
}

/// Stores `value` at `at`, little-endian; `at` is a constant of a layout.
pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Stores `value` at `at`, little-endian; `at` is a constant of a layout.
pub(crate) fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Reads four bytes at `at`, little-endian; the caller checked that they are there.
pub(crate) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    let (word, _) = bytes[at..]
        .split_first_chunk()
        .expect("layouts are read from slices of their full length");
    u32::from_le_bytes(*word)
}

/// Reads eight bytes at `at`, little-endian; the caller checked that they are there.
pub(crate) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    let (word, _) = bytes[at..]
        .split_first_chunk()
        .expect("layouts are read from slices of their full length");
    u64::from_le_bytes(*word)
}

#[cfg(test)]
mod tests;
