//! One group in the loop: owns its replica, its callers, and what is held until the disk is done.
//!
//! Carries a replica's effects to where they belong. It must not know of other groups, nor when a turn
//! ends.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use segment_store::LogReader;
use tokio::sync::OwnedSemaphorePermit;

use super::effects::{Answer, DiskOp, Effect, Lane};
use super::jobs::DiskJob;
use super::mailbox::{Mail, Mailbox, ReplyTo};
use super::meters::Meters;
use super::replica::Replica;
use super::watermark::Watermark;
use crate::raft::{Ballot, Millis, NodeId};
use crate::wire::{ApiError, Envelope};

/// A group in the loop.
pub(super) struct Running {
    pub(super) replica: Replica,
    pub(super) reader: LogReader,
    pub(super) watermark: Watermark,
    /// When its earliest timer in the heap is due.
    pub(super) scheduled: Millis,
    pub(super) dirty: bool,
    pub(super) fatal_told: bool,
    pub(super) next_token: u64,
    pub(super) callers: HashMap<u64, Caller>,
    /// Permits of peers' frames, by the number of the log operation that makes them durable.
    pub(super) permits: VecDeque<(u64, OwnedSemaphorePermit)>,
    /// Bytes in the disk's queue, by the number of the log operation.
    pub(super) queued: VecDeque<(u64, u64)>,
}

/// Somebody on this node who waits for an answer.
pub(super) struct Caller {
    pub(super) reply: ReplyTo,
    pub(super) arrived: Instant,
    pub(super) proposal: bool,
    pub(super) _permit: Option<OwnedSemaphorePermit>,
}

/// What a turn hands over to the outside, gathered over all groups.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) jobs: Vec<DiskJob>,
    pub(super) sends: Vec<(NodeId, Envelope, Lane)>,
    /// Groups whose log turned out damaged.
    pub(super) damaged: Vec<u64>,
}

impl Running {
    pub(super) fn carry_out(
        &mut self,
        group: u64,
        effects: Vec<Effect>,
        turn: &mut Turn,
        mailbox: &Mailbox,
        meters: &Meters,
    ) {
        let mut ballot: Option<Ballot> = None;
        let mut ops: Vec<(u64, DiskOp)> = Vec::new();
        for effect in effects {
            match effect {
                Effect::Disk { number, op } => {
                    let bytes = op.bytes();
                    meters.disk_queue_bytes.increment(bytes as f64);
                    self.queued.push_back((number, bytes));
                    ops.push((number, op));
                }
                Effect::SaveBallot(newer) => ballot = Some(newer),
                Effect::Send { to, envelope, lane } => {
                    if lane == Lane::Bulk {
                        let bytes = envelope.frames.iter().map(|run| run.len() as u64).sum();
                        meters.catch_up_bytes.increment(bytes);
                    }
                    turn.sends.push((to, envelope, lane));
                }
                Effect::Warm {
                    peer,
                    first,
                    bytes_max,
                } => self.warm(group, peer, first, bytes_max, mailbox.clone()),
                Effect::Publish(published) => self.watermark.publish(published),
                Effect::Damaged => turn.damaged.push(group),
                Effect::Reply { token, result } => {
                    if let Some(caller) = self.callers.remove(&token) {
                        caller.answer(result, meters);
                    }
                }
            }
        }
        if ballot.is_some() || !ops.is_empty() {
            turn.jobs.push(DiskJob::Write { group, ballot, ops });
        }
    }

    /// Brings a run into memory on a thread that may block.
    fn warm(&self, group: u64, peer: NodeId, first: u64, bytes_max: usize, mailbox: Mailbox) {
        let reader = self.reader.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = reader.populate(first, bytes_max) {
                // The read that follows will say so to those who can act on it.
                tracing::error!(group, first, %error, "the log cannot be read");
            }
            mailbox.post(Mail::Warmed { group, peer, first });
        });
    }

    /// The disk has done everything up to the operation `through`.
    pub(super) fn forget_queued(&mut self, through: u64, meters: &Meters) {
        while self
            .permits
            .front()
            .is_some_and(|(number, _)| *number <= through)
        {
            self.permits.pop_front();
        }
        while let Some((number, bytes)) = self.queued.front().copied() {
            if number > through {
                break;
            }
            meters.disk_queue_bytes.decrement(bytes as f64);
            self.queued.pop_front();
        }
    }

    /// The group stops: whoever waits learns why.
    pub(super) fn fail_callers(&mut self, error: &ApiError, meters: &Meters) {
        self.forget_queued(u64::MAX, meters);
        for (_, caller) in self.callers.drain() {
            caller.answer(Err(error.clone()), meters);
        }
    }
}

impl Caller {
    pub(super) fn answer(self, result: Result<Answer, ApiError>, meters: &Meters) {
        if self.proposal {
            meters.proposals_pending.decrement(1);
            match &result {
                Ok(_) => meters.commit_seconds.record(self.arrived.elapsed()),
                Err(_) => meters.proposals_failed.increment(1),
            }
        }
        // Who asked may have given up waiting.
        let _ = self.reply.send(result);
    }
}
