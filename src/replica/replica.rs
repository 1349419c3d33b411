//! The synchronous shell of one group on one node: owns the core, and all that the core does not know.
//!
//! Inputs go in, effects come out, in order; time is a number handed in. It must not know of files,
//! sockets, clocks or tasks, so the simulator drives the very code that ships. It is on every walk; this
//! file holds the state and the tables of inputs and core effects, its siblings the walks themselves:
//! `propose` (produce), `replicate` (to peers), `follow` (from peers), `settle` (commit and after).

use std::collections::{BTreeMap, VecDeque};

use segment_store::{Frame, LogReader};

use super::StateMachine;
use super::effects::{Answer, Effect, Input, Lane, ReplicaConfig};
use super::install::Installs;
use super::pending::{Origin, Pending};
use super::producers::Producers;
use super::restart::Restart;
use super::tail::Tail;
use super::waiting::Waiting;
use super::watermark::Published;
use super::writes::Writes;
use crate::raft::{self, Index, Membership, Millis, NodeId, Raft, Target, Term};
use crate::wire::{ApiError, Content, Envelope, ForwardAck};

/// One group on one node.
pub struct Replica {
    pub(super) config: ReplicaConfig,
    pub(super) raft: Raft,
    pub(super) reader: LogReader,
    pub(super) tail: Tail,
    pub(super) producers: Producers,
    pub(super) machine: Option<Box<dyn StateMachine>>,
    /// Tickets; only a leader has any.
    pub(super) pending: Pending,
    /// Proposals of this node's callers on their way to the leader.
    pub(super) forwards: Waiting<Forwarded>,
    pub(super) forward_bytes: u64,
    /// Reads that wait for the core, or for entries to be applied.
    pub(super) reads: Waiting<Read>,
    /// Transfers that wait for the other to lead.
    pub(super) transfers: Waiting<Transfer>,
    /// Changes of membership that wait for their last entry to be committed.
    pub(super) changes: Waiting<Change>,
    /// Term in which this replica leads, as the core last told.
    pub(super) leading: Option<Term>,
    /// Peers that wait for a run to come into memory, and those whose run has.
    pub(super) warming: BTreeMap<NodeId, Warming>,
    /// Log operations on their way to the disk.
    pub(super) writes: Writes,
    /// The log on the disk still says that its end may have lost entries.
    pub(super) distrusts_tail: bool,
    pub(super) disk_full: bool,
    /// Why nothing may be asserted any more, once that is so.
    pub(super) poisoned: Option<String>,
    pub(super) snapshots: Snapshots,
    pub(super) installs: Installs,
    /// Until when the pace holds back what yields to all else; `Millis::MAX` if it holds nothing back.
    pub(super) paced_until: Millis,
    /// Membership as of the last applied entry, with the index of its entry.
    pub(super) applied_membership: (Index, Membership),
    /// Memberships of entries that are not applied yet, by index, ascending.
    pub(super) memberships: VecDeque<(Index, Membership)>,
    pub(super) log_start: u64,
    pub(super) published: Option<Published>,
    pub(super) effects: Vec<Effect>,
    replies: Vec<Effect>,
}

/// A forwarded proposal.
#[derive(Debug)]
pub(super) struct Forwarded {
    pub(super) token: u64,
    pub(super) to: NodeId,
    pub(super) bytes: u64,
    /// Whether it is a command; decides the shape of the answer.
    pub(super) command: bool,
}

/// A read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) token: u64,
    /// Where it may be served, once the core has said so.
    pub(super) index: Option<Index>,
}

/// A transfer of leadership.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) token: u64,
    pub(super) to: NodeId,
}

/// A change of membership.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) token: u64,
    pub(super) target: Target,
}

/// A run that is being brought into memory, or has been, for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Warming {
    pub(super) first: Index,
    pub(super) ready: bool,
}

/// Where snapshots and trimming stand.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    /// Index of the newest durable snapshot; 0 if there is none.
    pub(super) durable: Index,
    /// Index of the one before: the log is kept from there on, in case the newest is found damaged.
    pub(super) before: Index,
    /// Whether one is being written.
    pub(super) under_way: bool,
    /// Bytes committed since the last one was taken.
    pub(super) bytes: u64,
    /// Entries committed since the last one was taken.
    pub(super) entries: u64,
    /// Every voter has the log up to here, the leader said through the log.
    pub(super) trim_hint: Index,
    /// Retention lets everything up to here go.
    pub(super) expired: Index,
    /// The last trim that was asked of the disk.
    pub(super) trimmed: Index,
    /// The newest one was given by a peer: it is replaced by one of our own as soon as the log has reached it.
    pub(super) given: bool,
}

impl Snapshots {
    /// A snapshot up to `index` was given by a peer, and the log begins anew after `base`.
    pub(super) fn begin_anew(&mut self, index: Index, base: Index) {
        *self = Snapshots {
            durable: index,
            before: base,
            trim_hint: self.trim_hint,
            trimmed: base,
            given: true,
            // One that was under way has been written before; its report has come.
            ..Snapshots::default()
        };
    }
}

impl Replica {
    /// A replica as it starts, at `now`. `raft` gives the core's settings.
    pub fn new(
        config: ReplicaConfig,
        raft: raft::Config,
        restart: Restart,
        machine: Option<Box<dyn StateMachine>>,
        reader: LogReader,
        now: Millis,
    ) -> Replica {
        let (timeout, seed) = (config.request_timeout_ms, raft.seed);
        let memberships = restart.restored.memberships.iter();
        let memberships = memberships.filter(|(index, _)| *index > restart.snapshot.0);
        let mut replica = Replica {
            memberships: memberships.cloned().collect(),
            distrusts_tail: restart.restored.suspect_tail,
            raft: Raft::new(raft, restart.restored, now),
            reader,
            tail: Tail::new(restart.base, restart.entries),
            producers: restart.producers,
            machine,
            pending: Pending::default(),
            forwards: Waiting::new(timeout, seed),
            forward_bytes: 0,
            reads: Waiting::new(timeout, seed),
            transfers: Waiting::new(timeout, seed),
            changes: Waiting::new(timeout, seed),
            leading: None,
            warming: BTreeMap::new(),
            writes: Writes::default(),
            disk_full: false,
            poisoned: None,
            installs: Installs::new(restart.snapshot.0, restart.snapshot.1),
            paced_until: Millis::MAX,
            snapshots: Snapshots {
                durable: restart.snapshot.0,
                given: restart.given,
                ..Snapshots::default()
            },
            applied_membership: restart.base_membership,
            log_start: restart.log_start,
            published: None,
            effects: Vec::new(),
            replies: Vec::new(),
            config,
        };
        replica.absorb(Vec::new());
        replica
    }

    /// Takes an input at `now`. Effects gather until [`Replica::take_effects`].
    pub fn handle(&mut self, now: Millis, input: Input) {
        if self.poisoned.is_some() {
            return self.refuse(&input);
        }
        match input {
            Input::Peer {
                from,
                content,
                frames,
            } => self.on_peer(now, from, content, frames),
            Input::Produce {
                token,
                run,
                head,
                forward,
            } => self.on_produce(now, Origin::Local(token), run, &head, forward),
            Input::Command { token, payload } => {
                self.on_command(now, Origin::Local(token), &payload);
            }
            Input::ReadIndex { token } => {
                let read = self.reads.insert(now, Read { token, index: None });
                self.raft.read_index(now, read);
            }
            Input::Transfer { token, to } => self.on_transfer(now, token, to),
            Input::ChangeMembership { token, target } => self.on_change(now, token, target),
            Input::PeerUnreachable(peer) => self.raft.peer_unreachable(peer),
            Input::Wake => self.raft.wake(now),
            Input::DiskDone { through } => self.on_disk_done(now, through),
            Input::BallotDurable(ballot) => self.raft.ballot_durable(ballot),
            Input::DiskFull(full) => self.disk_full = full,
            Input::Warmed { peer, first } => self.on_warmed(peer, first),
            Input::Tick => self.on_tick(now),
            Input::Poison { reason } => self.poison(reason),
        }
        self.absorb(Vec::new());
    }

    /// What is to be done since the last call, in order. Proposals taken since then leave here, all
    /// together: to the disk and to the peers at the same moment.
    pub fn take_effects(&mut self, now: Millis) -> Vec<Effect> {
        if self.poisoned.is_none() {
            self.flush_write();
            self.pump(now);
        }
        if self.poisoned.is_none() {
            let published = self.status_to_publish();
            if self.published != Some(published) {
                self.published = Some(published);
                self.effects.push(Effect::Publish(published));
            }
        }
        // Answers last: who was acked finds what was acked published.
        self.effects.append(&mut self.replies);
        std::mem::take(&mut self.effects)
    }

    /// When [`Input::Tick`] is due next; may move with every input.
    pub fn next_deadline(&self) -> Millis {
        if self.poisoned.is_some() {
            return Millis::MAX;
        }
        self.raft
            .next_deadline()
            .min(self.forwards.next_deadline())
            .min(self.reads.next_deadline())
            .min(self.transfers.next_deadline())
            .min(self.changes.next_deadline())
            .min(self.paced_until)
    }

    /// Whether this replica is quiet until something happens.
    pub fn rests(&self) -> bool {
        self.raft.rests()
    }

    /// Whether it rests for as long as `node` is heard: else give it [`Input::Wake`].
    pub fn rests_on(&self, node: NodeId) -> bool {
        self.raft.rests_on(node)
    }

    /// To be called before each input: when other nodes were last heard to be alive, which counts if this replica rests.
    pub fn vouch(&mut self, now: Millis, heard: impl Fn(NodeId) -> Option<Millis>) {
        if self.raft.rests() {
            self.raft.vouch(now, heard);
        }
    }

    /// Why nothing is asserted any more, if that is so: the process must stop.
    pub fn poisoned(&self) -> Option<&str> {
        self.poisoned.as_deref()
    }

    /// The core, for looking at.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Carries the core's effects out. `arrived` are the frames of the Append that was stepped.
    pub(super) fn absorb(&mut self, arrived: Vec<Frame>) {
        self.absorb_with(arrived, &[]);
    }

    /// [`Replica::absorb`], after a step with frames or with pieces of a state.
    pub(super) fn absorb_with(&mut self, mut arrived: Vec<Frame>, pieces: &[bytes::Bytes]) {
        for effect in self.raft.take_effects() {
            match effect {
                raft::Effect::SaveBallot(ballot) => self.effects.push(Effect::SaveBallot(ballot)),
                raft::Effect::Truncate { after } => self.truncate(after),
                raft::Effect::AppendRemote { first, last } => {
                    self.append_arrived(std::mem::take(&mut arrived), first, last);
                }
                raft::Effect::KeepPiece { offset } => self.keep_piece(offset, pieces),
                raft::Effect::Install(offer) => self.install(&offer),
                raft::Effect::AppendOwn { id, entry } => self.append_own(id, &entry),
                raft::Effect::Send { to, message } => {
                    self.send(to, Content::Raft(message), Vec::new());
                }
                raft::Effect::Commit { index } => {
                    self.release(index);
                    self.answer_changes();
                }
                raft::Effect::Role { role, term, leader } => self.on_role(role, term, leader),
                raft::Effect::ReadReady { token, index } => self.on_read_ready(token, index),
                raft::Effect::ReadFailed { token } => self.on_read_failed(token),
            }
        }
        self.drop_pieces();
        self.settle();
    }

    pub(super) fn send(&mut self, to: NodeId, content: Content, frames: Vec<bytes::Bytes>) {
        self.send_on(Lane::Normal, to, content, frames);
    }

    pub(super) fn send_on(
        &mut self,
        lane: Lane,
        to: NodeId,
        content: Content,
        frames: Vec<bytes::Bytes>,
    ) {
        let envelope = Envelope {
            group: self.config.group,
            content,
            frames,
        };
        self.effects.push(Effect::Send { to, envelope, lane });
    }

    pub(super) fn warm(&mut self, peer: NodeId, first: Index, bytes_max: usize) {
        self.effects.push(Effect::Warm {
            peer,
            first,
            bytes_max,
        });
    }

    pub(super) fn reply(&mut self, token: u64, result: Result<Answer, ApiError>) {
        self.replies.push(Effect::Reply { token, result });
    }

    /// Answers a proposal, here or at the peer that forwarded it.
    pub(super) fn answer(&mut self, origin: Origin, result: Result<Answer, ApiError>) {
        match origin {
            Origin::Local(token) => self.reply(token, result),
            Origin::Peer { node, token } => {
                let result = result.map(|answer| match answer {
                    Answer::Acked(acked) => ForwardAck {
                        index: acked.index,
                        base_offset: acked.base_offset,
                        result: Vec::new(),
                    },
                    Answer::Applied(result) => ForwardAck {
                        result,
                        ..ForwardAck::default()
                    },
                    other => unreachable!("a proposal is answered with {other:?}"),
                });
                self.send(node, Content::ForwardReply { token, result }, Vec::new());
            }
        }
    }

    fn on_tick(&mut self, now: Millis) {
        self.raft.tick(now);
        while let Some(forwarded) = self.forwards.expire(now) {
            self.forward_bytes -= forwarded.bytes;
            self.reply(forwarded.token, Err(ApiError::Timeout));
        }
        while let Some(read) = self.reads.expire(now) {
            self.reply(read.token, Err(ApiError::Timeout));
        }
        while let Some(transfer) = self.transfers.expire(now) {
            self.reply(transfer.token, Err(ApiError::Timeout));
        }
        while let Some(change) = self.changes.expire(now) {
            self.reply(change.token, Err(ApiError::Timeout));
        }
    }

    /// From here on nothing is asserted: not to peers, not to callers.
    pub(super) fn poison(&mut self, reason: String) {
        tracing::error!(
            group = self.config.group,
            reason,
            "this replica is poisoned"
        );
        self.poisoned = Some(reason);
        // Nothing that was decided in this turn may leave either.
        self.effects.clear();
        self.replies.retain(|effect| {
            let Effect::Reply { result, .. } = effect else {
                return false;
            };
            result.is_err()
        });
        while let Some(ticket) = self.pending.cut(0) {
            if let Origin::Local(token) = ticket.origin {
                self.reply(token, Err(ApiError::Unavailable));
            }
        }
    }

    /// A poisoned replica still answers its callers, with a refusal.
    fn refuse(&mut self, input: &Input) {
        match *input {
            Input::Produce { token, .. }
            | Input::Command { token, .. }
            | Input::ReadIndex { token }
            | Input::Transfer { token, .. }
            | Input::ChangeMembership { token, .. } => {
                self.reply(token, Err(ApiError::Unavailable));
            }
            _ => {}
        }
    }
}
