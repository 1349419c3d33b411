//! What opens a stream between two nodes, and what a node tells another about its replicas.
//!
//! Owns the first message of every stream on a peer connection, and the report that `cluster status` is gathered from. Walks: append,
//! at its very start; administration.

use rkyv::{Archive, Deserialize, Serialize};

use super::head::{at_most, kind, open, seal};
use super::reply::{GROUPS_MAX, REPLICAS_MAX};
use super::{REPLY_HEAD_BYTES_MAX, ReplicaRole, WireError};

/// Longest head of a [`StreamHello`], in bytes.
pub const HELLO_HEAD_BYTES_MAX: usize = 256;

/// The first message on a stream that one node opens to another: what the stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub enum StreamHello {
    /// Votes, heartbeats and reads of all groups; their replies come back on it.
    Control,
    /// Appends and forwarded proposals of one group; their acks come back on it.
    Replication {
        /// The group.
        group: u64,
    },
    /// What a peer that is far behind gets of one group: appends and states. They are answered on the group's `Replication`.
    CatchUp {
        /// The group.
        group: u64,
    },
    /// A question: the answer is one [`NodeReport`], and the stream ends.
    Report,
    /// A question for entries that are damaged at the one who asks: the answer is one message with whole frames in its body that end
    /// with the last one, or none, and the stream ends.
    Repair {
        /// The group.
        group: u64,
        /// First entry that is missing.
        first: u64,
        /// Last one (inclusive).
        last: u64,
    },
}

#[derive(Archive, Serialize, Deserialize)]
struct FramesHead {
    group: u64,
    commit_index: u64,
}

/// What a node knows of its own replicas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct NodeReport {
    /// The node.
    pub node: u64,
    /// Its replicas, by group.
    pub replicas: Vec<ReplicaReport>,
}

/// One replica, as its own node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct ReplicaReport {
    /// Its group.
    pub group: u64,
    /// What it is doing.
    pub role: ReplicaRole,
    /// Its term.
    pub term: u64,
    /// The leader it follows, where known.
    pub leader: Option<u64>,
    /// Last index durable here, inclusive.
    pub durable_index: u64,
    /// Last index known to be committed, inclusive.
    pub commit_index: u64,
    /// End of what may be read here, exclusive.
    pub high_watermark: u64,
    /// First offset kept here.
    pub log_start: u64,
    /// Voters in force, as far as this replica knows.
    pub voters: Vec<u64>,
    /// Members without a vote, as far as this replica knows.
    pub learners: Vec<u64>,
    /// What a leader knows of its followers: node, and last index durable there. Empty unless it leads.
    pub followers: Vec<(u64, u64)>,
}

/// Kind byte and head of a hello.
pub fn encode_hello(hello: &StreamHello) -> (u8, Vec<u8>) {
    (kind::HELLO, seal(hello))
}

/// Reads a hello back.
///
/// # Errors
/// [`WireError`] for another kind or version, a head over its cap, or an archive that does not validate.
pub fn decode_hello(kind: u8, head: &[u8]) -> Result<StreamHello, WireError> {
    open::<StreamHello>(kind, self::kind::HELLO, head, HELLO_HEAD_BYTES_MAX, |_| {
        Ok(())
    })
}

/// Kind byte and head of a report.
pub fn encode_report(report: &NodeReport) -> (u8, Vec<u8>) {
    (kind::REPORT, seal(report))
}

/// Reads a report back, with all caps checked before anything is copied.
///
/// # Errors
/// [`WireError`] for another kind or version, a head or list over its cap, or an archive that does not validate.
pub fn decode_report(kind: u8, head: &[u8]) -> Result<NodeReport, WireError> {
    open::<NodeReport>(
        kind,
        self::kind::REPORT,
        head,
        REPLY_HEAD_BYTES_MAX,
        |report| {
            at_most("list of replicas", report.replicas.len(), GROUPS_MAX)?;
            report.replicas.iter().try_for_each(|replica| {
                at_most("list of voters", replica.voters.len(), REPLICAS_MAX)?;
                at_most("list of learners", replica.learners.len(), REPLICAS_MAX)?;
                at_most("list of followers", replica.followers.len(), REPLICAS_MAX)
            })
        },
    )
}

/// Kind byte and head of an answer to [`StreamHello::Repair`] by a replica that knows everything up to `commit_index` to be committed; the
/// frames are its body.
pub fn encode_frames(group: u64, commit_index: u64) -> (u8, Vec<u8>) {
    let head = FramesHead {
        group,
        commit_index,
    };
    (kind::FRAMES, seal(&head))
}

/// Reads the head of such an answer back: group and commit index. The frames themselves are not looked into.
///
/// # Errors
/// [`WireError`] for another kind or version, a head over its cap, or an archive that does not validate.
pub fn decode_frames(kind: u8, head: &[u8]) -> Result<(u64, u64), WireError> {
    let head = open::<FramesHead>(kind, self::kind::FRAMES, head, HELLO_HEAD_BYTES_MAX, |_| {
        Ok(())
    })?;
    Ok((head.group, head.commit_index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn report() -> NodeReport {
        let replica = ReplicaReport {
            group: 7,
            role: ReplicaRole::Leader,
            term: 3,
            leader: Some(2),
            durable_index: 41,
            commit_index: 40,
            high_watermark: 1000,
            log_start: 10,
            voters: vec![1, 2],
            learners: vec![3],
            followers: vec![(1, 40), (3, 39)],
        };
        NodeReport {
            node: 2,
            replicas: vec![replica],
        }
    }

    #[test]
    fn hellos_and_reports_come_back_as_they_went() {
        for hello in [
            StreamHello::Control,
            StreamHello::Replication { group: u64::MAX },
            StreamHello::CatchUp { group: 7 },
            StreamHello::Report,
            StreamHello::Repair {
                group: 7,
                first: 8,
                last: u64::MAX,
            },
        ] {
            let (kind, head) = encode_hello(&hello);
            assert_eq!(decode_hello(kind, &head), Ok(hello));
        }
        let (kind, head) = encode_frames(9, 77);
        assert_eq!(decode_frames(kind, &head), Ok((9, 77)));
        let (kind, head) = encode_report(&report());
        assert_eq!(decode_report(kind, &head), Ok(report()));
    }

    #[test]
    fn the_bytes_of_hellos_and_reports_are_pinned() {
        let hello = encode_hello(&StreamHello::Replication { group: 0x0102 }).1;
        assert_eq!(
            hex(&hello),
            "0101020100000000000000000000000000000000000000000000"
        );
        assert_eq!(
            hex(&encode_report(&report()).1),
            concat!(
                "01010000000000000002000000000000000300000000000000010000000000000028000000000000",
                "00030000000000000027000000000000000700000000000000000300000000000000010200000000",
                "00000029000000000000002800000000000000e8030000000000000a000000000000008effffff02",
                "00000096ffffff0100000096ffffff020000000200000000000000a6ffffff01000000"
            )
        );
    }

    #[test]
    fn another_kind_or_version_is_refused() {
        let (kind, mut head) = encode_hello(&StreamHello::Control);
        assert_eq!(
            decode_hello(kind + 1, &head),
            Err(WireError::UnknownKind { kind: kind + 1 })
        );
        head[0] = 2;
        assert_eq!(
            decode_hello(kind, &head),
            Err(WireError::Version { version: 2 })
        );
        assert_eq!(decode_hello(kind, &[]), Err(WireError::Malformed));
    }
}
