//! What a replica keeps besides its log: owns the bytes of its snapshot, a versioned rkyv archive.
//!
//! A snapshot holds what the committed log up to an index amounts to, so that the log before it need
//! not be read again: producers, membership, the state machine of group 0. It must not know how files
//! are written; `segment_store` does that, with a checksum around these bytes.

use rkyv::rancor::Error as ArchiveError;
use rkyv::{Archive, Deserialize, Serialize};

/// First bytes of every snapshot: the version of what follows. Golden bytes in the tests pin it.
const VERSION: u32 = 1;
const VERSION_LEN: usize = 4;

/// The committed state of a group at `index`.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The last entry (inclusive) whose effect is contained.
    pub(crate) index: u64,
    /// Its term.
    pub(crate) term: u64,
    /// End offset of that entry: the first offset not contained.
    pub(crate) next_offset: u64,
    /// Header CRC of that entry's frame, which the next one chains to.
    pub(crate) header_crc: u32,
    /// Index of the entry that set the membership, 0 for the one the group was opened with.
    pub(crate) membership_index: u64,
    /// Voters at `index`, ascending.
    pub(crate) voters: Vec<u64>,
    /// Voters on the way out; not empty during a joint change only.
    pub(crate) voters_outgoing: Vec<u64>,
    /// Learners at `index`, ascending.
    pub(crate) learners: Vec<u64>,
    /// Producers in eviction order.
    pub(crate) producers: Vec<ProducerRow>,
    /// What the state machine said of itself; empty for a partition.
    pub(crate) machine: Vec<u8>,
}

/// A producer's committed batches, in log order.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProducerRow {
    pub(crate) producer_id: u64,
    pub(crate) batches: Vec<BatchRow>,
}

/// One committed batch of a producer.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchRow {
    pub(crate) index: u64,
    pub(crate) first_sequence: u64,
    pub(crate) base_offset: u64,
    pub(crate) epoch: u32,
    pub(crate) record_count: u32,
}

/// Why bytes are no snapshot this program can use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("snapshot of {0} bytes is too short to carry its version")]
    Short(usize),
    #[error("snapshot has version {0}, this program reads version {VERSION}; use a newer program")]
    Version(u32),
    #[error("snapshot does not hold together: {0}")]
    Archive(ArchiveError),
}

impl Snapshot {
    /// Version and archive, as they are stored.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let archive = rkyv::to_bytes::<ArchiveError>(self)
            .expect("an archive in memory fails on exhausted memory only");
        let mut bytes = Vec::with_capacity(VERSION_LEN + archive.len());
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&archive);
        bytes
    }

    /// Checked reverse of `encode`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
        let Some((version, archive)) = bytes.split_first_chunk::<VERSION_LEN>() else {
            return Err(SnapshotError::Short(bytes.len()));
        };
        let version = u32::from_le_bytes(*version);
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        rkyv::from_bytes::<Snapshot, ArchiveError>(archive).map_err(SnapshotError::Archive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Snapshot {
        Snapshot {
            index: 9,
            term: 3,
            next_offset: 70,
            header_crc: 0xdead_beef,
            membership_index: 2,
            voters: vec![1, 2, 3],
            voters_outgoing: Vec::new(),
            learners: vec![4],
            producers: vec![ProducerRow {
                producer_id: 5,
                batches: vec![BatchRow {
                    index: 8,
                    first_sequence: 20,
                    base_offset: 60,
                    epoch: 1,
                    record_count: 10,
                }],
            }],
            machine: b"topics".to_vec(),
        }
    }

    #[test]
    fn snapshot_comes_back_as_it_was_written() {
        assert_eq!(Snapshot::decode(&sample().encode()).unwrap(), sample());
    }

    #[test]
    fn snapshot_of_another_version_is_refused() {
        let mut bytes = sample().encode();
        bytes[0] = 2;
        assert!(matches!(
            Snapshot::decode(&bytes),
            Err(SnapshotError::Version(2))
        ));
    }

    #[test]
    fn snapshot_cut_short_is_refused_at_every_length() {
        let bytes = sample().encode();
        for len in 0..bytes.len() {
            assert!(Snapshot::decode(&bytes[..len]).is_err(), "length {len}");
        }
    }
}
