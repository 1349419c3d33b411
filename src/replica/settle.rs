//! After the commit: tickets released, entries applied, readers served, snapshots taken, the log trimmed.
//!
//! Owns the applied end of the log: what is committed and on this disk. It must not know how entries
//! came to be committed. It ends the produce and read walks.

use segment_store::{Frame, LogBase, kind};

use super::effects::{Acked, Answer};
use super::lead::not_leader;
use super::replica::Replica;
use super::snapshot::{BaseRow, MembershipRow, Snapshot};
use super::tail::EntryMeta;
use crate::raft::{Index, LogId, Role, mutation};
use crate::wire::ApiError;

/// Bytes of commands read from the log at a time.
const APPLY_BYTES: usize = 1 << 20;

impl Replica {
    /// Entries up to `index` are committed: acks of batches leave, in order. Those of commands wait until
    /// they are applied.
    pub(super) fn release(&mut self, index: Index) {
        if self.machine.is_some() {
            return;
        }
        while let Some(ticket) = self.pending.release(index) {
            let entry = self.tail.get(ticket.id.index).map(|entry| entry.id);
            let result = if entry == Some(ticket.id) || mutation::is("tickets outlive their leader")
            {
                Ok(Answer::Acked(Acked {
                    index: ticket.id.index,
                    base_offset: ticket.base_offset,
                }))
            } else {
                Err(ApiError::Unavailable)
            };
            self.answer(ticket.origin, result);
        }
    }

    /// Applies what is committed and durable here, and serves what waited for it.
    pub(super) fn settle(&mut self) {
        let through = match mutation::is("readers see what is not committed") {
            true => self.raft.durable_index(),
            false => self.raft.commit_index().min(self.raft.durable_index()),
        };
        if self.poisoned.is_some() || through <= self.tail.base().id.index {
            return;
        }
        if self.machine.is_some() {
            self.apply_commands(through);
        } else {
            while let Some(entry) = self.tail.apply_next(through) {
                self.note_applied(&entry);
            }
        }
        if self.poisoned.is_some() {
            return;
        }
        self.producers.commit(self.tail.base().id.index);
        self.serve_reads();
        self.snapshot_if_due();
        self.trim_if_due();
        self.propose_trim_if_due();
    }

    fn note_applied(&mut self, entry: &EntryMeta) {
        self.check_contained(entry);
        self.snapshots.entries += 1;
        self.snapshots.bytes += u64::from(entry.frame_len);
        let applied = |(index, _): &(Index, _)| *index <= entry.id.index;
        if self.memberships.front().is_some_and(applied) {
            let membership = self.memberships.pop_front();
            self.applied_membership = membership.expect("there is a front");
        }
    }

    /// Reads the entries up to `through` back and gives the commands to the state machine.
    fn apply_commands(&mut self, through: Index) {
        while self.tail.base().id.index < through {
            let next = self.tail.base().id.index + 1;
            let run = match self.reader.read(next, through, APPLY_BYTES) {
                Ok(run) if !run.bytes.is_empty() => run,
                other => {
                    return self
                        .poison(format!("committed entry {next} cannot be read: {other:?}"));
                }
            };
            let mut bytes = run.bytes;
            while !bytes.is_empty() {
                let caps = &self.config.batch_caps;
                match Frame::split_from(&mut bytes, caps.payload_bytes_max, true) {
                    Ok(frame) => self.apply_frame(&frame),
                    Err(error) => {
                        return self.poison(format!("committed entry {next} is damaged: {error}"));
                    }
                }
            }
        }
    }

    fn apply_frame(&mut self, frame: &Frame) {
        let id = LogId {
            term: frame.header().term,
            index: frame.header().index,
        };
        let entry = self.tail.apply_next(id.index);
        let entry = entry.expect("what is durable and committed is in the tail");
        assert_eq!(entry.id, id, "the log holds another entry than the tail");
        self.note_applied(&entry);
        let result = match frame.header().kind {
            _ if self.installs.contain(id.index) => Vec::new(),
            kind::CONTROLLER => {
                let machine = self.machine.as_mut().expect("asked for by the caller");
                machine.apply(id, &frame.payload())
            }
            kind::NOOP => {
                self.note_trim_hint(&frame.payload());
                Vec::new()
            }
            _ => Vec::new(),
        };
        while let Some(ticket) = self.pending.release(id.index) {
            let answer = match ticket.id == id {
                true => Ok(Answer::Applied(result.clone())),
                false => Err(ApiError::Unavailable),
            };
            self.answer(ticket.origin, answer);
        }
    }

    pub(super) fn on_read_ready(&mut self, read: u64, index: Index) {
        if let Some(waits) = self.reads.get_mut(read) {
            waits.index = Some(index);
        }
        self.serve_reads();
    }

    pub(super) fn on_read_failed(&mut self, read: u64) {
        if let Some(read) = self.reads.remove(read) {
            let leader = self
                .raft
                .leader()
                .filter(|leader| *leader != self.raft.node());
            self.reply(read.token, Err(not_leader(leader)));
        }
    }

    fn serve_reads(&mut self) {
        if self.installs.under_way() {
            return;
        }
        let applied = *self.tail.base();
        let early = mutation::is("a leader serves reads before it has applied")
            && self.raft.role() == Role::Leader;
        let served =
            |index: Option<Index>| index.is_some_and(|index| index <= applied.id.index || early);
        while let Some(read) = self.reads.take_if(|read| served(read.index)) {
            let high_watermark = applied.next_offset;
            self.reply(read.token, Ok(Answer::ReadAt { high_watermark }));
        }
    }

    fn snapshot_if_due(&mut self) {
        let due = self.snapshots.bytes >= self.config.snapshot_every_bytes
            || self.snapshots.entries >= self.config.snapshot_every_entries
            || self.snapshots.given;
        // A state that is ahead of the log belongs to no entry applied here yet.
        let ahead = self.tail.base().id.index < self.snapshots.durable;
        if self.snapshots.under_way || !due || ahead {
            return;
        }
        self.snapshots.under_way = true;
        self.snapshots.given = false;
        self.snapshots.bytes = 0;
        self.snapshots.entries = 0;
        let snapshot = self.snapshot_of_applied(None);
        self.save_snapshot(self.tail.base().id, snapshot.encode());
    }

    /// The state as of the last applied entry; with `base`, for a log that begins anew after that.
    pub(super) fn snapshot_of_applied(&self, base: Option<LogBase>) -> Snapshot {
        let applied = *self.tail.base();
        let (membership_index, membership) = &self.applied_membership;
        Snapshot {
            index: applied.id.index
                + u64::from(mutation::is(
                    "a snapshot names one entry more than it holds",
                )),
            term: applied.id.term,
            next_offset: applied.next_offset,
            header_crc: applied.header_crc,
            membership_index: *membership_index,
            membership: MembershipRow::of(membership),
            producers: self.producers.rows(),
            machine: self
                .machine
                .as_ref()
                .map_or(Vec::new(), |machine| machine.snapshot()),
            base: base.map(BaseRow::of),
        }
    }

    pub(super) fn on_snapshot_durable(&mut self, index: Index) {
        self.snapshots.under_way = false;
        self.snapshots.before = self.snapshots.durable;
        self.snapshots.durable = index;
        // A state machine stands for its log: no more is kept than what makes up for a peer's short absence.
        let kept = match self.machine {
            Some(_) => Some(self.config.snapshot_every_bytes),
            None => self.config.retention_bytes,
        };
        if let Some(kept) = kept {
            self.snapshots.expired = self.reader.first_index_of_last(kept) - 1;
        }
        self.trim_if_due();
    }

    /// The leader tells through the log how far every voter has it, so that no replica need keep it any longer. For groups with
    /// a state machine: a partition's log is its data, of which only retention lets anything go.
    fn propose_trim_if_due(&mut self) {
        if self.machine.is_none() || self.raft.role() != Role::Leader || self.disk_full {
            return;
        }
        let (_, membership) = self.raft.membership();
        let voters = membership.voters.iter().chain(&membership.voters_outgoing);
        let everywhere = voters
            .map(|voter| match self.raft.progress(*voter) {
                _ if *voter == self.raft.node() => self.raft.durable_index(),
                Some(view) => view.match_index,
                None => 0,
            })
            .min()
            .unwrap_or(0);
        let hint = match mutation::is("the log is trimmed past the snapshots") {
            true => everywhere,
            false => everywhere.min(self.snapshots.before),
        };
        if hint <= self.snapshots.trim_hint {
            return;
        }
        if let Ok(id) = self.raft.propose(1) {
            self.snapshots.trim_hint = hint;
            let frame = self.build(id, kind::NOOP, &hint.to_le_bytes());
            self.append(frame);
        }
    }

    fn note_trim_hint(&mut self, payload: &[u8]) {
        if let Ok(hint) = payload.try_into() {
            let hint = u64::from_le_bytes(hint);
            self.snapshots.trim_hint = self.snapshots.trim_hint.max(hint);
        }
    }

    fn trim_if_due(&mut self) {
        let hint = match self.machine {
            Some(_) => self.snapshots.trim_hint,
            None => 0,
        };
        let wanted = hint.max(self.snapshots.expired);
        // From the older snapshot on everything is kept, in case the newer one is found damaged.
        let through = match mutation::is("the log is trimmed past the snapshots") {
            true => wanted,
            false => wanted.min(self.snapshots.before),
        };
        if through <= self.snapshots.trimmed {
            return;
        }
        self.snapshots.trimmed = through;
        self.trim(through + 1);
    }

    pub(super) fn on_trimmed(&mut self) {
        let index = self.reader.first_index() - 1;
        if let Some(term) = self.raft.term_at(index) {
            self.raft.set_trimmed(LogId { term, index });
        }
        self.log_start = self.log_start.max(self.reader.log_start());
    }
}
