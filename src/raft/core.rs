//! The state of one replica's core, and the table of its inputs.
//!
//! Owns the struct; the rules live in the files named after them. On every walk.
#![allow(clippy::todo, unused_variables, dead_code)]

use super::*;

/// The consensus core of one replica.
#[derive(Debug)]
pub struct Raft {
    config: Config,
}

/// How a leader sees one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Highest index known to be durable on the peer and equal to ours.
    pub match_index: Index,
    /// Next index to send.
    pub next_index: Index,
    /// The peer's own commit index, as it last told.
    pub commit_index: Index,
    /// How entries are being sent.
    pub state: ProgressState,
    /// Bytes sent and not acknowledged.
    pub in_flight_bytes: u64,
    /// When the peer was last heard in this term.
    pub heard_at: Millis,
}

impl Raft {
    /// A replica as it starts: a follower that knows no leader. Emits `SaveBallot` if the log proves a later term.
    pub fn new(config: Config, restored: Restored, now: Millis) -> Raft {
        todo!()
    }

    /// Takes a message from `from`. The frames of an `Append` stay outside; see [`Effect::AppendRemote`].
    pub fn step(&mut self, now: Millis, from: NodeId, message: Message) {
        todo!()
    }

    /// Lets time pass. Call it at [`Raft::next_deadline`]; earlier or later calls do no harm.
    pub fn tick(&mut self, now: Millis) {
        todo!()
    }

    /// When `tick` is due next. `Millis::MAX` if nothing waits for time. May move with every input.
    pub fn next_deadline(&self) -> Millis {
        todo!()
    }

    /// Appends `count` (at least 1) entries to the leader's log and returns the identity of the first; they are
    /// consecutive. The caller stamps and writes the frames and calls [`Raft::durable`] once they are fsynced.
    pub fn propose(&mut self, count: u64) -> Result<LogId, NotLeader> {
        todo!()
    }

    /// The log is fsynced up to and including `id`. `truncations` is the value [`Raft::truncations`] had when the write
    /// was issued: a completion that a truncation has overtaken says nothing about the log as it is now, and is ignored.
    pub fn durable(&mut self, now: Millis, id: LogId, truncations: u64) {
        todo!()
    }

    /// Number of `Truncate` effects so far. Tag each log write with it, and pass the tag to [`Raft::durable`].
    pub fn truncations(&self) -> u64 {
        todo!()
    }

    /// The ballot is fsynced. Releases what waited for it, if it is still the current one.
    pub fn ballot_durable(&mut self, ballot: Ballot) {
        todo!()
    }

    /// What to send next to `peer`, if anything. Call it (and [`Raft::sent`]) until `None`, after every input.
    pub fn next_append(&self, peer: NodeId) -> Option<AppendPlan> {
        todo!()
    }

    /// The shell picked the frames `first ..= last` of the plan, `bytes` long in all. Returns the `Append` to send with them.
    pub fn sent(&mut self, now: Millis, peer: NodeId, last: Index, bytes: u64) -> Message {
        todo!()
    }

    /// Asks for the index a linearizable read must wait for. Answered by `ReadReady` or `ReadFailed` with `token`.
    pub fn read_index(&mut self, now: Millis, token: u64) {
        todo!()
    }

    /// Starts handing leadership to `to`. Proposals are refused until it succeeds, or fails after an election timeout.
    pub fn transfer_leader(&mut self, now: Millis, to: NodeId) -> Result<(), TransferError> {
        todo!()
    }

    /// The target of the transfer under way, if any.
    pub fn transfer_target(&self) -> Option<NodeId> {
        todo!()
    }

    /// Stops leading or campaigning, in the same term.
    pub fn step_down(&mut self, now: Millis) {
        todo!()
    }

    /// The shell removed the entries up to and including `prev` from the log. They must be committed.
    pub fn set_trimmed(&mut self, prev: LogId) {
        todo!()
    }

    /// The connection to `peer` broke: what was in flight may be lost, so its end of the log is probed again.
    pub fn peer_unreachable(&mut self, peer: NodeId) {
        todo!()
    }

    /// The effects since the last call, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        todo!()
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        todo!()
    }
    /// The role now.
    pub fn role(&self) -> Role {
        todo!()
    }
    /// The term now.
    pub fn term(&self) -> Term {
        todo!()
    }
    /// The leader of the term, if known.
    pub fn leader(&self) -> Option<NodeId> {
        todo!()
    }
    /// Last committed index known here; inclusive.
    pub fn commit_index(&self) -> Index {
        todo!()
    }
    /// First index kept; `last_index + 1` if none is.
    pub fn first_index(&self) -> Index {
        todo!()
    }
    /// Last index of the log; inclusive.
    pub fn last_index(&self) -> Index {
        todo!()
    }
    /// Last index fsynced here; inclusive.
    pub fn durable_index(&self) -> Index {
        todo!()
    }
    /// The ballot now; perhaps not yet durable.
    pub fn ballot(&self) -> Ballot {
        todo!()
    }
    /// The membership in force, and the index of its entry.
    pub fn membership(&self) -> (Index, &Membership) {
        todo!()
    }
    /// Term of the entry at `index`; `None` outside the kept log and the entry before it.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        todo!()
    }
    /// A leader's view of `peer`; `None` if this node does not lead or `peer` is no member.
    pub fn progress(&self, peer: NodeId) -> Option<PeerView> {
        todo!()
    }
}
