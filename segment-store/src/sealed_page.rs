//! A sealed page: one sector with magic, version and checksum. Owns the frame that the small files share.
//!
//! Used by the ballot and by a data directory's identity. Must not know what the fields between head and checksum mean.
//! Head and checksum stay where they are in every version to come, so an older program tells "newer" from "damaged".

use crate::fs::SECTOR_BYTES;

const VERSION_AT: usize = 8;
/// First byte that belongs to the user of the page.
const FIELDS_AT: usize = 16;
const CRC_AT: usize = SECTOR_BYTES - 4;

/// One page: magic (8 bytes), version (u16), zeros to 16, fields, zeros, and in the last four bytes the CRC-32 of all
/// before. Numbers are little-endian.
#[derive(Clone, Debug)]
pub(crate) struct SealedPage {
    bytes: [u8; SECTOR_BYTES],
}

/// Why a page is not what was sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PageError {
    #[error("checksum does not match")]
    Damaged,
    #[error("another kind of file")]
    Foreign,
    #[error("version {0}")]
    Version(u16),
}

impl SealedPage {
    pub(crate) fn new(magic: [u8; 8], version: u16) -> SealedPage {
        let mut bytes = [0; SECTOR_BYTES];
        bytes[..8].copy_from_slice(&magic);
        bytes[VERSION_AT..VERSION_AT + 2].copy_from_slice(&version.to_le_bytes());
        SealedPage { bytes }
    }

    /// Checks `bytes`: the checksum first, so that a flipped bit is never taken for another magic or version.
    pub(crate) fn open(
        bytes: &[u8; SECTOR_BYTES],
        magic: [u8; 8],
        version: u16,
    ) -> Result<SealedPage, PageError> {
        if bytes[CRC_AT..] != crc32fast::hash(&bytes[..CRC_AT]).to_le_bytes() {
            return Err(PageError::Damaged);
        }
        let page = SealedPage { bytes: *bytes };
        if page.bytes_at::<8>(0) != magic {
            return Err(PageError::Foreign);
        }
        let found = u16::from_le_bytes(page.bytes_at(VERSION_AT));
        if found != version {
            return Err(PageError::Version(found));
        }
        Ok(page)
    }

    /// The page as it goes to disk, its checksum filled in.
    pub(crate) fn seal(mut self) -> [u8; SECTOR_BYTES] {
        let crc = crc32fast::hash(&self.bytes[..CRC_AT]);
        self.bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        self.bytes
    }

    pub(crate) fn put_u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    pub(crate) fn put(&mut self, at: usize, field: &[u8]) {
        assert!(
            FIELDS_AT <= at && at + field.len() <= CRC_AT,
            "field at {at}"
        );
        self.bytes[at..at + field.len()].copy_from_slice(field);
    }

    pub(crate) fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes_at(at))
    }

    pub(crate) fn bytes_at<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes[at..at + N].try_into().expect("N bytes were cut")
    }
}
