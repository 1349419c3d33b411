//! The produce walk in the shell: from a batch or command to a stamped frame and a ticket, or onwards to
//! the leader.
//!
//! Owns the decisions before the log is touched: who leads, is there room, was it seen before. It must
//! not know when an entry is committed.

use bytes::{Bytes, BytesMut};
use segment_store::{Frame, UnstampedFrame, UnstampedRun, kind};

use super::effects::{Acked, Answer};
use super::lead::not_leader;
use super::pending::{Origin, Ticket};
use super::producers::{Stamp, Verdict};
use super::replica::{Forwarded, Replica};
use super::writes::unstamped_header;
use crate::raft::{LogId, Millis, NodeId, Role};
use crate::wire::{ApiError, BatchHead, Content, ForwardAck, check_batch};

/// What a retry that waits with its original counts for against the limit of the group.
const RETRY_BYTES: u64 = 64;

impl Replica {
    pub(super) fn on_produce(
        &mut self,
        now: Millis,
        origin: Origin,
        run: UnstampedRun,
        head: &BatchHead,
        forward: bool,
    ) {
        if self.machine.is_some() {
            return self.answer(origin, Err(invalid("this group takes no records")));
        }
        if self.raft.role() != Role::Leader {
            let frame = (forward && run.count() == 1).then(|| run.into_bytes());
            return self.redirect(now, origin, frame, false);
        }
        let stamp = Stamp::of(head, run.headers()[0].record_count);
        if let Some(stamp) = &stamp {
            match self.producers.check(stamp) {
                // Then those behind it are, too: they go on from it.
                Verdict::New => {}
                Verdict::Duplicate { .. } if run.count() > 1 => {
                    let reason = "batches that were sent before go one to a request";
                    return self.answer(origin, Err(invalid(reason)));
                }
                Verdict::Duplicate { index, base_offset } => {
                    return self.answer_duplicate(origin, index, base_offset);
                }
                Verdict::OutOfOrder { expected } => {
                    return self.answer(origin, Err(ApiError::OutOfOrderSequence { expected }));
                }
                Verdict::Fenced { epoch } => {
                    return self.answer(origin, Err(ApiError::ProducerFenced { epoch }));
                }
            }
        }
        let (count, bytes) = (run.count() as u64, run.len_bytes());
        let first = match self.admit(count, bytes) {
            Ok(id) => id,
            Err(error) => return self.answer(origin, Err(error)),
        };
        let last = *self.tail.last();
        let base_offset = last.next_offset;
        let (frames, whole) = run.stamp(first.index, first.term, base_offset, last.header_crc);
        if let Some(stamp) = stamp {
            self.producers.appended_run(stamp, &frames);
        }
        let index = first.index + count - 1;
        self.pending.push(Ticket {
            id: LogId { index, ..first },
            base_offset,
            bytes: bytes as u64,
            origin,
        });
        for frame in frames {
            self.append(frame);
        }
        self.tail.note_run(count, whole);
    }

    pub(super) fn on_command(&mut self, now: Millis, origin: Origin, payload: &[u8]) {
        if self.machine.is_none() {
            return self.answer(origin, Err(invalid("this group takes no commands")));
        }
        if payload.len() > self.config.batch_caps.payload_bytes_max {
            let max = self.config.batch_caps.payload_bytes_max as u64;
            return self.answer(origin, Err(ApiError::BatchTooLarge { max }));
        }
        if self.raft.role() != Role::Leader {
            let header = unstamped_header(self.config.group, kind::CONTROLLER);
            let frame = Frame::build(header, payload).bytes().clone();
            return self.redirect(now, origin, Some(frame), true);
        }
        match self.admit(1, payload.len()) {
            Ok(id) => {
                let frame = self.build(id, kind::CONTROLLER, payload);
                self.pending.push(Ticket {
                    id,
                    base_offset: frame.header().base_offset,
                    bytes: frame.bytes().len() as u64,
                    origin,
                });
                self.append(frame);
            }
            Err(error) => self.answer(origin, Err(error)),
        }
    }

    /// Takes `count` places in the log for proposals of `len` bytes in all; gives the first one.
    fn admit(&mut self, count: u64, len: usize) -> Result<LogId, ApiError> {
        if self.disk_full {
            return Err(ApiError::DiskFull);
        }
        // What waits for the group, and what waits for this disk alone.
        let waiting = self.pending.bytes().max(self.tail.held_bytes());
        if waiting + len as u64 > self.config.uncommitted_bytes_max {
            return Err(ApiError::Overloaded);
        }
        Ok(self.raft.propose(count)?)
    }

    /// A retry of a batch that is in the log: its original is the answer, once it is committed.
    fn answer_duplicate(&mut self, origin: Origin, index: u64, base_offset: u64) {
        let entry = self
            .tail
            .get(index)
            .filter(|_| index > self.raft.commit_index());
        let Some(entry) = entry else {
            return self.answer(origin, Ok(Answer::Acked(Acked { index, base_offset })));
        };
        // The batch is held once; that somebody waits is held for each retry.
        if self.pending.bytes() + RETRY_BYTES > self.config.uncommitted_bytes_max {
            return self.answer(origin, Err(ApiError::Overloaded));
        }
        self.pending.push(Ticket {
            id: entry.id,
            base_offset,
            bytes: RETRY_BYTES,
            origin,
        });
    }

    /// Passes a proposal on to the leader, or says who that is.
    fn redirect(&mut self, now: Millis, origin: Origin, frame: Option<Bytes>, command: bool) {
        let leader = self.raft.leader();
        let (Some(to), Some(frame), Origin::Local(token)) = (leader, frame, origin) else {
            // A forwarded proposal is not forwarded again: the sender learns who leads now.
            return self.answer(origin, Err(not_leader(leader)));
        };
        let bytes = frame.len() as u64;
        if to == self.raft.node() {
            return self.answer(origin, Err(not_leader(None)));
        }
        if self.forward_bytes + bytes > self.config.forward_bytes_max {
            return self.answer(origin, Err(ApiError::Overloaded));
        }
        self.forward_bytes += bytes;
        let forwarded = Forwarded {
            token,
            to,
            bytes,
            command,
        };
        let token = self.forwards.insert(now, forwarded);
        self.send(to, Content::Forward { token }, vec![frame]);
    }

    /// A proposal that a peer passed on.
    pub(super) fn on_forward(
        &mut self,
        now: Millis,
        from: NodeId,
        token: u64,
        mut frames: Vec<Bytes>,
    ) {
        let origin = Origin::Peer { node: from, token };
        let (Some(bytes), true) = (frames.pop(), frames.is_empty()) else {
            return self.answer(origin, Err(invalid("a forward carries one frame")));
        };
        let caps = self.config.batch_caps;
        let frame = match UnstampedFrame::parse(BytesMut::from(bytes), caps.payload_bytes_max) {
            Ok(frame) => frame,
            Err(error) => {
                let reason = error.to_string();
                return self.answer(origin, Err(ApiError::CorruptBatch { reason }));
            }
        };
        if frame.header().kind == kind::CONTROLLER {
            return self.on_command(now, origin, frame.payload());
        }
        let head = check_batch(frame.header(), frame.payload(), self.config.group, &caps);
        match head {
            Ok(head) => self.on_produce(now, origin, frame.into(), &head, false),
            Err(error) => self.answer(origin, Err(error.into())),
        }
    }

    /// The leader's answer to a proposal that was passed on.
    pub(super) fn on_forward_reply(
        &mut self,
        from: NodeId,
        token: u64,
        result: Result<ForwardAck, ApiError>,
    ) {
        let waits = self.forwards.get_mut(token);
        if waits.is_none_or(|forwarded| forwarded.to != from) {
            return;
        }
        let Some(forwarded) = self.forwards.remove(token) else {
            return;
        };
        self.forward_bytes -= forwarded.bytes;
        let result = result.map(|ack| match forwarded.command {
            true => Answer::Applied(ack.result),
            false => Answer::Acked(Acked {
                index: ack.index,
                base_offset: ack.base_offset,
            }),
        });
        self.reply(forwarded.token, result);
    }
}

fn invalid(reason: &str) -> ApiError {
    ApiError::InvalidRequest {
        reason: reason.to_owned(),
    }
}
