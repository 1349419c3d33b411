//! To the disk: how the log changes, and what follows once a change is durable.
//!
//! Owns the numbering of log operations and the frames of the turn under way. It must not know how
//! anything is written. On the produce and append walks: between the stamp and the ack.

use std::collections::VecDeque;

use segment_store::{Frame, FrameHeader, codec, kind};

use super::effects::{DiskOp, Effect};
use super::replica::Replica;
use super::snapshot::MembershipRow;
use crate::raft::{Index, LogId, Millis, OwnEntry, Role, mutation};
use crate::wire::ApiError;

/// Log operations between the replica and the disk.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// Frames of this turn; they become one operation at its end.
    frames: Vec<Frame>,
    /// `Raft::truncations` as of `frames`.
    truncations: u64,
    /// Number of the last operation handed out.
    last_number: u64,
    /// Operations handed out and not done, ascending.
    outstanding: VecDeque<Outstanding>,
}

/// A log operation that the disk has not reported yet.
#[derive(Debug)]
struct Outstanding {
    number: u64,
    what: OnDisk,
}

/// What follows once an operation is done.
#[derive(Debug)]
pub(super) enum OnDisk {
    Appended { last: LogId, truncations: u64 },
    Truncated,
    Snapshot { index: Index },
    Installed { index: Index, base: Index },
    TailTrusted,
    Trimmed,
}

impl Replica {
    /// Number of the last log operation handed out; see [`Effect::Disk`].
    pub fn disk_number(&self) -> u64 {
        self.writes.last_number
    }

    /// Whether frames wait for the end of the turn to go to the disk, under the next number.
    pub(crate) fn has_unwritten(&self) -> bool {
        !self.writes.frames.is_empty()
    }

    /// Appends a stamped frame to the log; it goes to the disk at the end of the turn.
    pub(super) fn append(&mut self, frame: Frame) {
        let truncations = self.raft.truncations();
        assert!(
            self.writes.frames.is_empty() || self.writes.truncations == truncations,
            "frames of before a truncation are still waiting"
        );
        self.writes.truncations = truncations;
        self.tail.push(frame.clone());
        self.writes.frames.push(frame);
    }

    pub(super) fn append_own(&mut self, id: LogId, entry: &OwnEntry) {
        let (kind, payload) = match entry {
            OwnEntry::Noop => (kind::NOOP, Vec::new()),
            OwnEntry::Membership(membership) => {
                self.memberships.push_back((id.index, membership.clone()));
                (kind::MEMBERSHIP, MembershipRow::of(membership).encode())
            }
        };
        let frame = self.build(id, kind, &payload);
        self.append(frame);
    }

    /// A frame of this node's own making for the entry `id`, which is the next one.
    pub(super) fn build(&self, id: LogId, kind: u8, payload: &[u8]) -> Frame {
        let last = self.tail.last();
        let header = FrameHeader {
            index: id.index,
            term: id.term,
            base_offset: last.next_offset,
            prev_header_crc: last.header_crc,
            ..unstamped_header(self.config.group, kind)
        };
        Frame::build(header, payload)
    }

    pub(super) fn truncate(&mut self, after: Index) {
        while !mutation::is("tickets outlive their leader")
            && let Some(ticket) = self.pending.cut(after)
        {
            self.answer(ticket.origin, Err(ApiError::Unavailable));
        }
        while self
            .memberships
            .back()
            .is_some_and(|(index, _)| *index > after)
        {
            self.memberships.pop_back();
        }
        if !mutation::is("sequences outlive a truncation") {
            self.producers.truncate(after);
        }
        self.tail.truncate(after);
        // What was appended in this very turn and is cut again still goes out, in order.
        self.flush_write();
        self.disk(DiskOp::Truncate { after }, OnDisk::Truncated);
    }

    /// Hands the frames of this turn to the disk.
    pub(super) fn flush_write(&mut self) {
        let Some(last) = self.writes.frames.last() else {
            return;
        };
        let header = last.header();
        let last = LogId {
            term: header.term,
            index: header.index,
        };
        let truncations = self.writes.truncations;
        let frames = std::mem::take(&mut self.writes.frames);
        let appended = OnDisk::Appended { last, truncations };
        // Others' records are read from their leader, as a rule; one's own by everybody.
        let keep_cached = self.raft.role() == Role::Leader;
        let append = DiskOp::Append {
            frames,
            keep_cached,
        };
        self.disk(append, appended);
    }

    fn disk(&mut self, op: DiskOp, what: OnDisk) {
        self.writes.last_number += 1;
        let number = self.writes.last_number;
        self.writes
            .outstanding
            .push_back(Outstanding { number, what });
        self.effects.push(Effect::Disk { number, op });
    }

    /// Hands a snapshot to the disk.
    pub(super) fn save_snapshot(&mut self, id: LogId, bytes: Vec<u8>) {
        self.flush_write();
        let (index, term) = (id.index, id.term);
        let op = DiskOp::Snapshot { index, term, bytes };
        self.disk(op, OnDisk::Snapshot { index });
    }

    /// Hands a state to the disk that a peer gave.
    pub(super) fn save_install(&mut self, op: DiskOp, installed: OnDisk) {
        self.flush_write();
        self.disk(op, installed);
    }

    /// Asks the disk to drop whole segments below `before`.
    pub(super) fn trim(&mut self, before: Index) {
        self.flush_write();
        self.disk(DiskOp::Trim { before }, OnDisk::Trimmed);
    }

    pub(super) fn on_disk_done(&mut self, now: Millis, through: u64) {
        while self
            .writes
            .outstanding
            .front()
            .is_some_and(|op| op.number <= through)
        {
            let Some(done) = self.writes.outstanding.pop_front() else {
                return;
            };
            match done.what {
                OnDisk::Appended { last, truncations } => {
                    self.raft.durable(now, last, truncations);
                }
                OnDisk::Truncated | OnDisk::TailTrusted => {}
                OnDisk::Snapshot { index } => self.on_snapshot_durable(index),
                OnDisk::Installed { index, base } => self.on_installed(now, index, base),
                OnDisk::Trimmed => self.on_trimmed(),
            }
        }
        self.tail.durable(self.raft.durable_index());
        self.trust_tail();
    }

    /// Once the core takes the end of the log for whole again, so does every later life.
    fn trust_tail(&mut self) {
        if self.distrusts_tail && !self.raft.tail_suspect() {
            self.distrusts_tail = false;
            self.flush_write();
            self.disk(DiskOp::TrustTail, OnDisk::TailTrusted);
        }
    }
}

/// The header of a frame without records, before it is stamped.
pub(super) fn unstamped_header(group: u64, kind: u8) -> FrameHeader {
    FrameHeader {
        kind,
        codec: codec::NONE,
        flags: 0,
        index: 0,
        term: 0,
        base_offset: 0,
        max_timestamp: 0,
        payload_len: 0,
        payload_crc: 0,
        prev_header_crc: 0,
        record_count: 0,
        group,
    }
}
