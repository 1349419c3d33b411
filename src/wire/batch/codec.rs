//! Compression of records: none, lz4 or zstd, by the client, never by the server.
//!
//! Owns the two calls into the compressors and their bounds. The output of decompression is never longer than the batch
//! head says, and the batch head never says more than the cap.

use bytes::Bytes;
use segment_store::codec;

use crate::wire::BatchError;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Codec {
    /// Not at all: read straight out of the received frame.
    #[default]
    None,
    /// Lz4 block: fast.
    Lz4,
    /// Zstandard, level 1: smaller.
    Zstd,
}

const ZSTD_LEVEL: i32 = 1;

impl Codec {
    /// The frame header's codec byte.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::None => codec::NONE,
            Self::Lz4 => codec::LZ4,
            Self::Zstd => codec::ZSTD,
        }
    }

    /// The codec of a frame header's byte.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            codec::NONE => Some(Self::None),
            codec::LZ4 => Some(Self::Lz4),
            codec::ZSTD => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Compressed records, or `None` where compression does not make them shorter.
    pub(super) fn compress(self, records: &[u8]) -> Option<Vec<u8>> {
        let compressed = match self {
            Self::None => return None,
            Self::Lz4 => lz4_flex::block::compress(records),
            Self::Zstd => zstd::bulk::compress(records, ZSTD_LEVEL).ok()?,
        };
        (compressed.len() < records.len()).then_some(compressed)
    }

    /// The records behind a batch head: `len` bytes, which the caller has checked against its cap.
    pub(super) fn decompress(self, compressed: Bytes, len: usize) -> Result<Bytes, BatchError> {
        let records = match self {
            Self::None => return Ok(compressed),
            Self::Lz4 => {
                let mut out = vec![0; len];
                let found = lz4_flex::block::decompress_into(&compressed, &mut out)
                    .map_err(|_| BatchError::Decompress)?;
                out.truncate(found);
                out
            }
            Self::Zstd => {
                zstd::bulk::decompress(&compressed, len).map_err(|_| BatchError::Decompress)?
            }
        };
        if records.len() != len {
            return Err(BatchError::Length {
                len: records.len(),
                expected: len,
            });
        }
        Ok(Bytes::from(records))
    }
}
