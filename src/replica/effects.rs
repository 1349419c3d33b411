//! What goes into a replica and what comes out: the inputs, the effects and the limits.
//!
//! Owns the vocabulary between the synchronous shell and whoever drives it (the loop, or a simulator).
//! It must not know how either of them works.

use bytes::Bytes;
use segment_store::{Frame, LogBase, UnstampedRun};

use super::pacer::Pacer;
use crate::raft::{Ballot, Index, NodeId, Target, Term};
use crate::replica::Published;
use crate::wire::{ApiError, BatchCaps, BatchHead, Content, Envelope};

/// Settings of one replica.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// The group.
    pub group: u64,
    /// Largest batch taken from producers and peers.
    pub batch_caps: BatchCaps,
    /// Bytes of proposals that may wait for their commit at a leader; past it they are refused.
    pub uncommitted_bytes_max: u64,
    /// Bytes of proposals that may be on their way to the leader; past it they are refused.
    pub forward_bytes_max: u64,
    /// Frame bytes in one message to a peer, at most (one frame may pass it).
    pub append_bytes_max: u64,
    /// After this time a forwarded proposal, a read or a transfer is answered with [`ApiError::Timeout`].
    pub request_timeout_ms: u64,
    /// A snapshot is taken once this many bytes were committed since the last one.
    pub snapshot_every_bytes: u64,
    /// A snapshot is taken once this many entries were committed since the last one.
    pub snapshot_every_entries: u64,
    /// Bytes of frames that a partition keeps at least; whole older segments are removed. `None`: everything is kept. A group
    /// with a state machine keeps `snapshot_every_bytes`, and more while a voter lacks less than that.
    pub retention_bytes: Option<u64>,
    /// How fast peers that are far behind are fed; shared by all groups of a node.
    pub pacer: Pacer,
}

impl ReplicaConfig {
    /// The defaults for `group`.
    pub fn new(group: u64) -> ReplicaConfig {
        ReplicaConfig {
            group,
            batch_caps: BatchCaps::default(),
            uncommitted_bytes_max: 64 << 20,
            forward_bytes_max: 16 << 20,
            append_bytes_max: 4 << 20,
            request_timeout_ms: 5_000,
            // One full segment: what is read again after a restart is about that much.
            snapshot_every_bytes: 128 << 20,
            snapshot_every_entries: 65_536,
            retention_bytes: None,
            pacer: Pacer::new(u64::MAX),
        }
    }
}

/// Something that happened to a replica.
#[derive(Debug)]
pub enum Input {
    /// A message of the peer `from`, whose certificate was checked. Frames as they came, unchecked.
    Peer {
        /// The sender.
        from: NodeId,
        /// What it says.
        content: Content,
        /// Runs of whole frames.
        frames: Vec<Bytes>,
    },
    /// Batches to append; they passed [`crate::wire::check_batches`], which gave `head`.
    Produce {
        /// Returned with the answer.
        token: u64,
        /// The batches; answered together.
        run: UnstampedRun,
        /// The head of the first one's payload.
        head: BatchHead,
        /// Whether to pass it on to the leader if this replica does not lead; of one batch only.
        forward: bool,
    },
    /// A command for the state machine; passed on to the leader if need be.
    Command {
        /// Returned with the answer.
        token: u64,
        /// The command.
        payload: Vec<u8>,
    },
    /// A linearizable question for the end of the log.
    ReadIndex {
        /// Returned with the answer.
        token: u64,
    },
    /// A request to hand leadership to `to`.
    Transfer {
        /// Returned with the answer.
        token: u64,
        /// The voter that shall lead.
        to: NodeId,
    },
    /// A request to make the group what `target` says.
    ChangeMembership {
        /// Returned with the answer.
        token: u64,
        /// Who shall vote, and who shall learn.
        target: Target,
    },
    /// The connection to a peer broke, or a message to it was dropped.
    PeerUnreachable(NodeId),
    /// A node that this replica rests on has fallen silent, or may not be what it was.
    Wake,
    /// All log operations up to number `through` (inclusive) are durable.
    DiskDone {
        /// Number of the last one.
        through: u64,
    },
    /// This ballot is durable.
    BallotDurable(Ballot),
    /// The disk has no room (true) or has room again (false).
    DiskFull(bool),
    /// What [`Effect::Warm`] asked for has been done.
    Warmed {
        /// The peer it was for.
        peer: NodeId,
        /// First index of the run.
        first: Index,
    },
    /// Time went by.
    Tick,
    /// The disk broke a promise: nothing may be asserted from here on.
    Poison {
        /// What happened.
        reason: String,
    },
}

/// Something to do, in the order given.
#[derive(Debug)]
pub enum Effect {
    /// What was read of this replica's log is not what was written: it has to be closed and repaired.
    Damaged,
    /// Hand `op` to the disk; operations of a group are carried out in order of `number`.
    Disk {
        /// Counts up by one from 1; see [`Input::DiskDone`].
        number: u64,
        /// The operation.
        op: DiskOp,
    },
    /// Save term and vote, then say [`Input::BallotDurable`]. Needs no order among the log operations, and
    /// must not wait for them when the disk is full.
    SaveBallot(Ballot),
    /// Send now; what it asserts is durable already.
    Send {
        /// The peer.
        to: NodeId,
        /// The message with its frames.
        envelope: Envelope,
        /// How.
        lane: Lane,
    },
    /// Bring a run of frames into memory off the network thread, then say [`Input::Warmed`].
    Warm {
        /// The peer that will get it.
        peer: NodeId,
        /// First index of the run.
        first: Index,
        /// Length of the run in bytes.
        bytes_max: usize,
    },
    /// Let readers see this.
    Publish(Published),
    /// Answer the request `token`.
    Reply {
        /// As the input gave it.
        token: u64,
        /// The answer.
        result: Result<Answer, ApiError>,
    },
}

/// How urgent a message to a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// As ever: the message's kind decides.
    Normal,
    /// For a peer that is far behind: yields to all else.
    Bulk,
}

/// A change of the log, or a snapshot of it.
#[derive(Debug)]
pub enum DiskOp {
    /// Append consecutive frames.
    Append {
        /// The frames.
        frames: Vec<Frame>,
        /// Whether the page cache is to keep them: consumers read this copy, as a rule. Else it may let go of what is far behind the end.
        keep_cached: bool,
    },
    /// Cut the log after this index.
    Truncate {
        /// The last index that stays.
        after: Index,
    },
    /// Save a snapshot.
    Snapshot {
        /// Last index (inclusive) it contains.
        index: Index,
        /// Term of that entry.
        term: Term,
        /// The snapshot, encoded.
        bytes: Vec<u8>,
    },
    /// Save a snapshot, then let the log begin anew after `base`.
    Install {
        /// Last index (inclusive) the snapshot contains; at or after that of `base`.
        index: Index,
        /// Term of that entry.
        term: Term,
        /// The snapshot, encoded; it names `base` too, so that a restart can finish what a crash interrupts.
        bytes: Vec<u8>,
        /// The entry before the first one to come.
        base: LogBase,
    },
    /// Note that nothing promised is missing at the end of the log any more.
    TrustTail,
    /// Remove whole segments below this index.
    Trim {
        /// First index that must stay.
        before: Index,
    },
}

impl DiskOp {
    /// Bytes it holds in memory until it is done.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            DiskOp::Append { frames, .. } => {
                frames.iter().map(|frame| frame.bytes().len() as u64).sum()
            }
            DiskOp::Snapshot { bytes, .. } | DiskOp::Install { bytes, .. } => bytes.len() as u64,
            DiskOp::Truncate { .. } | DiskOp::TrustTail | DiskOp::Trim { .. } => 0,
        }
    }
}

/// Committed batches: those that came together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    /// Index of the last one.
    pub index: Index,
    /// Offset of the first record of the first one.
    pub base_offset: u64,
}

/// A successful answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To `Produce`: they are committed, here.
    Acked(Acked),
    /// To `Command`: it is committed and applied, with this result.
    Applied(Vec<u8>),
    /// To `ReadIndex`: every record acked before the question lies below this offset, readable here.
    ReadAt {
        /// End offset, exclusive.
        high_watermark: u64,
    },
    /// To `Transfer`: the other leads.
    Transferred,
    /// To `ChangeMembership`: the group is what it should become, and that is committed.
    Changed {
        /// Index of the entry that says so.
        index: Index,
    },
}
