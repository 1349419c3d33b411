//! What a replica stores in archives of its own: owns the bytes of its snapshot and of membership entries,
//! versioned rkyv archives.
//!
//! A snapshot holds what the committed log up to an index amounts to, so that the log before it need
//! not be read again: producers, membership, the state machine of group 0. It must not know how files
//! are written; `segment_store` does that, with a checksum around these bytes.

use rkyv::rancor::Error as ArchiveError;
use rkyv::{Archive, Deserialize, Serialize};
use segment_store::LogBase;

use crate::raft::Membership;

/// First bytes of everything stored here: the version of what follows. Golden bytes in the tests pin it.
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
    /// Membership at `index`.
    pub(crate) membership: MembershipRow,
    /// Producers in eviction order.
    pub(crate) producers: Vec<ProducerRow>,
    /// What the state machine said of itself; empty for a partition.
    pub(crate) machine: Vec<u8>,
    /// In a state given by a peer: what the log begins anew after. The log may not have reached `index` then.
    pub(crate) base: Option<BaseRow>,
}

/// The entry before the first one of a log.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseRow {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) header_crc: u32,
    pub(crate) next_offset: u64,
}

/// Members of a group, as snapshots and membership entries hold them. All lists ascend.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MembershipRow {
    /// Who votes.
    pub(crate) voters: Vec<u64>,
    /// Voters on the way out; not empty during a joint change only.
    pub(crate) voters_outgoing: Vec<u64>,
    /// Who gets the log without a vote.
    pub(crate) learners: Vec<u64>,
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

/// Why stored bytes cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoredError {
    #[error("{0} bytes are too short to carry a version")]
    Short(usize),
    #[error("stored with version {0}, this program reads version {VERSION}: use the newer program")]
    Version(u32),
    #[error("stored bytes do not hold together: {0}")]
    Archive(ArchiveError),
}

impl Snapshot {
    /// Version and archive, as they are stored.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let archive = rkyv::to_bytes::<ArchiveError>(self);
        seal(&archive.expect("an archive in memory fails on exhausted memory only"))
    }

    /// Checked reverse of `encode`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Snapshot, StoredError> {
        let archive = open(bytes)?;
        rkyv::from_bytes::<Snapshot, ArchiveError>(archive).map_err(StoredError::Archive)
    }
}

impl BaseRow {
    pub(crate) fn of(base: LogBase) -> BaseRow {
        BaseRow {
            index: base.index,
            term: base.term,
            header_crc: base.header_crc,
            next_offset: base.next_offset,
        }
    }

    pub(crate) fn to_base(&self) -> LogBase {
        LogBase {
            index: self.index,
            term: self.term,
            header_crc: self.header_crc,
            next_offset: self.next_offset,
        }
    }
}

impl MembershipRow {
    /// The core's membership, to be stored.
    pub(crate) fn of(membership: &Membership) -> MembershipRow {
        MembershipRow {
            voters: membership.voters.clone(),
            voters_outgoing: membership.voters_outgoing.clone(),
            learners: membership.learners.clone(),
        }
    }

    /// The membership, for the core.
    pub(crate) fn to_membership(&self) -> Membership {
        Membership {
            voters: self.voters.clone(),
            voters_outgoing: self.voters_outgoing.clone(),
            learners: self.learners.clone(),
        }
    }

    /// The payload of a membership entry.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let archive = rkyv::to_bytes::<ArchiveError>(self);
        seal(&archive.expect("an archive in memory fails on exhausted memory only"))
    }

    /// Checked reverse of `encode`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<MembershipRow, StoredError> {
        let archive = open(bytes)?;
        rkyv::from_bytes::<MembershipRow, ArchiveError>(archive).map_err(StoredError::Archive)
    }
}

fn seal(archive: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(VERSION_LEN + archive.len());
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(archive);
    bytes
}

fn open(bytes: &[u8]) -> Result<&[u8], StoredError> {
    let Some((version, archive)) = bytes.split_first_chunk::<VERSION_LEN>() else {
        return Err(StoredError::Short(bytes.len()));
    };
    match u32::from_le_bytes(*version) {
        VERSION => Ok(archive),
        other => Err(StoredError::Version(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> MembershipRow {
        MembershipRow {
            voters: vec![1, 2, 3],
            voters_outgoing: Vec::new(),
            learners: vec![4],
        }
    }

    fn sample() -> Snapshot {
        Snapshot {
            index: 9,
            term: 3,
            next_offset: 70,
            header_crc: 0xdead_beef,
            membership_index: 2,
            membership: members(),
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
            base: Some(BaseRow {
                index: 7,
                term: 2,
                header_crc: 0xfeed_f00d,
                next_offset: 50,
            }),
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
            Err(StoredError::Version(2))
        ));
    }

    #[test]
    fn snapshot_cut_short_is_refused_at_every_length() {
        let bytes = sample().encode();
        for len in 0..bytes.len() {
            assert!(Snapshot::decode(&bytes[..len]).is_err(), "length {len}");
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn stored_bytes_are_those_of_version_1() {
        let golden = "010000000100000000000000020000000000000003000000000000000400000000000000\
                      e0ffffff03000000f0ffffff00000000e8ffffff01000000";
        assert_eq!(hex(&members().encode()), golden);
        let golden = "010000000100000000000000020000000000000003000000000000000400000000000000\
                      080000000000000014000000000000003c00000000000000010000000a00000005000000\
                      00000000d8ffffff01000000746f70696373090000000000000003000000000000004600\
                      000000000000efbeadde020000000000000086ffffff0300000096ffffff000000008eff\
                      ffff01000000aeffffff01000000b6ffffff0600000001070000000000000002000000\
                      000000000df0edfe3200000000000000";
        assert_eq!(hex(&sample().encode()), golden);
    }
}
